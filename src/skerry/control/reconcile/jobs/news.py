"""Which jobs and tasks something has just happened to, as this process's writes tell it. A hint that saves reading all
of them again at each step: what it misses is found by the next look at everything."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.model.job import Job, Task
from skerry.model.sandbox import S, Sandbox
from skerry.store.changes import Record
from skerry.store.tasks import Key


class JobNews:
    def __init__(self) -> None:
        self._tasks: set[Key] = set()
        self._jobs: set[str] = set()

    def about(self, record: Record) -> None:
        """Told of every commit."""
        match record:
            case Sandbox() if record.job is not None and record.task is not None:
                self._tasks.add((record.job, record.task))
                if record.state is S.DELETED:
                    self._jobs.add(record.job)
            case Task():
                self._jobs.add(record.job)  # it may be the last one, or leave room for the next
            case Job():
                self._jobs.add(record.id)
            case _:
                pass

    def again(self, keys: Iterable[Key]) -> None:
        """They were not dealt with."""
        self._tasks.update(keys)

    def take_tasks(self) -> set[Key]:
        """Since the last time."""
        taken, self._tasks = self._tasks, set()
        return taken

    def take_jobs(self) -> set[str]:
        taken, self._jobs = self._jobs, set()
        return taken
