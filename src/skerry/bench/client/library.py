"""Engines called in this process, in the place of a server: what the way to one costs is left out.

An engine is a callable that takes the body of a request and gives an asynchronous iterator: of texts, each of which is
an event with tokens, and of mappings in the form of OpenAI's events, such as `{"usage": {...}}`. It is made once, by
calling what `MODULE:OBJECT` or an entry point of `skerry.bench.engines` names with the model's name.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import entry_points
from time import monotonic
from typing import Any

from skerry.bench.client.wire import Answer, Over
from skerry.bench.contract import Request
from skerry.errors import Invalid

GROUP = "skerry.bench.engines"
STREAM = [(b"content-type", b"text/event-stream")]

Piece = str | Mapping[str, Any]
Engine = Callable[[Mapping[str, Any]], AsyncIterator[Piece]]


def engine_of(name: str, model: str) -> Engine:
    """Raises Invalid."""
    try:
        return _named(name)(model)
    except Exception as error:  # it is anybody's code
        say = f"engine: {name} cannot be made: {error}"
        raise Invalid(say[:300], field="engine", because=repr(error)) from None


def _named(name: str) -> Callable[[str], Engine]:
    module, colon, inner = name.partition(":")
    if not colon:
        known = {each.name: each for each in entry_points(group=GROUP)}
        if name not in known:
            raise LookupError(f"no plug-in is called so; give MODULE:OBJECT or one of {sorted(known)}")
        return known[name].load()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it: a file beside the results is found
    found: Any = importlib.import_module(module)
    for part in inner.split("."):
        found = getattr(found, part)
    return found


class Library:
    """What Pool is for a server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls: set[Call] = set()

    async def warm(self, count: int) -> None:
        """There is nothing to open."""

    def send(self, request: Request, over: Over) -> tuple[float, Call]:
        call = Call(self._engine, request, over, self._calls.discard)
        self._calls.add(call)
        return call.sent_s, call

    def close(self) -> None:
        for call in list(self._calls):
            call.abort("the run ended")


class Call:
    """One request under way."""

    def __init__(self, engine: Engine, request: Request, over: Over, gone: Callable[[Call], None]) -> None:
        self._engine = engine
        self._over: Over | None = over
        self._gone = gone
        self.sent_s = monotonic()
        self._task = asyncio.get_running_loop().create_task(self._run(json.loads(request.body)))

    async def _run(self, body: Mapping[str, Any]) -> None:
        answer = Answer()
        answer.status, answer.headers = 200, STREAM
        pieces: list[Piece] = []
        try:
            async for piece in self._engine(body):
                answer.moments.append(monotonic())
                pieces.append(piece)
        except Exception as error:  # it is anybody's code: one request has failed, not the run
            answer.moments.append(monotonic())
            pieces.append({"error": {"message": f"the engine failed: {error!r}"}})
        answer.ended_s = monotonic()
        answer.parts = [_event(piece) for piece in pieces]  # not before: it would delay what comes next
        self._end(answer, "")

    def abort(self, why: str) -> None:
        self._task.cancel()
        self._end(None, why)

    def _end(self, answer: Answer | None, why: str) -> None:
        self._gone(self)
        over, self._over = self._over, None
        if over is not None:
            over(answer, why)


def _event(piece: Piece) -> bytes:
    body = {"choices": [{"delta": {"content": piece}}]} if isinstance(piece, str) else dict(piece)
    return b"data: " + json.dumps(body).encode() + b"\n\n"
