"""kill -9 of a replica, of control and of the gateway, while services are asked all the time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests import machine
from tests.server import Server

IMAGE = "debian:12"
SUBNET = "10.233.0.0/20"
SOME = 20
"""Answers that must come after each fault."""
PARTS = 80
# Answers each POST after 30 ms; one with "stream" in it in PARTS parts, 50 ms apart.
MODEL = rf"""
use IO::Socket::INET; $SIG{{CHLD}} = 'IGNORE'; $| = 1;
my $server = IO::Socket::INET->new(Listen => 256, LocalPort => 8080, ReuseAddr => 1) or die;
while (1) {{
  my $c = $server->accept or next; next if fork; $c->autoflush(1);
  while (1) {{
    my $head = '';
    while ($head !~ /\r\n\r\n/) {{ sysread($c, my $byte, 1) or exit; $head .= $byte }}
    my ($left, $body) = ($head =~ /content-length: (\d+)/i ? $1 : 0, '');
    while (length($body) < $left) {{ sysread($c, my $some, $left - length($body)) or exit; $body .= $some }}
    if ($body =~ /stream/) {{
      print $c "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
      for (1..{PARTS}) {{ print $c "9\r\ndata: 12\n\r\n"; select(undef, undef, undef, 0.05) }}
      print $c "0\r\n\r\n"; next;
    }}
    select(undef, undef, undef, 0.03);
    print $c "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}";
  }}
}}
"""


def begin(server: Server, **more: object) -> http.client.HTTPResponse:
    host, _, port = server.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hello"}], **more})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection.getresponse()


class Load:
    """Four who ask all the time, each on a connection of its own every time."""

    def __init__(self, server: Server, *, retries: bool) -> None:
        """`retries`: what got no answer at all is asked again, as clients of OpenAI's API do."""
        self._server = server
        self._retries = retries
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        self.answers: list[int | str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                answer = begin(self._server)
                answer.read()
                self.answers.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                if not self._retries:
                    self.answers.append(repr(error))
                time.sleep(0.05)

    def more(self) -> None:
        """Until some have been answered that were asked from now on."""
        enough = len(self.answers) + SOME
        until(lambda: len(self.answers) >= enough)


class Stream(threading.Thread):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._answer = begin(server, stream=True)
        self.replica = self._answer.headers["X-Skerry-Replica"]
        self.parts = 0
        self.start()

    def run(self) -> None:
        try:
            while part := self._answer.read1():
                self.parts += part.count(b"data:")
        except (OSError, http.client.HTTPException):
            self.parts = -1


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.02)


def skerry(server: Server, *arguments: str) -> str:
    environ = {"SKERRY_ADDRESS": server.address, "SKERRY_KEY": server.key, "PATH": "/usr/bin:/bin", "HOME": "/root"}
    done = subprocess.run(
        [sys.executable, "-m", "skerry.main", *arguments], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def kill_replica(server: Server, number: str) -> None:
    for pid in machine.processes(server.settings):
        try:
            if f"SKERRY_REPLICA={number}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def test_nothing_is_lost_that_had_not_begun(server: Server) -> None:
    server.start("gateway")
    given = ["--image", IMAGE, "--port", "8080", "--replicas", "2", "--policy", "round-robin", "--public", "--json"]
    made = json.loads(skerry(server, "service", "create", "chat", *given, "--", "perl", "-e", MODEL))
    numbers = {each["sandbox"]: each["name"].rpartition("-")[2] for each in made["replicas"]}
    try:
        with Load(server, retries=False) as load:
            streams: dict[str, Stream] = {}
            while len(streams) < 2:
                stream = Stream(server)
                streams.setdefault(stream.replica, stream)
            load.more()
            killed, other = streams
            kill_replica(server, numbers[killed])
            load.more()
            server.kill("control")
            load.more()
            server.start("control")
            load.more()
            streams[other].join()
        assert streams[other].parts == PARTS, "the other replica's stream did not notice"
        assert set(load.answers) == {200}

        with Load(server, retries=True) as load:
            load.more()
            server.kill("control", "gateway")
            server.start("gateway")  # with the routes that it had
            load.more()
            server.start("control")
            load.more()
        assert set(load.answers) == {200}
    finally:
        server.revive()
        skerry(server, "service", "delete", "chat", "--now", "--yes")
        server.stop("gateway")
