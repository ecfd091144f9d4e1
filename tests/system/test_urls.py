"""URLs of real sandboxes through the real programs: woken by whoever comes, served while other programs die."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import time
from collections.abc import Iterator

import pytest

from skerry import Client, Sandbox
from tests.server import Server
from tests.system.conftest import free_port

IMAGE = "debian:12"
# One process for each connection, so that a test may keep one open. /slow streams events, /told one and another once it
# is told to; anything else is echoed.
WEB = r"""
use IO::Socket::INET; use Digest::SHA 'sha1_base64'; $SIG{CHLD} = 'IGNORE'; $| = 1;
my $server = IO::Socket::INET->new(Listen => 256, LocalPort => 8080, LocalAddr => $ARGV[0], ReuseAddr => 1) or die;
while (1) {
  my $c = $server->accept or next; next if fork; $c->autoflush(1);
  while (1) {
    my $head = '';
    while ($head !~ /\r\n\r\n/) { sysread($c, my $byte, 1) or exit; $head .= $byte }
    if ($head =~ /^GET \/slow/) {
      print $c "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
      for (1..3) { print $c "data: $_\n\n"; select(undef, undef, undef, 0.3) } exit;
    }
    if ($head =~ /^GET \/told/) {
      print $c "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
      select(undef, undef, undef, 0.05) until -e "/root/told"; print $c "data: 2\n\n"; exit;
    }
    if ($head =~ /Sec-WebSocket-Key: (\S+)/i) {
      my $accept = sha1_base64("${1}258EAFA5-E914-47DA-95CA-C5AB0DC85B11") . '=';
      print $c "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
      print $c "Sec-WebSocket-Accept: $accept\r\n\r\n";
      while (sysread($c, my $frame, 2)) {
        my $length = ord(substr($frame, 1)) & 127; sysread($c, my $mask, 4); sysread($c, my $text, $length);
        $text ^= substr($mask x 32, 0, $length); last if (ord($frame) & 15) == 8;
        print $c chr(129) . chr($length) . uc($text);
      } exit;
    }
    my ($length) = $head =~ /content-length: *(\d+)/i; my $body = '';
    while ($length && length($body) < $length) { sysread($c, my $part, 65536) or exit; $body .= $part }
    my $answer = $length && $length > 65536 ? "took " . length($body) : "$head$body";
    print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
  }
}
"""


@pytest.fixture(scope="module")
def gateway(server: Server) -> Iterator[Server]:
    server.start("gateway")
    yield server
    server.stop("gateway")


@pytest.fixture(scope="module")
def web(gateway: Server, client: Client) -> Iterator[Sandbox]:
    with client.sandboxes.create(IMAGE, name="web", command=["perl", "-e", WEB]) as sandbox:
        _until(gateway, "web", 200)
        yield sandbox


def ask(
    server: Server,
    name: str,
    path: str = "/",
    *,
    port: int = 8080,
    key: bool = True,
    body: bytes | None = None,
    **more: str,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    host, _, listens = server.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(listens), timeout=60)
    headers = {"Host": f"{name}--{port}.localhost:{listens}", **more}
    if key:
        headers["Authorization"] = f"Bearer {server.key}"
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def _until(server: Server, name: str, wanted: int, **given: bool) -> None:
    deadline_s = time.monotonic() + 30
    while ask(server, name, **given)[0] != wanted:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_private_sandbox_opens_to_a_key_and_to_a_link(gateway: Server, web: Sandbox) -> None:
    assert ask(gateway, "web", key=False)[0] == 401
    status, heard, _ = ask(gateway, "web", "/a?b=c", body=b"hello", Cookie="mine=1")
    assert status == 200
    assert heard.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert heard.endswith(b"\r\n\r\nhello")
    assert b"Cookie: mine=1" in heard
    assert gateway.key.encode() not in heard
    link = web.url(8080, expires_s=60)
    path = "/" + link.partition(":")[2].split("/", 3)[3]
    assert link.startswith(f"http://web--8080.localhost:{gateway.settings.url_listen.rpartition(':')[2]}/?")
    status, heard, headers = ask(gateway, "web", path, key=False)
    assert (status, b"skerry" in heard) == (200, False)
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert ask(gateway, "web", "/next", key=False, Cookie=cookie)[0] == 200
    assert ask(gateway, "web", "/next", key=False, port=8081, Cookie=cookie)[0] == 401
    assert gateway.settings.url_secret_path.stat().st_mode & 0o777 == 0o600


def test_public_and_private_are_changed_while_it_runs(gateway: Server, web: Sandbox, client: Client) -> None:
    assert web.update(public=True).spec.public
    _until(gateway, "web", 200, key=False)
    [fork] = web.fork(1)
    with fork:
        assert fork.info().spec.public is False, "a copy is not open because its parent is"
        assert ask(gateway, fork.name, key=False)[0] in (401, 404)
    web.update(public=False)
    _until(gateway, "web", 401, key=False)


def test_who_is_not_there_is_told_so(gateway: Server, web: Sandbox, client: Client) -> None:
    assert ask(gateway, "nobody")[0] == 404
    status, said, _ = ask(gateway, "web", port=9)
    assert (status, json.loads(said)["error"]["message"]) == (503, "nobody listens on port 9 in sandbox web")
    with client.sandboxes.create(IMAGE, name="halted") as halted:
        halted.stop(grace_s=0)
        status, said, _ = ask(gateway, "halted", Accept="text/html")
        assert status == 503
        assert b"Sandbox halted does not run" in said
    _until(gateway, "halted", 404)


@pytest.mark.parametrize("cold", [False, True])
def test_fifty_callers_are_held_and_served_by_one_wake(gateway: Server, web: Sandbox, cold: bool) -> None:
    web.sleep(cold=cold, force=True)
    woken = [event.kind for event in web.events()].count("woken")
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda number: ask(gateway, "web", f"/{number}"), range(50)))
    assert [status for status, _, _ in found] == [200] * 50
    assert all(heard.startswith(b"GET /%d " % number) for number, (_, heard, _) in enumerate(found))
    assert web.activity().woken_by == "http 8080"
    _until_kind(web, woken + 1)


def _until_kind(web: Sandbox, wanted: int) -> None:
    deadline_s = time.monotonic() + 30
    while [event.kind for event in web.events()].count("woken") < wanted:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert [event.kind for event in web.events()].count("woken") == wanted


def test_a_probe_neither_wakes_nor_keeps_awake(gateway: Server, web: Sandbox) -> None:
    web.update(idle="1s")
    try:
        deadline_s = time.monotonic() + 30
        while (asked := ask(gateway, "web", **{"Skerry-Probe": "1"}))[0] == 200:
            assert time.monotonic() < deadline_s, "asked again and again, it never slept"
            time.sleep(0.1)
        assert asked[0] == 503
        assert b"sandbox web is asleep, and a probe does not wake it" in asked[1]
        assert web.activity().asleep is not None
        assert ask(gateway, "web")[0] == 200
    finally:
        web.update(idle="never")


def test_a_sandbox_that_listens_on_loopback_alone_is_reached(gateway: Server, client: Client) -> None:
    with client.sandboxes.create(IMAGE, name="local", command=["perl", "-e", WEB, "127.0.0.1"]) as box:
        _until(gateway, "local", 200)
        box.sleep(cold=True, force=True)
        assert ask(gateway, "local")[0] == 200


def test_events_and_websockets_pass_and_wake(gateway: Server, web: Sandbox) -> None:
    from websockets.sync.client import connect

    host, _, listens = gateway.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(listens), timeout=30)
    headers = {"Host": f"web--8080.localhost:{listens}", "Authorization": f"Bearer {gateway.key}"}
    connection.request("GET", "/told", headers=headers)
    answer = connection.getresponse()
    assert answer.readline() == b"data: 1\n", "each event comes when it is said"
    web.files.write("/root/told", b"")
    assert answer.read() == b"\ndata: 2\n\n"
    url = f"ws://web--8080.localhost:{listens}/chat"
    with connect(
        url, sock=_socket(host, int(listens)), additional_headers={"Authorization": f"Bearer {gateway.key}"}
    ) as ws:
        ws.send("hello")
        assert ws.recv(30) == "HELLO"
        web.sleep(force=True)
        ws.send("wake up")
        assert ws.recv(30) == "WAKE UP", "what is said on an open connection wakes too"


def _socket(host: str, port: int) -> object:
    import socket

    return socket.create_connection((host, port))


def test_big_bodies_pass(gateway: Server, web: Sandbox) -> None:
    assert ask(gateway, "web", body=bytes(8 * 1024**2))[1] == b"took 8388608"


def test_control_is_not_needed_by_what_is_known(gateway: Server, web: Sandbox) -> None:
    assert ask(gateway, "web")[0] == 200
    gateway.kill("control")
    try:
        time.sleep(0.1)
        assert ask(gateway, "web")[0] == 200
        unknown = {"Authorization": "Bearer sk_" + "0" * 64}
        assert ask(gateway, "web", key=False, **unknown)[0] in (401, 503)
    finally:
        gateway.start("control")
    assert ask(gateway, "web")[0] == 200


def test_callers_are_held_while_the_agent_is_started_again(gateway: Server, web: Sandbox) -> None:
    gateway.kill("agent")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, gateway, "web")
        time.sleep(0.2)
        gateway.start("agent")
        assert waiting.result(60)[0] == 200


def test_a_gateway_that_is_told_to_stop_lets_answers_end(gateway: Server, web: Sandbox) -> None:
    host, _, listens = gateway.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(listens), timeout=30)
    headers = {"Host": f"web--8080.localhost:{listens}", "Authorization": f"Bearer {gateway.key}"}
    connection.request("GET", "/slow", headers=headers)
    answer = connection.getresponse()
    gateway.stop("gateway")
    gateway.start("gateway")
    assert answer.read() == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    gateway.kill("gateway")
    gateway.start("gateway")
    _until(gateway, "web", 200)


def test_our_own_api_is_not_behind_a_url(gateway: Server, web: Sandbox) -> None:
    api_port = int(gateway.settings.listen.rpartition(":")[2])
    assert ask(gateway, "web", "/v1/sandboxes", port=api_port)[0] == 503
    host, _, listens = gateway.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(listens), timeout=30)
    connection.request("GET", "/v1/sandboxes", headers={"Authorization": f"Bearer {gateway.key}"})
    assert connection.getresponse().status == 404
    assert free_port() != api_port
    over_tcp = http.client.HTTPConnection("127.0.0.1", api_port, timeout=30)
    over_tcp.request("GET", "/internal/routes", headers={"Authorization": f"Bearer {gateway.key}"})
    assert over_tcp.getresponse().status == 404
