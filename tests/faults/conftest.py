"""A Skerry of its own for the tests that kill it, so that the others never meet a dead program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Server, rootfs_archive
from tests.system.conftest import connect, make_server

IMAGE = "debian:12"


def running(subnet: str, **settings: object) -> Iterator[Server]:
    server = make_server(subnet, slots_ahead=4, **settings)
    try:
        server.start()
        with connect(server) as client:
            client.images.pull(f"oci-archive:{rootfs_archive()}", name=IMAGE)
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def whole_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """At a subnet of its own for a module that names one, since it may run beside another."""
    yield from running(getattr(request.module, "SUBNET", "10.223.0.0/20"))


@pytest.fixture
def server(whole_server: Server) -> Server:
    """Alive and without sandboxes, whatever the test before it did."""
    whole_server.revive()
    with connect(whole_server) as client:
        for box in client.sandboxes.list():
            client.sandboxes.connect(box.id).delete(force=True)
    return whole_server


@pytest.fixture
def small_server() -> Iterator[Server]:
    """With the smallest pool there is: soon filled."""
    yield from running("10.227.0.0/20", pool_size="1GiB", pool_reserve="128MiB")
