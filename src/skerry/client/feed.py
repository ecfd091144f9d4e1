"""A stream of objects, one JSON line each, blocking: file events, operations, history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from skerry.client import wire
from skerry.client.transport import Stream

T = TypeVar("T")


class Feed(Generic[T]):
    """Iterate over it; close it or leave its `with` block to stop."""

    def __init__(self, stream: Stream, parse: Callable[[Any], T]) -> None:
        self._stream = stream
        self._parse = parse
        self._lines = wire.Lines()
        self._waiting: deque[Any] = deque()

    def started(self) -> Feed[T]:
        """Return once the server says the watch is in place: what happens after this call is not missed."""
        self._next()
        return self

    def _next(self) -> Any:
        while not self._waiting:
            chunk = self._stream.read_some()
            if not chunk:
                return None
            self._waiting.extend(self._lines.feed(chunk))
        return self._waiting.popleft()

    def __iter__(self) -> Iterator[T]:
        while (body := self._next()) is not None:
            if body.get("kind") != "beat":
                yield self._parse(body)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Feed[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
