"""Carry out a plan: every step as soon as what it waits for is so, many at once, each failure on its own.

A thread for each step: they wait for the server nearly all of their time, and the blocking transport saves the import
of an event loop. Nothing is remembered here: whoever is interrupted plans again and goes on where it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.client.transport import Transport
from skerry.environment.kinds.catalog import kind_of
from skerry.environment.kinds.contract import Action, Json, Scene, Step
from skerry.environment.plan import Plan, Ref
from skerry.errors import Failed, SkerryError

AT_ONCE_MAX = 16
"""Steps that ask something of the server at the same time."""
JOIN_EVERY_S = 0.2


class Phase(StrEnum):
    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it waits for has failed


@dataclass
class Progress:
    """One step, as it goes."""

    step: Step
    phase: Phase = Phase.WAITING
    now: str = ""
    """What it is at, in a few words."""
    began_s: float = 0.0
    ended_s: float = 0.0
    provisioned: bool = False
    """Steps ran in it."""
    body: Json | None = None
    """The object as it is now."""
    error: SkerryError | None = None
    defect: Exception | None = None
    """A mistake of ours, which is raised where somebody sees it."""
    over: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: SkerryError) -> None:
        self.error, self.phase, self.now = error, Phase.FAILED, error.say


Told = Callable[[Progress], None]
Finish = Callable[[Step, Json, Callable[[str], None]], bool]
"""After a sandbox runs: its folders and its provisioners. Called with the step, the object, and who is to be told;
says whether a step ran."""
Await = Callable[[str, Json, str], None]
"""Called with a section, an object and a condition: returns when that is true of a sandbox (`healthy`, `completed`), a
service (`healthy`) or a job (`succeeded`, `failed`, `finished`); raises if it cannot come true."""
OF_SANDBOXES, OF_JOBS = ("healthy", "completed"), ("succeeded", "failed", "finished")


class Apply:
    def __init__(
        self, transport: Transport, scene: Scene, plan: Plan, *, tell: Told, finish: Finish, wait_for: Await
    ) -> None:
        self._transport = transport
        self._scene = scene
        self._plan = plan
        self._tell = tell
        self._finish = finish
        self._wait_for = wait_for
        self._room = threading.Semaphore(AT_ONCE_MAX)
        making = [step for step in plan.steps if step.action is not Action.DELETE]
        self.progress: dict[Ref, Progress] = {step.ref: Progress(step) for step in making}

    def run(self) -> list[Progress]:
        """How each step went. What has left the file goes first: its names, addresses and ports may be wanted; but last
        what others of the file may be about to leave."""
        gone = self._deletions(last=False)
        threads = [threading.Thread(target=self._one, args=(one,), daemon=True) for one in self.progress.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # never for good in one call: an interrupt must find its way in
                thread.join(JOIN_EVERY_S)
        for one in self.progress.values():
            if one.defect is not None:
                raise one.defect
        return [*gone, *self.progress.values(), *self._deletions(last=True)]

    def _deletions(self, *, last: bool) -> list[Progress]:
        made: list[Progress] = []
        for step in self._plan.steps:
            if step.action is not Action.DELETE or kind_of(step.section).deleted_last is not last:
                continue
            one = Progress(step)
            made.append(one)
            self._carry_out(one, lambda step=step: kind_of(step.section).delete(self._transport, step.name))
        return made

    def _one(self, one: Progress) -> None:
        try:
            failed = self._await(one)
            if failed:
                one.error = Failed(f"not tried, because of {failed}")
                self._move(one, Phase.SKIPPED, one.error.say)
                return
            self._carry_out(one, lambda: self._act(one))
        finally:
            one.over.set()

    def _await(self, one: Progress) -> str | None:
        """Wait for all that must come first; the key of one that will never be so."""
        for ref, condition in self._plan.waits.get(one.step.ref, {}).items():
            other = self.progress[ref]
            if not other.over.is_set() and one.step.action is not Action.KEEP:
                self._say(one, f"waits for {title(other.step)}{_until(condition)}")
            other.over.wait()
            if other.phase is not Phase.DONE or other.body is None:
                return title(other.step)
            if condition in OF_SANDBOXES or condition in OF_JOBS:
                if condition in OF_JOBS:
                    self._say(one, f"waits for {title(other.step)}{_until(condition)}")
                try:
                    self._wait_for(other.step.section, other.body, condition)
                except SkerryError as error:
                    other.error = other.error or error
                    has = "has not" if condition in OF_JOBS else "is not"
                    return f"{other.step.key}, which {has} {condition} ({error.say})"
        return None

    def _act(self, one: Progress) -> None:
        step, kind = one.step, kind_of(one.step.section)
        with self._room:
            if step.action is Action.CREATE:
                one.body = kind.make(self._transport, step)
            elif step.action is Action.REPLACE:
                one.body = kind.replace(self._transport, step)
            elif step.action is Action.KEEP:
                one.body = step.actual
            else:
                one.body = kind.change(self._transport, step)
            assert one.body is not None
            if step.section == "sandboxes":
                one.provisioned = self._finish(step, one.body, lambda now: self._say(one, now))

    def _carry_out(self, one: Progress, act: Callable[[], object]) -> None:
        one.began_s = time.monotonic()
        self._move(one, Phase.WORKING, _DOING[one.step.action])
        try:
            act()
        except SkerryError as error:
            one.error = error
            self._move(one, Phase.FAILED, error.say)
        except Exception as defect:
            one.defect = defect
            self._move(one, Phase.FAILED, f"an internal error: {defect}")
        else:
            steps_alone = one.provisioned and one.step.action is Action.KEEP
            done = _SUBMITTED if one.step.section == "jobs" else _DONE
            self._move(one, Phase.DONE, "provisioned" if steps_alone else done[one.step.action])

    def _say(self, one: Progress, now: str) -> None:
        one.now = now
        self._tell(one)

    def _move(self, one: Progress, phase: Phase, now: str) -> None:
        one.phase, one.now = phase, now
        if phase is not Phase.WORKING:
            one.ended_s = time.monotonic()
        self._tell(one)


def _until(condition: str) -> str:
    if condition == "made":
        return ""
    return f" to have {condition}" if condition in OF_JOBS else f" to be {condition}"


def title(step: Step) -> str:
    """A sandbox by its key; what else the file has may be called the same."""
    return step.key if step.section == "sandboxes" else f"{kind_of(step.section).noun} {step.key}"


_DOING: Mapping[Action, str] = {
    Action.KEEP: "looks",
    Action.CREATE: "creates",
    Action.UPDATE: "changes",
    Action.RESTART: "restarts",
    Action.REPLACE: "replaces",
    Action.START: "starts",
    Action.DELETE: "deletes",
}
_DONE: Mapping[Action, str] = {
    Action.KEEP: "unchanged",
    Action.CREATE: "created",
    Action.UPDATE: "changed",
    Action.RESTART: "restarted",
    Action.REPLACE: "replaced",
    Action.START: "started",
    Action.DELETE: "deleted",
}
_SUBMITTED: Mapping[Action, str] = {**_DONE, Action.CREATE: "submitted", Action.REPLACE: "submitted anew"}
"""Of a job, which is another one each time."""
