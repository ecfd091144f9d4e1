"""Published and forwarded ports of real sandboxes: reached at once, and again after whatever befalls the sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from skerry import Client, Sandbox
from skerry.client import AsyncClient
from skerry.errors import Conflict, InUse, Unavailable
from skerry.model.port import Protocol
from skerry.model.sandbox import S
from tests.server import Server

IMAGE = "debian:12"
ECHO = """
use IO::Socket::INET; $SIG{CHLD} = "IGNORE";
my $server = IO::Socket::INET->new(Listen => 100, LocalAddr => $ARGV[1], LocalPort => $ARGV[0], ReuseAddr => 1) or die;
while (my $client = $server->accept) {
  if (fork() == 0) { while (sysread($client, my $data, 65536)) { syswrite($client, $data) } exit 0 }
  close $client;
}
"""
DATAGRAMS = """
use IO::Socket::INET; my $server = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
while ($server->recv(my $text, 1000)) { $server->send("answer to $text") }
"""
WAIT_S = 30.0


def echo(port: int, address: str = "0.0.0.0") -> list[str]:
    return ["perl", "-e", ECHO, str(port), address]


def ask(port: int, text: bytes = b"hello") -> bytes:
    """All that is said until the other side ends; b"" when it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection, suppress(ConnectionError):
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S).close()
    except ConnectionRefusedError:
        return True
    return False


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def port() -> int:
    return free()


@pytest.fixture
def box(client: Client, port: int) -> Iterator[Sandbox]:
    with client.sandboxes.create(IMAGE, command=echo(80), ports=[f"{port}:80"]) as sandbox:
        yield sandbox


def test_a_port_is_there_from_the_first_moment_and_after_all_that_may_happen(
    box: Sandbox, port: int, server: Server
) -> None:
    assert ask(port) == b"hello"  # its program has only just been started: nobody had to try again
    safe = box.checkpoint()
    box.restore(safe)
    assert ask(port) == b"hello"
    box.sleep()
    assert ask(port) == b"hello"
    assert box.activity().woken_by == "tcp 80"
    eventually(lambda: box.state is S.RUNNING)  # the record follows
    server.kill("agent")
    server.revive()
    assert ask(port) == b"hello"
    box.stop()
    assert refuses(port)
    box.start()
    assert ask(port) == b"hello"
    box.delete()
    assert refuses(port)


def test_fifty_callers_of_one_that_sleeps_cold_are_served_by_one_wake(box: Sandbox, port: int, server: Server) -> None:
    box.sleep(cold=True)
    server.kill("agent")  # and the next agent listens for it, though nothing of it runs
    server.revive()
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda number: ask(port, b"%d" % number), range(50)))
    assert answers == [b"%d" % number for number in range(50)]
    eventually(lambda: [event.kind for event in box.events()].count("woken") == 1)


def test_bytes_keep_it_awake_and_an_open_connection_does_not(box: Sandbox, port: int) -> None:
    box.update(idle="1s")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        eventually(lambda: keeps_awake(box, connection))
        eventually(lambda: box.state is S.ASLEEP)
        connection.sendall(b"y")  # and the next byte wakes it
        assert connection.recv(1) == b"y"
        assert box.activity().last_active_by == "tcp 80"


def keeps_awake(box: Sandbox, connection: socket.socket) -> bool:
    """For twice its idle time; a machine that stands still for longer than that time says nothing."""
    for _ in range(10):
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        time.sleep(0.2)
    return box.state is S.RUNNING


def test_a_program_on_loopback_alone_is_reached_too(client: Client) -> None:
    with client.sandboxes.create(IMAGE, network=False, command=echo(80, "127.0.0.1"), ports=["80"]) as sandbox:
        [state] = sandbox.ports()
        assert ask(state.port.host or 0) == b"hello"


def test_datagrams_go_in_and_out_and_wake_it(client: Client) -> None:
    command = ["perl", "-e", DATAGRAMS]
    with client.sandboxes.create(IMAGE, command=command, ports=["53/udp"]) as sandbox:
        [state] = sandbox.ports()
        assert state.port.protocol is Protocol.UDP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.settimeout(WAIT_S)
            caller.connect(("127.0.0.1", state.port.host or 0))
            for cold in (None, False, True):
                if cold is not None:
                    sandbox.sleep(cold=cold)
                caller.send(b"one")
                assert caller.recv(100) == b"answer to one"
                if cold is True:
                    assert sandbox.activity().woken_by == "udp 53"


def test_collisions_are_refused_with_the_owners_name(client: Client, box: Sandbox, port: int) -> None:
    with pytest.raises(InUse, match=f"127.0.0.1:{port} is published by sandbox {box.name}"):
        client.sandboxes.create(IMAGE, ports=[f"{port}:80"])
    with pytest.raises(InUse, match=f"0.0.0.0:{port} is published by sandbox {box.name}"):
        client.sandboxes.create(IMAGE, ports=[f"0.0.0.0:{port}:80"])
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        number = stranger.getsockname()[1]
        with pytest.raises(InUse, match=f"another program of this machine listens on 127.0.0.1:{number}"):
            box.publish(f"{number}:80")
        box.stop()
    box.update(ports=[f"{number}:80"])
    with socket.create_server(("127.0.0.1", number)):
        with pytest.raises(InUse, match=f"another program of this machine listens on 127.0.0.1:{number}"):
            box.start()
        assert box.state is S.STOPPED
    box.start()
    assert ask(number) == b"hello"


