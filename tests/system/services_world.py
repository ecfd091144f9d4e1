"""A service for tests, which writes down when it began and ended, and what is asked about those of a sandbox."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from skerry import Sandbox
from tests.server import Server

WEB = r"""
use IO::Socket::INET; use Fcntl ":flock"; $| = 1; my ($name, $port, $wait) = @ARGV;
open(my $lock, ">>", "/root/lock-$name"); flock($lock, LOCK_EX | LOCK_NB) or note("twice");
note("began"); open(my $p, ">", "/root/pid-$name"); print $p $$; close $p;
$SIG{PIPE} = "IGNORE"; $SIG{TERM} = sub { note("ended"); exit 0 }; select(undef, undef, undef, $wait || 0);
my $s = IO::Socket::INET->new(LocalPort => $port, Listen => 50, ReuseAddr => 1) or die "cannot listen: $!\n";
print "$name listens, $ENV{SKERRY_SERVICE} $ENV{MARK}\n";
while (1) {
  my $c = $s->accept or next; my $line = <$c>; while (<$c>) { last if /^\r?\n$/ } my $sick = -e "/root/sick-$name";
  print "looked at\n" if $line =~ m{/health}; print $c "HTTP/1.1 " . ($sick ? "503 no" : "200 yes");
  print $c "\r\nContent-Length: " . length($name) . "\r\nConnection: close\r\n\r\n$name"; close $c;
}
sub note { open(my $f, ">>", "/root/history"); print $f "$_[0] $name\n"; close $f }
"""


def web(name: str, port: int, *, delay_s: float = 0, **more: Any) -> dict[str, Any]:
    return {"command": ["perl", "-e", WEB, name, str(port), str(delay_s)], "port": port, **more}


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.03)


def states(box: Sandbox) -> dict[str, str]:
    return {status.name: status.state.value for status in box.info().services}


def all_healthy(box: Sandbox) -> bool:
    found = states(box)
    return bool(found) and set(found.values()) == {"healthy"}


def history(box: Sandbox) -> list[str]:
    return box.commands.run("cat /root/history").stdout.splitlines()


def kinds(box: Sandbox) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for event in box.events() if event.kind.startswith("service_")]


def ask(server: Server, box: Sandbox, port: int) -> str:
    """What a gateway does: one connection to a port, through the agent."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(30)
        stream.connect(str(server.settings.streams_socket))
        stream.sendall(json.dumps({"sandbox_id": box.id, "port": port, "by": f"http {port}"}).encode() + b"\n")
        with stream.makefile("rwb") as file:
            answer = json.loads(file.readline())
            if answer:
                return str(answer["error"]["message"])
            file.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            file.flush()
            return file.read().decode().rpartition("\r\n")[2]
