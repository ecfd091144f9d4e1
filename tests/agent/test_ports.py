"""Published ports without a sandbox behind them: bytes, ends, limits, silence, and who holds what."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from skerry.agent.ports import publish, tcp, udp
from skerry.agent.ports.callers import Callers
from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.listening import listeners_here, read_table
from skerry.agent.ports.publish import Publisher
from skerry.agent.ports.relay import CHUNK_BYTES, Relay
from skerry.errors import Conflict, InUse, Unavailable
from skerry.model.port import Protocol, PublishedPort
from skerry.telemetry import Log

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


class Here:
    """In place of a sandbox, programs of this machine: `leads` says which of its ports a guest's port is."""

    def __init__(self) -> None:
        self.leads: dict[int, int] = {}
        self.awake = asyncio.Event()
        self.awake.set()
        self.dialed = 0
        self.bytes_moved = {True: 0, False: 0}

    async def connect(self, sandbox_id: str, port: int, by: str, protocol: Protocol = Protocol.TCP) -> socket.socket:
        self.dialed += 1
        await self.awake.wait()
        if port not in self.leads:
            raise Unavailable("nobody listens there")
        fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM)
        fresh.setblocking(False)
        await asyncio.get_running_loop().sock_connect(fresh, ("127.0.0.1", self.leads[port]))
        return fresh

    def is_cold(self, sandbox_id: str) -> bool:
        return not self.awake.is_set()

    def moved(self, sandbox_id: str, by: str, *, inward: bool) -> None:
        self.bytes_moved[inward] += 1


@pytest.fixture
async def here() -> Here:
    return Here()


@pytest.fixture
async def publisher(here: Here, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Publisher]:
    monkeypatch.setattr(publish, "RETRY_EVERY_S", 0.05)
    made = Publisher(dialer=cast(Dialer, here), relay=Relay(), log=Log("agent", "error"))
    made.open()
    yield made
    await made.close()


@pytest.fixture
async def echo(here: Here) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here.leads[80] = server.sockets[0].getsockname()[1]
    yield
    server.close()


def free(protocol: Protocol = Protocol.TCP) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 — the kernel tells nobody
            await asyncio.sleep(0.01)


def tcp_port(guest: int = 80) -> PublishedPort:
    return PublishedPort(host=free(), guest=guest)


