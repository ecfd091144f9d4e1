"""A Skerry of its own for the tests that kill it, so that the others never meet a dead program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Server, rootfs_archive
from tests.system.conftest import connect, make_server

IMAGE = "debian:12"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = make_server("10.223.0.0/20", slots_ahead=4)
    try:
        server.start()
        with connect(server) as client:
            client.images.pull(f"oci-archive:{rootfs_archive()}", name=IMAGE)
        yield server
    finally:
        server.remove()
