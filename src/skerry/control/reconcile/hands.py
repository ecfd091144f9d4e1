"""Work on many objects at once, each in a task of its own, so that a slow one holds up nobody else.

A step looks at what is owed and gives each object to a free hand; a later step skips what is in hand or rests after a
failure. Nothing is remembered that matters: after a crash the same objects are owed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skerry.clock import Clock
from skerry.control.wakeups import Wakeup
from skerry.errors import SkerryError, Unavailable
from skerry.telemetry import Log

PAUSE_FIRST_S = 0.1
PAUSE_UNREACHABLE_S_MAX = 2.0
"""Asking a socket that nobody listens on costs nothing, and its agent is back within seconds."""
PAUSE_S_MAX = 15.0
RESTS_MAX = 4096
NO_WINDOW = 2**63
"""Of a step that reads all there is."""
TIMER_SLACK_S = 0.01
"""The loop's timers are whole milliseconds and may be early: woken then, a step would find the rest not yet over."""


@dataclass
class _Rest:
    version: int
    until_s: float
    pause_s: float
    answered_since_s: float | None
    """Since when the other side has answered with failures; None while it did not answer at all."""


class Hands:
    def __init__(self, count: int, *, wakeup: Wakeup, clock: Clock, log: Log, group: asyncio.TaskGroup) -> None:
        self._count = count
        self._wakeup = wakeup
        self._clock = clock
        self._log = log
        self._group = group
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, _Rest] = {}
        self._full = False
        """Whether every hand was taken: then objects may wait unseen, and the first free hand looks again."""
        self._left = NO_WINDOW
        """Objects that the step that looked last may still give: only at 0 may more wait than it has read."""

    @property
    def window(self) -> int:
        """How many objects a step need read besides those in hand: resting ones must not hide those behind them. Asked
        once a step, before it reads."""
        free = self._count - len(self._busy)
        self._left = free + len(self._rests) if free else 0
        return self._left

    def busy(self) -> list[str]:
        """Those in hand, which a step can leave out."""
        return list(self._busy)

    def look_again(self) -> None:
        """The last thing that a work does which was overtaken: its object is free again before the next step reads."""
        self._wakeup.set()

    async def finished(self, key: str) -> None:
        """Until this one is not in hand."""
        if (task := self._busy.get(key)) is not None:
            await asyncio.wait([task])

    async def drop(self, key: str) -> None:
        """Cancel the work on this one, and wait until it has let go."""
        if (task := self._busy.get(key)) is not None:
            task.cancel()
            await asyncio.wait([task])

    def answered_for_s(self, key: str) -> float:
        """How long the other side has answered this one's attempts with failures. Silence does not count."""
        rest = self._rests.get(key)
        if rest is None or rest.answered_since_s is None:
            return 0.0
        return self._clock.monotonic_s() - rest.answered_since_s

    def take(self, key: str, work: Callable[[], Awaitable[None]], version: int = 0) -> bool:
        """False when it is in hand already, rests, or no hand is free. `version` counts what is wanted of it: a rest
        after a failure is over when something new is."""
        self._left -= 1
        rest = self._rests.get(key)
        if rest is not None and rest.version != version:
            del self._rests[key]
            rest = None
        if key in self._busy or (rest is not None and rest.until_s > self._clock.monotonic_s()):
            return False
        if len(self._busy) >= self._count:
            return False
        self._busy[key] = self._group.create_task(self._do(key, work, version))
        self._full = self._full or len(self._busy) == self._count
        if self._left <= 0 and not self._full:
            self._wakeup.set()  # a hand became free while they were read: more may wait than were asked for
        return True

    def rest(self, key: str, for_s: float, version: int) -> None:
        """Nothing is to be done about this one for so long, unless something new is wanted of it."""
        rest, now_s = self._rests.get(key), self._clock.monotonic_s()
        self._left -= 1
        if key in self._busy or (rest is not None and rest.version == version and rest.until_s > now_s):
            return
        self._rests[key] = _Rest(version, now_s + for_s, PAUSE_FIRST_S, None)
        asyncio.get_running_loop().call_later(for_s + TIMER_SLACK_S, self._wakeup.set)
        self._wakeup.set()  # it may have hidden others from this step

    async def close(self) -> None:
        """Cancel what is in hand. Whether it took effect the next control program finds out by asking again."""
        for task in self._busy.values():
            task.cancel()
        await self.settle()

    async def settle(self) -> None:
        """Until nothing is in hand."""
        while self._busy:
            await asyncio.wait(list(self._busy.values()))

    async def _do(self, key: str, work: Callable[[], Awaitable[None]], version: int) -> None:
        try:
            await work()
            self._rests.pop(key, None)
        except SkerryError as error:
            self._rest(key, error, version)
        except Exception as error:
            # A defect in the work on one object must not stop the work on all others.
            self._log.error("reconciler failed", target=key, because=repr(error))
            self._rest(key, SkerryError("an error of ours", because=repr(error)), version)
        finally:
            del self._busy[key]
            if self._full:
                self._full = False
                self._wakeup.set()

    def _rest(self, key: str, error: SkerryError, version: int) -> None:
        now_s = self._clock.monotonic_s()
        last = self._rests.get(key)
        if len(self._rests) >= RESTS_MAX:  # of objects that are owed nothing any more
            self._rests = {each: rest for each, rest in self._rests.items() if rest.until_s > now_s}
        silent = isinstance(error, Unavailable)
        pause_s = min(
            PAUSE_FIRST_S if last is None else last.pause_s * 2, PAUSE_UNREACHABLE_S_MAX if silent else PAUSE_S_MAX
        )
        since_s = last.answered_since_s if last is not None else None
        if not silent and since_s is None:
            since_s = now_s
        self._rests[key] = _Rest(version, now_s + pause_s, pause_s, since_s)
        self._log.info("will try again", target=key, say=error.say, because=error.because, pause_s=pause_s)
        asyncio.get_running_loop().call_later(pause_s + TIMER_SLACK_S, self._wakeup.set)