async def ask(port: int, text: bytes) -> bytes:
    """All that comes back until the other side has said all; b"" when it hangs up on us."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@contextmanager
def pairs() -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """(one end, its relayed side, the other relayed side, the other end)."""
    four = (*socket.socketpair(), *socket.socketpair())
    for each in four:
        each.setblocking(False)
    yield four
    for each in four:
        each.close()


async def test_bytes_and_ends_pass_both_ways_however_slowly_one_side_reads() -> None:
    loop = asyncio.get_running_loop()
    data = os.urandom(8 * CHUNK_BYTES + 12_345)
    moved: list[tuple[int, bool]] = []
    with pairs() as (one, left, right, other):
        running = asyncio.ensure_future(Relay().run(left, right, lambda count, inward: moved.append((count, inward))))
        sending = asyncio.ensure_future(loop.sock_sendall(one, data))
        await asyncio.sleep(0.1)
        assert not sending.done()  # nobody reads, so that nothing piles up with us either
        got = b""
        while len(got) < len(data):
            got += await loop.sock_recv(other, 100_000)
        assert got == data
        await sending
        one.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(other, 10) == b""
        await loop.sock_sendall(other, b"answer")  # the other way is still open
        assert await loop.sock_recv(one, 10) == b"answer"
        assert not running.done()
        other.close()
        await asyncio.wait_for(running, 30)
        assert await loop.sock_recv(one, 10) == b""
    assert sum(count for count, inward in moved if inward) == len(data)
    assert sum(count for count, inward in moved if not inward) == len(b"answer")


async def test_a_side_that_breaks_off_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pairs() as (_, left, _, _):
        caller = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
        taken.setblocking(False)
        running = asyncio.ensure_future(Relay().run(taken, left, lambda count, inward: None))
        await asyncio.sleep(0.05)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close is a reset
        caller.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(running, 30)
        taken.close()


async def test_callers_are_held_until_it_is_served_and_until_it_is_awake(
    here: Here, publisher: Publisher, echo: None
) -> None:
    port = tcp_port()
    publisher.claim("sb-1", [port])
    waiting = [asyncio.ensure_future(ask(port.host or 0, b"hello")) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert here.dialed == 0
    here.awake.clear()
    publisher.serve("sb-1", [port])
    await until(lambda: here.dialed == 20)
    here.awake.set()
    assert await asyncio.gather(*waiting) == [b"hello"] * 20
    [state] = publisher.states("sb-1", [port])
    assert (state.listening, state.connections_total, state.received_bytes, state.sent_bytes) == (True, 20, 100, 100)
    assert here.bytes_moved[True] == here.bytes_moved[False] == 20


async def test_a_wake_that_fails_closes_the_connection(publisher: Publisher) -> None:
    port = tcp_port(guest=81)
    publisher.serve("sb-1", [port])
    assert await asyncio.wait_for(ask(port.host or 0, b"hello"), 30) == b""


async def test_connections_of_one_port_are_bounded(
    here: Here, publisher: Publisher, echo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 2)
    port = tcp_port()
    publisher.serve("sb-1", [port])
    held = [await asyncio.open_connection("127.0.0.1", port.host) for _ in range(2)]
    await until(lambda: publisher.states("sb-1", [port])[0].connections == 2)
    assert await asyncio.wait_for(ask(port.host or 0, b"hello"), 30) == b""
    held[0][1].close()
    await until(lambda: publisher.states("sb-1", [port])[0].connections == 1)
    assert await asyncio.wait_for(ask(port.host or 0, b"hello"), 30) == b"hello"
    publisher.withdraw("sb-1")
    assert await asyncio.wait_for(held[1][0].read(), 30) == b""  # what is withdrawn is cut
    held[1][1].close()
    with pytest.raises(ConnectionRefusedError):
        await ask(port.host or 0, b"")


async def test_another_programs_port_is_refused_and_taken_when_it_is_free(publisher: Publisher, echo: None) -> None:
    fine = tcp_port()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        number = stranger.getsockname()[1]
        wanted = [fine, PublishedPort(host=number, guest=80, ip="0.0.0.0")]
        with pytest.raises(InUse, match=f"another program of this machine listens on 0.0.0.0:{number}"):
            publisher.claim("sb-1", wanted)
        with pytest.raises(ConnectionRefusedError):  # all or none
            await ask(fine.host or 0, b"")
        publisher.serve("sb-1", wanted)  # as after a restart of ours: what runs, runs on
        assert await ask(fine.host or 0, b"hello") == b"hello"
        states = publisher.states("sb-1", wanted)
        assert [state.listening for state in states] == [True, False]
        assert f"listens on 0.0.0.0:{number}" in (states[1].problem or "")
        held = await publisher.held_by_others()
        assert number in {port.host for port in held}
        assert fine.host not in {port.host for port in held}
    await until(lambda: all(state.listening for state in publisher.states("sb-1", wanted)))
    assert await ask(number, b"hello") == b"hello"


async def test_what_another_sandbox_still_has_is_worth_another_try(publisher: Publisher, echo: None) -> None:
    port = tcp_port()
    publisher.claim("sb-1", [port])
    wildcard = port.model_copy(update={"ip": "0.0.0.0"})
    with pytest.raises(Conflict, match="still belongs to a sandbox that is going") as refused:
        publisher.claim("sb-2", [wildcard])
    assert not isinstance(refused.value, InUse)
    publisher.withdraw("sb-1")
    publisher.claim("sb-2", [wildcard])


async def test_where_a_port_leads_can_change(here: Here, publisher: Publisher, echo: None) -> None:
    port = tcp_port(guest=81)
    publisher.serve("sb-1", [port])
    assert await ask(port.host or 0, b"hello") == b""
    publisher.serve("sb-1", [port.model_copy(update={"guest": 80})])
    assert await ask(port.host or 0, b"hello") == b"hello"
    publisher.serve("sb-1", [])
    with pytest.raises(ConnectionRefusedError):
        await ask(port.host or 0, b"")


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait(data)


class Names(asyncio.DatagramProtocol):
    """Answers everybody with the port it sees."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data + b" " + str(addr[1]).encode(), addr)


