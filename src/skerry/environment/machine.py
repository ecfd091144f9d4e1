"""A sandbox of the file once it runs: its folders are copied, its steps run, its health is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.client import flows
from skerry.client.calls import sandboxes as calls
from skerry.client.transport import Transport
from skerry.environment.apply import AT_ONCE_MAX, Progress
from skerry.environment.kinds.contract import Action, Json, Scene, Step
from skerry.environment.kinds.jobs import wait_for_end
from skerry.environment.kinds.sandboxes import is_complete
from skerry.environment.kinds.services import wait_until_it_serves
from skerry.environment.plan import Plan
from skerry.errors import Failed, SkerryError
from skerry.model.standing import Wish, standing

if TYPE_CHECKING:
    from skerry.environment.provision import Event, Report

JOIN_EVERY_S = 0.1
Output = Callable[[str, str], None]
"""Told of each line that a step prints: member, text."""


class Finisher:
    """What `up` does with each sandbox after it is as declared. Called from a thread for each."""

    def __init__(
        self,
        transport: Transport,
        scene: Scene,
        environ: Mapping[str, str],
        *,
        provisioned: bool = True,
        again: bool = False,
        only: Sequence[str] = (),
        output: Output,
    ) -> None:
        self._transport = transport
        self._scene = scene
        self._environ = environ
        self._provisioned = provisioned
        self._again = again
        self._only = only
        self._output = output

    def finish(self, step: Step, body: Json, now: Callable[[str], None]) -> bool:
        """Whether a step ran."""
        machine = self._scene.section("sandboxes")[step.key]
        if is_complete(body):
            return False  # it has done what it was for, and is not started again for its folders
        report = self._report(now)
        at = (self._transport, body["id"], step.key, machine, self._scene.folder)
        if _copied(machine):
            from skerry.environment import folders  # not where nothing is copied: an `up` without changes is quick

            now("copies its folders")
            folders.sync(*at, report)
        if self._provisioned and (machine["provision"] or machine["user_data"] or _copied(machine)):
            return self._provision(at, step, report)
        return False

    def _provision(self, at: tuple[Transport, str, str, Json, Path], step: Step, report: Report) -> bool:
        from skerry.environment import provision

        transport, ref, _, machine, folder = at
        if step.action is Action.KEEP and not self._again and not self._only:
            outlook = provision.pending(transport, ref, machine, folder)
            if not outlook.due and not outlook.fresh:
                return False  # one that sleeps sleeps on
        again, only = self._again, self._only
        return bool(provision.run(*at, only=only, everything=again, report=report, environ=self._environ).ran)

    def _report(self, now: Callable[[str], None]) -> Report:
        def told(event: Event) -> None:
            if event.kind == "line":
                self._output(event.member, event.line)
            elif event.kind == "began":
                now(f"runs {event.step}")
            elif event.kind in ("note", "skipped") and event.line:
                self._output(event.member, f"{event.step}: {event.line}" if event.step else event.line)

        return told

    def wait_until_healthy(self, ended: Sequence[Progress]) -> None:
        """All that have something to be healthy by; what is wrong is written to each."""
        waiting = [
            threading.Thread(target=self._wait_for_one, args=(one,), daemon=True)
            for one in ended
            if one.step.section == "sandboxes" and one.body is not None and one.error is None
        ]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            while thread.is_alive():
                thread.join(JOIN_EVERY_S)

    def _wait_for_one(self, one: Progress) -> None:
        assert one.body is not None
        spec = one.body["spec"]
        if not spec["services"] and not spec["health"]:
            return
        try:
            wait_for(self._transport, "sandboxes", one.body, "healthy")
        except SkerryError as error:
            one.fail(error)


def due_steps(transport: Transport, scene: Scene, plan: Plan) -> dict[str, list[str]]:
    """Sandbox by its key -> names of the steps that `up` would run, for those that have any. Nobody is woken."""
    machines = scene.section("sandboxes")
    having = [
        step
        for step in plan.steps
        if step.section == "sandboxes"
        and step.action is not Action.DELETE
        and (machines[step.key]["provision"] or machines[step.key]["user_data"])
    ]
    if not having:
        return {}
    from skerry.environment import provision

    def due(step: Step) -> list[str]:
        machine = machines[step.key]
        if step.actual is None or step.action is Action.REPLACE:
            return [one.name for one in provision.fresh_steps(machine, scene.folder)]
        outlook = provision.pending(transport, step.actual["id"], machine, scene.folder)
        return [one.name for one in outlook.due]

    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        found = dict(zip((step.key for step in having), pool.map(due, having), strict=True))
    return {key: names for key, names in found.items() if names}


def _copied(machine: Json) -> bool:
    return any(folder["sync"] != "bind" for folder in machine["folders"])


def wait_for(
    transport: Transport, section: str, body: Json, condition: str, timeout_s: float = flows.TIMEOUT_S
) -> None:
    """Until a sandbox is `healthy` or `completed`, a service can serve, or a job has ended so. Raises Failed when that
    cannot be any more, DeadlineExceeded."""
    if section == "jobs":
        wait_for_end(transport, body, condition)
        return
    if section == "services":
        wait_until_it_serves(transport, body, timeout_s)
        return
    until = Wish.HEALTHY if condition == "healthy" else Wish.STOPPED
    now = transport.run(
        flows.reach(lambda wait_s: calls.wait(body["id"], until.value, wait_s), until.value, timeout_s=timeout_s)
    )
    if condition == "completed" and not is_complete(now):
        raise Failed(f"{now['name']} did not complete: {standing(now).reason}")
