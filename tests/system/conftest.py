"""One whole Skerry for all system tests of a run: real programs, real sandboxes from a real image."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry import Client
from tests.server import Server, rootfs_archive

IMAGE = "debian:12"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_server(subnet: str, **settings: object) -> Server:
    assert os.geteuid() == 0, "system tests need root: run `make test` as root"
    data_dir = Path(f"/var/tmp/skerry-test/{secrets.token_hex(4)}")
    return Server(data_dir, subnet=subnet, port=free_port(), url_port=free_port(), **settings)


def connect(server: Server) -> Client:
    return Client(address=server.address, key=server.key)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def server(shared_folder: Path) -> Iterator[Server]:
    server = make_server(
        "10.221.0.0/20",
        share=[shared_folder],
        ssh_listen=f"127.0.0.1:{free_port()}",
        webhooks_private=True,
        job_subnets="10.205.0.0/16",
    )
    try:
        server.start()
        with connect(server) as client:
            client.images.pull(f"oci-archive:{rootfs_archive()}", name=IMAGE)
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    with connect(server) as client:
        yield client
