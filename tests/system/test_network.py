"""What a sandbox can reach, tried from inside: nothing of the host, of its neighbours, or of private networks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from skerry import Client, Sandbox

IMAGE = "debian:12"


def reaches(sandbox: Sandbox, address: str, port: int) -> bool:
    probe = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -c 5 <&3'"
    return sandbox.commands.run(probe).stdout == "hello"


@contextlib.contextmanager
def listening(host: str) -> Iterator[int]:
    """A service of the host that greets whoever connects."""
    with socket.create_server((host, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"hello")
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def pair(client: Client) -> Iterator[tuple[Sandbox, Sandbox]]:
    with client.sandboxes.create(IMAGE) as one, client.sandboxes.create(IMAGE) as other:
        yield one, other


def test_sandboxes_cannot_reach_each_other(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    serve = (
        "perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(Listen=>5,LocalPort=>8000,ReuseAddr=>1);"
        'while($c=$s->accept){print $c "hello";close $c}' + "'"
    )
    other.commands.start(serve)
    address = other.info().address
    assert address is not None
    while not reaches(other, "127.0.0.1", 8000):
        pass
    assert not reaches(one, address, 8000)


def test_the_host_is_out_of_reach_on_every_address(pair: tuple[Sandbox, Sandbox]) -> None:
    one, _ = pair
    gateway = one.commands.run("awk '$2==\"00000000\"{print $3}' /proc/net/route || true").stdout.strip()
    own = one.info().address
    assert own is not None
    host_side = own.rsplit(".", 1)[0] + "." + str(int(own.rsplit(".", 1)[1]) - 1)
    with listening("0.0.0.0") as everywhere, listening("127.0.0.1") as loopback:
        for address in ("127.0.0.1", host_side):
            assert not reaches(one, address, everywhere), gateway
            assert not reaches(one, address, loopback)


@pytest.mark.parametrize("address", ["169.254.169.254", "10.255.255.53", "192.168.1.1", "172.16.0.1", "100.64.0.1"])
def test_private_ranges_and_metadata_are_refused_at_once_or_lead_nowhere(
    pair: tuple[Sandbox, Sandbox], address: str
) -> None:
    assert not reaches(pair[0], address, 80)


def test_without_network_there_is_only_loopback(client: Client) -> None:
    with client.sandboxes.create(IMAGE, network=False) as sandbox:
        assert sandbox.info().address is None
        interfaces = sandbox.commands.run("tail -n +3 /proc/net/dev | cut -d: -f1").stdout.split()
        assert interfaces == ["lo"]
        assert sandbox.commands.run("cat /proc/net/route | wc -l").stdout.strip() == "1"
