"""`client.jobs` and `Job`: work that ends, to be submitted and followed by a program. Blocking.

job = client.jobs.submit("debian:12", "python3 train.py --lr {lr}", sweep={"lr": [0.1, 0.01]}, retry=3)
job.wait(check=True)
print(job.logs(index=1))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client import flows, parse
from skerry.client.calls import jobs as calls
from skerry.client.calls.jobs import JobOptions
from skerry.errors import Failed

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.job import Job as Record
    from skerry.model.job import JobState, Progress, Task


class Jobs:
    """A job is named by its name, its id, or the beginning of its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(self, image: str, command: str | Sequence[str], **options: Unpack[JobOptions]) -> Job:
        """Put it into its queue. Text goes through /bin/sh; a list is run as it is."""
        return Job(self, self._transport.send(calls.submit(calls.job_body(image, command, options))))

    def connect(self, ref: str) -> Job:
        return Job(self, self.get(ref))

    def get(self, ref: str) -> Record:
        return self._transport.send(calls.get(ref))

    def list(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> list[Job]:
        """Those that match all of what is given; `name` is a prefix."""
        items = self._transport.run(
            flows.gather(
                lambda token: calls.list_page(
                    state=state, queue=queue, labels=labels, name=name, limit=flows.PAGE_ITEMS, page_token=token
                )
            )
        )
        return [Job(self, parse.job(item)) for item in items]

    def wait(self, ref: str, *, timeout_s: float | None = None, check: bool = False) -> Record:
        """Until it has ended, however it did. `check` raises Failed unless it succeeded; DeadlineExceeded leaves it
        running."""
        flow = flows.end(lambda wait_s: calls.get(ref, wait_s), calls.FINAL, timeout_s=timeout_s)
        return checked(parse.job(self._transport.run(flow)), check)

    def cancel(self, ref: str, reason: str = "", *, indices: Sequence[int] = ()) -> Record:
        """Stop what runs of it and start no more; `indices`: only these tasks. What is running has `grace_s` to end."""
        return self._transport.send(calls.cancel(ref, reason, indices))

    def delete(self, ref: str) -> None:
        """What is known of it, and its logs. Raises Conflict before it has ended."""
        self._transport.json(calls.delete(ref))

    def tasks(self, ref: str, *, state: str | None = None) -> Sequence[Task]:
        items = self._transport.run(
            flows.gather(lambda token: calls.tasks_page(ref, state=state, limit=flows.PAGE_ITEMS, page_token=token))
        )
        return [parse.task(item) for item in items]

    def task(self, ref: str, index: int = 0) -> Task:
        return self._transport.send(calls.task(ref, index))

    def logs(
        self, ref: str, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> str:
        """What a task printed, of a gang the member `rank`. `attempt` None: its newest try."""
        call = calls.logs(ref, index, rank=rank, attempt=attempt, tail=tail)
        with self._transport.stream(call) as stream:
            return b"".join(stream).decode(errors="replace")

    def follow_logs(
        self, ref: str, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> Iterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        call = calls.logs(ref, index, rank=rank, attempt=attempt, follow=True, tail=tail)
        with self._transport.stream(call) as stream:
            for chunk in stream:
                yield decoder.decode(chunk)


class Job:
    """Made by `submit`, `connect` and `list`."""

    def __init__(self, jobs: Jobs, record: Record) -> None:
        self.id = record.id
        self._jobs = jobs
        self._record = record

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def state(self) -> JobState:
        """As it is now; asks the server, as `progress` does."""
        return self.info().state

    @property
    def progress(self) -> Progress | None:
        """How many of its tasks are in which state."""
        return self.info().progress

    def info(self) -> Record:
        """The whole record, as it is now."""
        return self._keep(self._jobs.get(self.id))

    def wait(self, *, timeout_s: float | None = None, check: bool = False) -> Record:
        return self._keep(self._jobs.wait(self.id, timeout_s=timeout_s, check=check))

    def cancel(self, reason: str = "", *, indices: Sequence[int] = ()) -> Record:
        return self._keep(self._jobs.cancel(self.id, reason, indices=indices))

    def delete(self) -> None:
        self._jobs.delete(self.id)

    def tasks(self, *, state: str | None = None) -> Sequence[Task]:
        return self._jobs.tasks(self.id, state=state)

    def task(self, index: int = 0) -> Task:
        return self._jobs.task(self.id, index)

    def logs(self, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None) -> str:
        return self._jobs.logs(self.id, index, rank=rank, attempt=attempt, tail=tail)

    def follow_logs(
        self, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> Iterator[str]:
        return self._jobs.follow_logs(self.id, index, rank=rank, attempt=attempt, tail=tail)

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.id}>"

    def _keep(self, record: Record) -> Record:
        self._record = record
        return record


def checked(record: Record, check: bool) -> Record:
    """Raises Failed with its reason if it is to be `check`ed and has not succeeded."""
    if check and record.state != "succeeded":
        raise Failed(f"{record.name} {record.state}: {record.reason or 'the server gives no reason'}")
    return record
