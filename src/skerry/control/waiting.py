"""Wait for an object to reach what its caller wants, woken by this process's writes and by looking now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from skerry.clock import Clock
from skerry.store.store import Store

T = TypeVar("T")

LOOK_EVERY_S = 5.0
"""With one control program every change is told here; this is for the case that none was."""
LOOK_EVERY_S_WITH_OTHERS = 0.25
"""Other control programs on one PostgreSQL write without our being told."""


class Waiter:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.look_every_s = LOOK_EVERY_S_WITH_OTHERS if store.has_other_writers else LOOK_EVERY_S

    async def until(
        self,
        topics: list[str],
        read: Callable[[], Awaitable[T]],
        is_done: Callable[[T], bool],
        wait_s: float,
    ) -> T:
        """What `read` gives once it is done, or when the time is over."""
        deadline_s = self._clock.monotonic_s() + wait_s
        with self._store.changes.watching(*topics) as changed:
            while True:
                changed.clear()
                found = await read()
                left_s = deadline_s - self._clock.monotonic_s()
                if is_done(found) or left_s <= 0:
                    return found
                try:
                    async with asyncio.timeout(min(left_s, self.look_every_s)):
                        await changed.wait()
                except TimeoutError:
                    pass
