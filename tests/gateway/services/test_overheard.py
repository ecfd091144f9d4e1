"""The gateway hears of a simulated engine, over ZMQ, what it has pushed out of its cache."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.server import Options, Simulator
from skerry.gateway.routing.auto import Auto
from skerry.gateway.routing.shares import Shares
from skerry.gateway.services.overheard import Overheard
from skerry.model.service import EngineName
from skerry.model.traffic import RouteReplica
from tests.gateway.services.conftest import Client, client, request, service

pytestmark = pytest.mark.anyio

HOSTS = ("127.0.0.1", "127.0.0.2")
PROFILE = Profile(blocks=400, step_s=1e-4)
"""6,400 tokens, of which a prompt of this test has 1,200."""


@pytest.fixture
def anyio_backend() -> str:
    """The simulators' timers want a finer clock than uvloop's, and they are in the same loop here."""
    return "asyncio"


def free_port() -> int:
    """At both hosts."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def publishing() -> AsyncIterator[tuple[int, list[Simulator]]]:
    port = free_port()
    options = [Options(models=("chat",), host=host, port=0, events_port=port, profile=PROFILE) for host in HOSTS]
    made = [Simulator(each) for each in options]
    for each in made:
        await each.start()
    yield port, made
    for each in made:
        await each.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def say(asking: Client, number: int) -> None:
    text = f"{number:04d} " + " ".join(f"{number * 7919 + at:07d}" for at in range(600))
    status, _, _ = await asking.ask(
        request({"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 4})
    )
    assert status == 200


async def test_what_an_engine_pushed_out_is_not_looked_for_there(
    make_world: Any, publishing: tuple[int, list[Simulator]]
) -> None:
    port, simulators = publishing
    routes = [
        RouteReplica(id=f"sb-{at}", url=f"http://{each.options.host}:{each.server.port}")
        for at, each in enumerate(simulators)
    ]
    told = service(engine=EngineName.COMMAND, replicas=routes, routing={"policy": "auto"})
    world = await make_world(told)
    [known] = world.gateway.registry.all()
    overheard = Overheard(world.gateway.registry, lambda _: port)
    following = asyncio.create_task(overheard.run())
    try:
        await until(lambda: all(each.publisher is not None and each.publisher.followers for each in simulators))
        asking = await client(world)
        for number in range(12):
            await say(asking, number)
        policy = known.policy
        assert isinstance(policy, Shares)
        assert isinstance(policy.inner, Auto)
        index = policy.inner.index
        kept = [index.kept(each.id) for each in routes]
        await until(lambda: all(0 < index.kept(each.id) <= 500 for each in routes))
        assert sum(kept) < 12 * 300
        for each in simulators:
            each.runner.clear()
        await until(lambda: all(index.kept(each.id) == 0 for each in routes))
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    assert all(replica.told is None for replica in known.replicas.values())