async def client_of(port: PublishedPort) -> tuple[asyncio.DatagramTransport, Client]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", port.host or 0))


async def test_each_udp_client_has_its_own_way_in_until_it_has_been_silent(
    here: Here, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr(udp, "CLIENTS_MAX", 2)
    server, _ = await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    here.leads[53] = server.get_extra_info("sockname")[1]
    port = PublishedPort(host=free(Protocol.UDP), guest=53, protocol=Protocol.UDP)
    publisher.serve("sb-1", [port])
    here.awake.clear()
    (first, one), (second, other), (third, late) = [await client_of(port) for _ in range(3)]
    for text in (b"a", b"b", b"c"):  # held while the sandbox wakes
        first.sendto(text)
    second.sendto(b"d")
    await asyncio.sleep(0.05)
    third.sendto(b"e")  # one client too many
    await asyncio.sleep(0.05)
    here.awake.set()
    answers = [await asyncio.wait_for(one.heard.get(), 30) for _ in range(3)]
    assert [answer.split()[0] for answer in answers] == [b"a", b"b", b"c"]
    assert len({answer.split()[1] for answer in answers}) == 1
    assert (await asyncio.wait_for(other.heard.get(), 30)).split()[1] != answers[0].split()[1]
    assert publisher.states("sb-1", [port])[0].connections == 2
    assert late.heard.empty()
    monkeypatch.setattr(udp, "SILENCE_S_MAX", 0.05)
    for client, heard in ((first, one), (second, other)):
        client.sendto(b"the last for now")
        await asyncio.wait_for(heard.heard.get(), 30)
    await until(lambda: not publisher.states("sb-1", [port])[0].connections)
    monkeypatch.setattr(udp, "SILENCE_S_MAX", 60.0)
    third.sendto(b"f")
    assert (await asyncio.wait_for(late.heard.get(), 30)).startswith(b"f ")
    for transport in (first, second, third, server):
        transport.close()


async def test_datagrams_for_nobody_cost_one_search_and_not_one_each(
    here: Here, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "REFUSED_S", 60.0)
    port = PublishedPort(host=free(Protocol.UDP), guest=53, protocol=Protocol.UDP)
    publisher.serve("sb-1", [port])
    transport, _ = await client_of(port)
    for _ in range(20):
        transport.sendto(b"x")
        await asyncio.sleep(0.005)
    await until(lambda: publisher.states("sb-1", [port])[0].received_bytes == 20)
    assert here.dialed == 1
    transport.close()


TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 35 1
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 36 1
   2: 00000000000000000000000001000000:0051 00000000000000000000000001000000:1000 01 00000000:00000000 00:00000000 00000000     0        0 37 1
   3: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A 0000"""  # noqa: E501


def test_the_kernels_table_is_read() -> None:
    found = list(read_table(TCP6, Protocol.TCP, "0A"))
    assert [(item.ip, item.port) for item in found] == [("::", 8080), ("::1", 80)]
    v4 = TCP6.splitlines()[0] + "\n   0: 0100007F:0016 00000000:0000 0A 0:0 0:0 0 0 0 3 1\n"
    assert [(item.ip, item.port) for item in read_table(v4, Protocol.TCP, "0A")] == [("127.0.0.1", 22)]


def test_who_listens_here_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("0.0.0.0", 0))
        found = set(listeners_here())
        assert ("127.0.0.1", server.getsockname()[1], Protocol.TCP) in found
        assert ("0.0.0.0", bound.getsockname()[1], Protocol.UDP) in found


async def test_it_goes_on_taking_callers_after_it_ran_out_of_file_descriptors() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def greet(caller: socket.socket) -> None:
        with caller:
            await asyncio.get_running_loop().sock_sendall(caller, b"hello")

    callers = Callers(listening, greet, most=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(listening.getsockname()) as client:
        client.setblocking(False)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            callers.begin()
            await asyncio.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 10), 30) == b"hello"
    await asyncio.gather(*callers.close(), return_exceptions=True)
