"""Whoever comes to one listening socket, each served by a task of its own, up to a number at one time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

FULL_S = 0.5
"""Pause when the program has no file descriptors left: accepting again at once would only burn the processor."""


class Callers:
    def __init__(
        self, listening: socket.socket, serve: Callable[[socket.socket], Coroutine[Any, Any, None]], *, most: int
    ) -> None:
        """`listening` does not block, and is this one's from now on. `serve` gets a socket that does not block, and
        closes it. Beyond `most` at one time whoever comes is let go at once."""
        self._listening = listening
        self._serve = serve
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self) -> None:
        """Until now whoever came waited in the kernel's queue."""
        if self._accepting is None:
            self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> list[asyncio.Task[None]]:
        """Nobody is let in any more and who is in is let go; what is returned has ended when that is done."""
        ending = [*self._tasks, *([self._accepting] if self._accepting is not None else [])]
        for task in ending:
            task.cancel()
        self._listening.close()
        return ending

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                caller, _ = await loop.sock_accept(self._listening)
            except ConnectionError:
                continue
            except OSError:
                await asyncio.sleep(FULL_S)
                continue
            if len(self._tasks) >= self._most:
                caller.close()
                continue
            task = loop.create_task(self._serve(caller))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
