"""Services through the real programs: replicas that answer, are replaced and rolled out under load, sleep and wake."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import Client
from tests.server import Server
from tests.system.conftest import IMAGE

# Answers every request with the words of $ARGV[0] and the number of its replica.
WEB = r"""
use IO::Socket::INET; $SIG{CHLD} = 'IGNORE'; $| = 1;
my $server = IO::Socket::INET->new(Listen => 256, LocalPort => 8080, ReuseAddr => 1) or die;
print "listening as $ARGV[0]\n";
while (1) {
  my $c = $server->accept or next; next if fork; $c->autoflush(1);
  while (1) {
    my $head = '';
    while ($head !~ /\r\n\r\n/) { sysread($c, my $byte, 1) or exit; $head .= $byte }
    my $answer = "$ARGV[0] from $ENV{SKERRY_REPLICA}";
    print $c "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
  }
}
"""


class Load:
    """Asks all the time, and remembers what it got."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._token = token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[tuple[int, str]] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.answers.append(ask(self._server, self._token))
            time.sleep(0.01)

    def until(self, text: str) -> None:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            if self.answers and text in self.answers[-1][1]:
                return
            time.sleep(0.02)
        pytest.fail(f"never {text!r}: {self.answers[-3:]}")


def ask(server: Server, token: str) -> tuple[int, str]:
    host, _, port = server.settings.url_listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        headers = {"Host": f"web.localhost:{port}", "Authorization": f"Bearer {token}"}
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, repr(error)
    finally:
        connection.close()


def skerry(server: Server, *arguments: str) -> str:
    environ = {"SKERRY_ADDRESS": server.address, "SKERRY_KEY": server.key, "PATH": "/usr/bin:/bin", "HOME": "/root"}
    done = subprocess.run(
        [sys.executable, "-m", "skerry.main", *arguments], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def gateway(server: Server) -> Iterator[Server]:
    server.start("gateway")
    yield server
    server.stop("gateway")


def defined(folder: Path, name: str) -> str:
    """A model definition of Backend.AI."""
    health = {"path": "/", "interval": 0.5, "initial_delay": 20}
    service = {"start_command": ["perl", "-e", WEB, "one"], "port": 8080, "health_check": health}
    model = {"name": name, "model_path": "/srv", "service": service}
    (folder / "model-definition.yaml").write_text(json.dumps({"models": [model]}))
    return str(folder)


def busy_in_top(server: Server) -> dict[str, Any]:
    """Gateways tell each second what they were asked."""
    deadline_s = time.monotonic() + 30
    while True:
        [shown] = json.loads(skerry(server, "top", "--json"))["services"]
        if shown["requests_per_s"] > 0 or time.monotonic() > deadline_s:
            return shown
        time.sleep(0.2)


def test_from_the_first_replica_to_zero_and_back_without_a_failed_request(
    gateway: Server, client: Client, tmp_path: Path
) -> None:
    server = gateway
    given = ["--definition", defined(tmp_path, "web"), "--image", IMAGE, "--replicas", "2", "--drain", "5s"]
    (made,) = json.loads(skerry(server, "service", "create", *given, "--json"))
    assert (made["status"], made["ready"]) == ("healthy", 2)
    token = skerry(server, "service", "token", "create", "alice", "--service", "web", "--quiet").strip()
    deadline_s = time.monotonic() + 30
    while "listening as one" not in skerry(server, "service", "logs", "web", "--replica", "1"):
        assert time.monotonic() < deadline_s
    try:
        assert ask(server, "st_" + "0" * 64)[0] == 401
        with Load(server, token) as load:
            load.until("one from")
            client.sandboxes.connect(made["replicas"][0]["sandbox"]).delete()
            load.until("one from 3")
            updated = json.loads(skerry(server, "service", "update", "web", "--json", "--", "perl", "-e", WEB, "two"))
            assert (updated["serving"], updated["status"]) == (2, "healthy")
            load.until("two from")
            shown = busy_in_top(server)
            assert (shown["name"], shown["ready"], shown["requests_per_s"] > 0) == ("web", 2, True)
            assert skerry(server, "top", "--once").splitlines()[-1].startswith("web ")
        failed = [answer for answer in load.answers if answer[0] != 200]
        assert failed == [], f"{len(failed)} of {len(load.answers)} failed: {failed[:3]}"
        skerry(server, "service", "update", "web", "--minimum", "0", "--maximum", "2", "--idle", "2s")
        deadline_s = time.monotonic() + 60
        while client.services.get("web").wanted and time.monotonic() < deadline_s:
            time.sleep(0.2)
        assert client.services.get("web").wanted == 0
        status, told = ask(server, token)
        assert status == 200, f"it is held until one is awake: {told}"
        skerry(server, "service", "token", "revoke", "alice", "--yes")
        deadline_s = time.monotonic() + 30
        while ask(server, token)[0] != 401 and time.monotonic() < deadline_s:
            time.sleep(0.3)
        assert ask(server, token)[0] == 401
    finally:
        client.services.delete("web", now=True)


def test_of_two_that_start_together_the_second_is_a_fork_of_the_first_and_answers(
    gateway: Server, client: Client
) -> None:
    """`prepare` writes another number each time it runs: one that both tell it has run once."""
    line = f"exec perl -e '{WEB.replace(chr(39), chr(34))}' $(cat /srv/number)"
    given = [
        "--image",
        IMAGE,
        "--port",
        "8080",
        "--health",
        "/",
        "--health-interval",
        "0.5s",
        "--replicas",
        "2",
        "--public",
    ]
    given += ["--fork", "--prepare", "cat /proc/sys/kernel/random/uuid > /srv/number", "-c", line]
    made = json.loads(skerry(gateway, "service", "create", "web", *given, "--json"))
    try:
        assert (made["status"], made["ready"]) == ("healthy", 2)
        answers: set[str] = set()
        deadline_s = time.monotonic() + 30
        while len(answers) < 2 and time.monotonic() < deadline_s:
            status, answer = ask(gateway, "")
            if status == 200:
                answers.add(answer)
        (number,) = {answer.partition(" from ")[0] for answer in answers}
        assert {answer.partition(" from ")[2] for answer in answers} == {"1", "2"}, answers
        assert len(number) == 36, number
    finally:
        client.services.delete("web", now=True)
