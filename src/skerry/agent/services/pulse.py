"""Looks at the health of a sandbox itself, by the ways and the rules of a service's, whose process is its main one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from skerry.agent.services import decide
from skerry.agent.services.crew import Means
from skerry.agent.services.kept import Kept
from skerry.model.guest_service import (
    GuestServiceSpec,
    GuestServiceState,
    GuestServiceStatus,
    HealthState,
    HealthStatus,
)
from skerry.model.restart import Restart
from skerry.model.sandbox import SandboxSpec

NAME = "main"
GiveUp = Callable[[str], Awaitable[None]]


def looked_at(spec: SandboxSpec) -> GuestServiceSpec | None:
    """The sandbox as the service that is looked at; None where its health is not declared."""
    if spec.health is None:
        return None
    return GuestServiceSpec(command=[NAME], port=spec.health.port, health=spec.health, restart=Restart.ALWAYS)


class Pulse:
    def __init__(self, sandbox_id: str, spec: GuestServiceSpec, means: Means, give_up: GiveUp) -> None:
        """`means.kept` is its own, apart from what is kept of services."""
        self.spec = spec
        self._sandbox_id = sandbox_id
        self._means = means
        self._give_up = give_up
        self._status = GuestServiceStatus(name=NAME, state=GuestServiceState.STARTING, since=means.clock.now())
        self._began_s = means.clock.monotonic_s()
        self._missed = 0
        self._loop: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._say()
        self.resume()

    def adopt(self, *, resting: bool) -> None:
        """Go on where an agent that died has left off."""
        kept = self._means.kept.read(self._sandbox_id).get(NAME)
        if kept is not None:
            self._status = kept.status
            self._began_s -= max(0.0, (self._means.clock.now() - kept.status.since).total_seconds())
        if not resting:
            self.resume()

    def resume(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._live())

    async def rest(self) -> None:
        """No look is under way any more, nor is one begun."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    @property
    def status(self) -> HealthStatus:
        found = self._status
        return HealthStatus(state=HealthState(found.state.value), reason=found.reason, since=found.since)

    async def _live(self) -> None:
        while (wait_s := decide.look_again_s(self.spec, self._status.state)) is not None:
            looks = self.spec.looks
            assert looks is not None, "it is declared"
            await asyncio.sleep(wait_s)
            fault = None
            try:
                fault = await self._means.looks.fault(self._sandbox_id, self.spec, looks)
            except OSError as error:
                fault = f"it cannot be looked at: {error.strerror}"
            self._missed = 0 if fault is None else self._missed + 1
            ran_s = self._means.clock.monotonic_s() - self._began_s
            before = self._status.state
            state = decide.after_look(self.spec, before, well=fault is None, missed=self._missed, ran_s=ran_s)
            self._set(state, fault if state is GuestServiceState.UNHEALTHY else None)
            if state is GuestServiceState.UNHEALTHY and looks.restart:
                with contextlib.suppress(asyncio.CancelledError):
                    # Apart from this loop, which ends with the sandbox's processes.
                    await asyncio.shield(self._give_up(self._sandbox_id))
                return

    def _set(self, state: GuestServiceState, reason: str | None) -> None:
        was = self._status
        since = was.since if state is was.state else self._means.clock.now()
        self._status = was.model_copy(update={"state": state, "reason": reason, "since": since})
        if self._status != was:
            self._say()

    def _say(self) -> None:
        self._means.kept.write(self._sandbox_id, {NAME: Kept(status=self._status, spec=self.spec)})
        self._means.tell(self._sandbox_id)
