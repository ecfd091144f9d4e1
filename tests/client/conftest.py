"""One fake control plane for each test, and each kind of client for it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.client import AsyncClient, Client
from tests.client.faces import Waited
from tests.client.fake_control import KEY, FakeControl


@pytest.fixture
def control() -> Iterator[FakeControl]:
    # Not tmp_path: the path of a socket is at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="skerry-f-") as folder:
        fake = FakeControl(Path(folder))
        fake.start()
        yield fake
        fake.stop()


@pytest.fixture(params=["blocking-unix", "blocking-tcp", "asyncio-unix", "asyncio-tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def make_client(kind: str, address: str, loop: asyncio.AbstractEventLoop, key: str = KEY) -> Any:
    environ = {"HOME": "/nowhere"}
    if kind.startswith("blocking"):
        return Client(address, key, environ=environ)
    return Waited(AsyncClient(address, key, environ=environ), loop)


@pytest.fixture
def client(control: FakeControl, kind: str, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    address = control.unix if kind.endswith("unix") else control.tcp
    with make_client(kind, address, loop) as client:
        yield client


@pytest.fixture
def box(client: Any) -> Any:
    return client.sandboxes.create("debian:12", name="box", labels={"team": "a"})
