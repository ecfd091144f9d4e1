"""Whoever shows no good token, and a control that cannot say whose one is, keep nobody else waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.errors import Unavailable
from skerry.gateway.services import access
from skerry.model.traffic import Access
from tests.gateway.conftest import KEY, TOKEN, World
from tests.gateway.services.conftest import Engine, client, request, service

pytestmark = pytest.mark.anyio


async def test_nobody_waits_for_a_control_that_hangs(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    caller = await client(world)
    assert (await caller.ask(request()))[0] == 200
    entrants = world.gateway.services.entrants
    asked = 0

    async def hangs(token: str) -> Access | None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.sleep(1000)
        raise Unavailable("silent")

    world.gateway.control.access_of = hangs
    [entry] = entrants._known.values()
    entry.told_s -= 100.0
    for _ in range(3):
        assert (await caller.ask(request()))[0] == 200
    assert asked == 2, "one was waited for; the other is under way"
    entrants._away_s -= 10.0
    waiting = asyncio.ensure_future(caller.ask(request()))
    await asyncio.sleep(0.1)
    assert not waiting.done(), "for a while only: it may have been revoked"
    assert entry.asking is not None
    for each in (waiting, entry.asking):
        each.cancel()
    await asyncio.gather(waiting, entry.asking, return_exceptions=True)


async def test_who_guesses_tokens_makes_nobody_forgotten(
    make_world: Any, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "STRANGE_MAX", 3)
    world: World = await make_world(service(engines[0]))
    caller = await client(world)
    assert (await caller.ask(request()))[0] == 200
    for guess in range(10):
        assert (await caller.ask(request(key=f"st_{guess:064}")))[0] == 401
    entrants = world.gateway.services.entrants
    assert (len(entrants._known), len(entrants._strange)) == (1, 3)
    await world.stop_control()
    assert (await caller.ask(request()))[0] == 200


@pytest.mark.parametrize(
    ("path", "key", "public", "wanted"),
    [
        ("/v1/chat/completions", None, False, b"401"),
        ("/v1/chat/completions", TOKEN, False, b"401"),
        ("/v1/chat/completions", KEY, False, b"100"),
        ("/v1/chat/completions", None, True, b"100"),
        ("/v1/none", KEY, False, b"404"),
    ],
)
async def test_a_long_body_is_asked_for_where_it_may_be_for_something(
    make_world: Any, engines: list[Engine], path: str, key: str | None, public: bool, wanted: bytes
) -> None:
    world: World = await make_world(service(engines[0], public=public))
    whole = request(b'{"model": "chat", "x": "' + b"x" * 400_000 + b'"}', "Expect: 100-continue", path=path, key=key)
    head, _, body = whole.partition(b"\r\n\r\n")
    caller = await client(world)
    caller.writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(30):
        first = await caller.reader.readuntil(b"\r\n\r\n")
    assert first.split()[1] == wanted
    if wanted == b"100":
        assert (await caller.ask(body))[0] == 200
        assert b"Expect" not in engines[0].heads[-1].encode()


async def test_a_stranger_is_refused_before_the_body_is_here(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    long = request(b'{"model": "chat", "x": "' + b"x" * 400_000 + b'"}', key=None)
    caller = await client(world)
    assert (await caller.ask(long[:1000]))[0] == 401
    assert world.gateway.services.held_bytes == 0
