"""A stream of objects, one JSON line each, on asyncio: file events, operations, history."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from skerry.client import wire
from skerry.client.transport_async import AsyncStream

T = TypeVar("T")


class AsyncFeed(Generic[T]):
    """Iterate over it; close it or leave its `with` block to stop."""

    def __init__(self, stream: AsyncStream, parse: Callable[[Any], T]) -> None:
        self._stream = stream
        self._parse = parse
        self._lines = wire.Lines()
        self._waiting: deque[Any] = deque()

    async def started(self) -> AsyncFeed[T]:
        """Return once the server says the watch is in place: what happens after this call is not missed."""
        await self._next()
        return self

    async def _next(self) -> Any:
        while not self._waiting:
            chunk = await self._stream.read_some()
            if not chunk:
                return None
            self._waiting.extend(self._lines.feed(chunk))
        return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[T]:
        while (body := await self._next()) is not None:
            if body.get("kind") != "beat":
                yield self._parse(body)

    async def close(self) -> None:
        await self._stream.close()

    async def __aenter__(self) -> AsyncFeed[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
