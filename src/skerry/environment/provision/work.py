"""The steps of one sandbox, run in order until one fails; what ran is written down after each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from skerry.client.calls import sandboxes
from skerry.client.result import CommandResult
from skerry.client.transport import Transport
from skerry.environment.provision import checkpoints, copies, record, scripts
from skerry.environment.provision.events import Event, Report
from skerry.environment.provision.guest import Guest, Stream
from skerry.environment.provision.logs import StepLog, log_place
from skerry.environment.provision.steps import Outlook, Step, changed, due, steps_of
from skerry.environment.trees.local import read_real, real_place
from skerry.errors import Failed, SkerryError

FILE_BYTES_MAX = 16 * 1024 * 1024
"""Of a script or playbook."""


class StepFailed(Failed):
    """A step of `member` failed; those after it did not run. `log` has what it printed."""

    def __init__(self, member: str, step: str, why: str, log: Path, exit_code: int | None = None) -> None:
        super().__init__(f"{member}: step {step} failed: {why}; what it printed is in {log}")
        self.member = member
        self.step = step
        self.exit_code = exit_code
        self.log = log


class Outcome(NamedTuple):
    ran: list[str]
    skipped: list[str]
    """Steps of `once` that had run."""
    changed: list[str]
    """Of these, those that are another step now than the one that ran."""
    checkpoint: str | None
    """Id of the one that was taken."""


def pending(transport: Transport, ref: str, machine: Mapping[str, Any], folder: Path) -> Outlook:
    """What `run` would do, without waking a sandbox that sleeps."""
    steps = steps_of(machine, lambda source: _content(folder, source))
    return _outlook(steps, record.read(transport, ref, wake=False))


def fresh_steps(machine: Mapping[str, Any], folder: Path) -> list[Step]:
    """Those that a new disk would have run on it."""
    return due(steps_of(machine, lambda source: _content(folder, source)), ())


def run(
    transport: Transport,
    ref: str,
    member: str,
    machine: Mapping[str, Any],
    folder: Path,
    *,
    only: Sequence[str] = (),
    everything: bool = False,
    report: Report,
    environ: Mapping[str, str] = os.environ,
) -> Outcome:
    """Run the steps that are due, then take the checkpoint that `reset` goes back to. Raises StepFailed at the first
    that fails; called again, it goes on there. The sandbox must run."""
    steps = steps_of(machine, lambda source: _content(folder, source))
    kept = record.read(transport, ref)
    if kept.damaged:
        report(Event("note", member, "", kept.damaged))
    wanted = due(steps, kept.done, only, everything)
    skipped = [] if only else [step.name for step in steps if step.when == "once" and step not in wanted]
    other = [name for name in changed(steps, kept.done) if name in skipped]
    for name in skipped:
        told = f"has changed since it ran: `skerry provision {member} --only {name}` runs it" if name in other else ""
        report(Event("skipped", member, name, told))
    was_fresh = kept.fresh
    work = _Work(Guest(transport, ref), member, folder, environ, report)
    for step in wanted:
        try:
            work.do(step)
        except StepFailed:
            kept.failed = step.name
            with suppress(SkerryError):  # it may have failed because nobody answers
                record.write(transport, ref, kept)
            raise
        if step.when == "once":
            kept.step_done(step.name, step.digest)
            record.write(transport, ref, kept)
    checkpoint = None
    if was_fresh or any(step.when == "once" for step in wanted):
        if kept.fresh:
            record.write(transport, ref, kept)
        checkpoint = str(checkpoints.take(transport, ref)["id"])
    return Outcome([step.name for step in wanted], skipped, other, checkpoint)


def _outlook(steps: Sequence[Step], kept: record.Record) -> Outlook:
    wanted = due(steps, kept.done)
    resumes = kept.failed if any(step.name == kept.failed for step in wanted) else None
    return Outlook(wanted, changed(steps, kept.done), resumes, kept.fresh)


def _content(folder: Path, source: str) -> bytes:
    return read_real(real_place(folder, source), FILE_BYTES_MAX)


class _Work:
    """One step after the other in one sandbox."""

    def __init__(self, guest: Guest, member: str, folder: Path, environ: Mapping[str, str], report: Report) -> None:
        self._guest = guest
        self._member = member
        self._folder = folder
        self._environ = environ
        self._report = report

    def do(self, step: Step) -> None:
        """Raises StepFailed, and as they are the errors of a server that is not there."""
        began = time.monotonic()
        self._report(Event("began", self._member, step.name))
        why = result = None
        with StepLog(self._folder, self._member, step.name) as log:

            def on_line(line: str, stream: Stream) -> None:
                log.write(line)
                self._report(Event("line", self._member, step.name, line, stream))

            try:
                result = self._ways()[step.kind](step, on_line)
                why = _failure(result)
            except SkerryError as error:
                why = error.say
                log.write(why)
        seconds = time.monotonic() - began
        if why is None:
            self._report(Event("ended", self._member, step.name, seconds=seconds))
            return
        self._report(Event("failed", self._member, step.name, why, seconds=seconds))
        place = log_place(self._folder, self._member, step.name)
        raise StepFailed(self._member, step.name, why, place, result.exit_code if result else None)

    def _ways(self) -> dict[str, Callable[[Step, Any], CommandResult]]:
        return {
            "user-data": self._user_data,
            "run": lambda step, on_line: scripts.run_text(self._guest, step, step.body["run"].encode(), on_line),
            "script": self._script,
            "copy": self._copy,
            "ansible": self._ansible,
        }

    def _user_data(self, step: Step, on_line: Any) -> CommandResult:
        sandbox: dict[str, Any] = self._guest.transport.json(sandboxes.get(self._guest.ref))
        return scripts.run_user_data(self._guest, step, sandbox, on_line)

    def _script(self, step: Step, on_line: Any) -> CommandResult:
        return scripts.run_text(self._guest, step, _content(self._folder, step.body["script"]), on_line)

    def _copy(self, step: Step, on_line: Any) -> CommandResult:
        copies.copy(self._guest, step.body["copy"], self._folder, on_line)
        return CommandResult(0, "", "")

    def _ansible(self, step: Step, on_line: Any) -> CommandResult:
        from skerry.environment.provision import ansible  # what it needs takes long to import

        return ansible.play(self._guest, self._member, step.body, self._folder, self._environ, on_line)


def _failure(result: CommandResult) -> str | None:
    if result.timed_out:
        return "it took longer than its timeout"
    if result.oom:
        return "the sandbox ran out of memory"
    return None if result.exit_code == 0 else f"exit {result.exit_code}"
