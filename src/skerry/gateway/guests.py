"""Connections to sandboxes: one that was just used, or a new one through the agent, which wakes whoever sleeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skerry.errors import Conflict, Failed, Invalid, NotFound, SkerryError, Unavailable
from skerry.gateway.door import Visit
from skerry.gateway.guest import Asleep, Guest
from skerry.gateway.limits import Held, WakeLimits

KEPT_S = 0.8
"""Less than the shortest idle time: a connection used so recently leads to a sandbox that is awake."""
KEPT_PER_PORT = 32
KEPT_MAX = 1024
OPEN_S_MAX = 60.0
"""Longer than the agent waits for a sandbox to wake (30 s) and for its port to listen (20 s): it says which it was."""
AGENT_AWAY_S_MAX = 10.0
"""A caller is held while the agent is started again; that takes about a second."""
AGENT_AGAIN_S = 0.1

Place = tuple[str, int]


class Guests:
    def __init__(self, streams_socket: Path, limits: WakeLimits, held: Held) -> None:
        self._socket = str(streams_socket)
        self._limits = limits
        self._held = held
        self._kept: dict[Place, list[tuple[float, Guest]]] = {}
        self._count = 0
        self._waking: dict[str, int] = {}
        """Sandboxes that a stranger's request wakes just now, with how many wait: the second is not counted."""

    def used(self, visit: Visit) -> Guest | None:
        """One that was used a moment ago, for a request that may be sent twice should it turn out to be closed."""
        if visit.probe:  # what goes through that one counts
            return None
        kept = self._kept.get((visit.route.id, visit.port))
        oldest_s = asyncio.get_running_loop().time() - KEPT_S
        while kept:
            at_s, guest = kept.pop()
            self._count -= 1
            if at_s >= oldest_s and guest.is_reusable:
                return guest
            guest.close()
        return None

    def keep(self, visit: Visit, guest: Guest) -> None:
        kept = self._kept.setdefault((visit.route.id, visit.port), [])
        if visit.probe or not guest.is_reusable or len(kept) >= KEPT_PER_PORT or self._count >= KEPT_MAX:
            guest.close()
            return
        guest.release()
        kept.append((asyncio.get_running_loop().time(), guest))
        self._count += 1

    def sweep(self) -> None:
        """Let go of those that nobody used again; called every now and then."""
        oldest_s = asyncio.get_running_loop().time() - KEPT_S
        for place, kept in list(self._kept.items()):
            stay = [(at_s, guest) for at_s, guest in kept if at_s >= oldest_s and not guest.lost]
            for _, guest in [each for each in kept if each not in stay]:
                guest.close()
            self._count -= len(kept) - len(stay)
            if stay:
                self._kept[place] = stay
            else:
                del self._kept[place]

    async def open(self, visit: Visit, client: str) -> Guest:
        """Raises Unavailable with why nobody answers there, LimitReached for a stranger who wakes too often."""
        sandbox_id = visit.route.id
        with self._held.one(sandbox_id):
            if visit.probe:
                return await self._probe(visit)
            if visit.known:
                return await self._connect(visit, wake=True)
            try:
                return await self._connect(visit, wake=sandbox_id in self._waking)
            except Asleep:
                if sandbox_id not in self._waking:
                    self._limits.take(sandbox_id, client)
            self._waking[sandbox_id] = self._waking.get(sandbox_id, 0) + 1
            try:
                return await self._connect(visit, wake=True)
            finally:
                self._waking[sandbox_id] -= 1
                if not self._waking[sandbox_id]:
                    del self._waking[sandbox_id]

    async def _probe(self, visit: Visit) -> Guest:
        try:
            return await self._connect(visit, wake=False)
        except Asleep:
            say = f"sandbox {visit.route.name} is asleep, and a probe does not wake it"
            raise Unavailable(say, retry_after_s=1) from None

    async def _connect(self, visit: Visit, *, wake: bool) -> Guest:
        guest = await self._to_agent()
        try:
            guest.ask(visit.route.id, visit.port, wake=wake, counts=not visit.probe)
            async with asyncio.timeout(OPEN_S_MAX):
                await guest.connected
        except TimeoutError:
            guest.abort()
            raise Unavailable(
                f"sandbox {visit.route.name} did not answer in time; try again", retry_after_s=5
            ) from None
        except SkerryError as error:
            guest.abort()
            raise _in_words(error, visit) from None
        except BaseException:
            guest.abort()
            raise
        return guest

    async def _to_agent(self) -> Guest:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + AGENT_AWAY_S_MAX
        while True:
            try:
                _, guest = await loop.create_unix_connection(Guest, self._socket)
                return guest
            except OSError as error:
                if loop.time() >= deadline_s:
                    say = "the agent of this machine does not answer; try again"
                    raise Unavailable(say, because=repr(error), retry_after_s=5) from None
            await asyncio.sleep(AGENT_AGAIN_S)


def _in_words(error: SkerryError, visit: Visit) -> SkerryError:
    """What the agent says, with the name that the caller knows."""
    route = visit.route
    match error:
        case Conflict() | NotFound():
            state = route.state.value
            say = f"sandbox {route.name} does not run"
            hint = f"; start it: skerry start {route.name}" if state in ("stopped", "failed") else ""
            return Unavailable(say + hint, because=error.say, retry_after_s=1)
        case Unavailable():
            return Unavailable(
                error.say.replace("the sandbox", f"sandbox {route.name}"), because=error.because, retry_after_s=1
            )
        case Invalid():
            return Failed("the agent of this machine did not understand the gateway", because=error.say)
        case _:
            return error
