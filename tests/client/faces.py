"""Every kind of client behind one face, so that one set of tests holds for all: an awaitable is simply waited for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any


class Waited:
    """Stands before an object of the async SDK and makes each of its methods blocking."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self._inner, name))

    def __iter__(self) -> Iterator[Any]:
        return self._each(self._inner.__aiter__())

    def __enter__(self) -> Waited:
        self._loop.run_until_complete(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._inner.__aexit__(kind, error, trace))

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self._plain(self._loop.run_until_complete(anext(items)))
        except StopAsyncIteration:
            return

    def _plain(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._loop.run_until_complete(value)
        if inspect.isasyncgen(value):
            return self._each(value)
        if inspect.ismethod(value) or inspect.isfunction(value):
            return lambda *args, **named: self._plain(value(*map(_bare, args), **named))
        if isinstance(value, list):
            items: list[Any] = value
            return [self._plain(item) for item in items]
        ours = type(value).__module__.startswith("skerry.client") and type(value).__module__.endswith("_async")
        return Waited(value, self._loop) if ours else value


def _bare(value: Any) -> Any:
    return value._inner if isinstance(value, Waited) else value