def test_ports_come_and_go_while_it_runs(box: Sandbox, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as kept:
        kept.sendall(b"x")
        assert kept.recv(1) == b"x"
        made = box.publish("80")
        assert 20_000 <= (made.host or 0) < 30_000
        eventually(lambda: not refuses(made.host or 0))
        assert ask(made.host or 0) == b"hello"
        assert box.unpublish(made.host or 0) == [made]
        eventually(lambda: refuses(made.host or 0))
        kept.sendall(b"y")  # the other port did not notice
        assert kept.recv(1) == b"y"


def test_forks_are_reached_on_ports_of_their_own(box: Sandbox, port: int) -> None:
    one, other = box.fork(2)
    with one, other:
        ports = {state.port.host for each in (one, other, box) for state in each.ports()}
        assert len(ports) == 3
        for each in (one, other):
            number = each.ports()[0].port.host or 0
            assert number != port
            assert ask(number) == b"hello"


def test_a_guest_is_reached_through_the_api(client: Client, box: Sandbox) -> None:
    eventually(lambda: [item.port for item in box.listening()] == [80])
    data = os.urandom(3_000_000)
    with box.forward(80) as forward, ThreadPoolExecutor(8) as callers:
        assert list(callers.map(lambda _: ask(forward.port, data) == data, range(8))) == [True] * 8
        box.sleep(cold=True)
        assert ask(forward.port) == b"hello"
        assert box.activity().woken_by == "proxy 80"
    assert refuses(forward.port)
    box.stop()
    with box.forward(80) as forward:
        assert ask(forward.port) == b""
        assert isinstance(forward.problem, Conflict)


def test_the_same_on_asyncio(server: Server, box: Sandbox) -> None:
    data = os.urandom(1_000_000)

    async def work() -> None:
        async with AsyncClient(address=server.address, key=server.key) as client:
            sandbox = await client.sandboxes.connect(box.id)
            async with await sandbox.forward(80) as forward:
                assert await asyncio.to_thread(ask, forward.port, data) == data
            assert refuses(forward.port)

    asyncio.run(work())


def test_nobody_listening_is_said_in_words(client: Client, server: Server, box: Sandbox) -> None:
    ask(box.ports()[0].port.host or 0)
    server.kill("agent")  # which does not know how long it has run: then it has for long
    server.revive()
    with box.forward(4444) as forward:
        assert ask(forward.port) == b""
        assert isinstance(forward.problem, Unavailable)
        assert forward.problem.say == "nobody listens on port 4444 in the sandbox"


def skerry(server: Server, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("skerry")), *arguments]


def environment(server: Server) -> dict[str, str]:
    return {**os.environ, "SKERRY_ADDRESS": server.address, "SKERRY_KEY": server.key, "TERM": "xterm"}


def test_proxy_on_the_command_line(server: Server, box: Sandbox) -> None:
    piped = subprocess.run(
        skerry(server, "proxy", box.name, "-W", "80"),
        input=b"through a pipe",
        capture_output=True,
        env=environment(server),
        timeout=WAIT_S,
    )
    assert (piped.returncode, piped.stdout) == (0, b"through a pipe")
    command = skerry(server, "--json", "proxy", box.name, "0:80")
    with subprocess.Popen(command, env=environment(server), stdout=subprocess.PIPE) as running:
        assert running.stdout
        told = json.loads(running.stdout.readline())
        assert (told["address"], told["remote"]) == ("127.0.0.1", 80)
        assert ask(told["local"]) == b"hello"
        running.terminate()
        assert running.wait(WAIT_S) == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_while_a_shell_is_open_what_listens_there_is_reached_here(server: Server, box: Sandbox, wanted: bool) -> None:
    here, taken = free(), socket.create_server(("127.0.0.1", 0))
    busy = taken.getsockname()[1]
    box.commands.start(echo(here, "127.0.0.1"))
    box.commands.start(echo(busy))
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = skerry(server, "shell", *([] if wanted else ["--no-port-forward"]), box.name)
        os.execve(arguments[0], arguments, environment(server))
    said: list[bytes] = []

    def listen() -> None:
        with suppress(OSError):
            while data := os.read(terminal, 4096):
                said.append(data)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    note = f"port {busy} of the sandbox is 127.0.0.1:"
    if wanted:
        eventually(lambda: not refuses(here) and note in b"".join(said).decode(errors="replace"))
        assert ask(here) == b"hello"
        other = int(b"".join(said).decode(errors="replace").partition(note)[2].split()[0])
        assert ask(other) == b"hello"
    else:
        time.sleep(1.5)
        assert refuses(here)
    os.write(terminal, b"exit\n")
    os.waitpid(pid, 0)
    listener.join(WAIT_S)
    os.close(terminal)
    taken.close()
    assert refuses(here)
