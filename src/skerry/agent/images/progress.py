"""How far an image is: what the tools do not tell, measured from outside, and work that several callers share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Step(StrEnum):
    RESOLVE = "resolve"
    DOWNLOAD = "download"
    UNPACK = "unpack"
    IMPORT = "import"
    CONVERT = "convert"


Progress = Callable[[Step, int | None, int | None], None]
"""(step, bytes done, bytes in all); None where nobody knows."""


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below; files that vanish meanwhile count as none."""
    size_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size_bytes += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return size_bytes


async def watched(work: Coroutine[Any, Any, T], look: Callable[[], Awaitable[None]], every_s: float) -> T:
    """The result of `work`, with `look` called meanwhile; what `look` raises ends the work."""
    task = asyncio.create_task(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=every_s)
            if done:
                return task.result()
            await look()
    finally:
        await ended(task)


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has cleaned up; what it raises on the way is nobody's any more."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


@dataclass
class _Shared(Generic[T]):
    task: asyncio.Task[T]
    listeners: list[Progress] = field(default_factory=list[Progress])
    last: tuple[Step, int | None, int | None] | None = None

    def tell(self, step: Step, done_bytes: int | None, total_bytes: int | None) -> None:
        self.last = (step, done_bytes, total_bytes)
        for listener in self.listeners:
            listener(step, done_bytes, total_bytes)


class SharedWork(Generic[T]):
    """Callers that ask for the same thing at one time get one piece of work; it stops when the last of them leaves.

    Its tasks stand outside any TaskGroup because none of the callers owns them; each is awaited by whoever leaves last.
    """

    def __init__(self) -> None:
        self._going: dict[str, _Shared[T]] = {}

    async def join(self, key: str, work: Callable[[Progress], Coroutine[Any, Any, T]], progress: Progress) -> T:
        shared = self._going.get(key)
        if shared is None:
            shared = self._start(key, work)
        elif shared.last is not None:
            progress(*shared.last)
        shared.listeners.append(progress)
        try:
            await asyncio.wait({shared.task})
            return shared.task.result()
        finally:
            shared.listeners.remove(progress)
            if not shared.listeners and not shared.task.done():
                self._forget(key, shared)
                await ended(shared.task)

    async def close(self) -> None:
        """End all of it; whoever waits gets CancelledError."""
        for shared in list(self._going.values()):
            await ended(shared.task)

    def _start(self, key: str, work: Callable[[Progress], Coroutine[Any, Any, T]]) -> _Shared[T]:
        async def begin() -> T:
            return await work(shared.tell)

        shared: _Shared[T] = _Shared(asyncio.create_task(begin()))
        shared.task.add_done_callback(lambda _: self._forget(key, shared))
        self._going[key] = shared
        return shared

    def _forget(self, key: str, shared: _Shared[T]) -> None:
        if self._going.get(key) is shared:
            del self._going[key]
