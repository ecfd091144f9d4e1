"""A published port and a URL beside nginx, passing on to the same program in the same sandbox, and the way direct."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable

from harness import Served, Table, arguments, interleaved
from peers.nginx import Nginx, accepts, free_port, is_installed

MIB = 1024**2
MESSAGE = b"x" * 64
ROUND_TRIPS = 500
CHUNK_BYTES = 256 * 1024
READY_S_MAX = 20.0
ECHO, SOURCE = 7001, 7002
GUEST = """
use IO::Socket::INET;
$SIG{CHLD} = "IGNORE";
my ($port, $kind) = @ARGV;
my $server = IO::Socket::INET->new(Listen => 128, LocalPort => $port, ReuseAddr => 1) or die $!;
my $block = "x" x 262144;
while (my $client = $server->accept) {
  if (fork() == 0) {
    setsockopt($client, 6, 1, 1);
    if ($kind eq "echo") { while (sysread($client, my $data, 65536)) { syswrite($client, $data) } }
    else { sysread($client, my $count, 32); for (1 .. $count / 262144) {
      my $at = 0; while ($at < 262144) { $at += syswrite($client, $block, 262144 - $at, $at) || exit } } }
    exit 0;
  }
  close $client;
}
"""

WEB = 7003
GUEST_WEB = """
use IO::Socket::INET;
$SIG{CHLD} = "IGNORE";
my $server = IO::Socket::INET->new(Listen => 128, LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
my $block = "x" x 262144;
while (my $client = $server->accept) {
  if (fork() == 0) {
    setsockopt($client, 6, 1, 1);
    my $head = "";
    while (sysread($client, my $data, 65536)) {
      $head .= $data;
      next unless $head =~ m{\\r\\n\\r\\n$};
      my ($left) = $head =~ m{^GET /(\\d+)};
      $head = "";
      my $part = "HTTP/1.1 200 OK\\r\\nContent-Length: $left\\r\\n\\r\\n" . substr($block, 0, $left);
      $left -= $left < 262144 ? $left : 262144;
      while (1) {
        my $at = 0;
        while ($at < length $part) { $at += syswrite($client, $part, length($part) - $at, $at) || exit }
        last unless $left;
        $part = $left < 262144 ? substr($block, 0, $left) : $block;
        $left -= length $part;
      }
    }
    exit 0;
  }
  close $client;
}
"""

Address = tuple[str, int]


def download_mib_per_s(address: Address, size_mib: int) -> float:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(f"{size_mib * MIB}\n".encode())
        buffer, left = memoryview(bytearray(CHUNK_BYTES)), size_mib * MIB
        began = time.perf_counter()
        while left:
            count = connection.recv_into(buffer)
            if not count:
                raise SystemExit("the connection ended early")
            left -= count
        return size_mib / (time.perf_counter() - began)


def round_trip_ms(address: Address) -> float:
    """The median over one open connection."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took_ms: list[float] = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            connection.sendall(MESSAGE)
            if connection.recv(len(MESSAGE)) != MESSAGE:
                raise SystemExit("the echo came back otherwise")
            took_ms.append((time.perf_counter() - began) * 1000)
        return statistics.median(took_ms)


def first_byte_ms(address: Address) -> float:
    """Connect, ask, first answer: the median of some connections in a row."""
    took_ms: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(MESSAGE)
            connection.recv(len(MESSAGE))
        took_ms.append((time.perf_counter() - began) * 1000)
    return statistics.median(took_ms)


def published_port(served: Served, table: Table, rounds: int, size_mib: int) -> None:
    api = served.api()
    ours = {ECHO: free_port(), SOURCE: free_port()}
    box = api.create(name="box", ports=[{"guest": guest, "host": host} for guest, host in ours.items()])
    for port, kind in ((ECHO, "echo"), (SOURCE, "source")):
        command = ["perl", "-e", GUEST, str(port), kind]
        api.call("POST", f"/v1/sandboxes/{box['id']}/exec", {"command": command, "detach": True})
    targets = {port: (box["address"], port) for port in ours}
    wait_until(lambda: all(accepts(host) for host in ours.values()))
    with Nginx(targets) as nginx:
        ways = {"ours": ours, "nginx": nginx.ports}

        def sides(port: int, measure: Callable[[Address], float]) -> dict[str, Callable[[int], float]]:
            through = {name: (lambda _, host=hosts[port]: measure(("127.0.0.1", host))) for name, hosts in ways.items()}
            return {**through, "direct": lambda _: measure(targets[port])}

        found = interleaved(rounds, **sides(SOURCE, lambda address: download_mib_per_s(address, size_mib)))
        rate = {name: statistics.median(values) for name, values in found.items()}
        table.add("proxy/throughput", rate["ours"], rate["nginx"], "nginx stream", "MiB/s")
        table.add("proxy/throughput", rate["ours"], rate["direct"], "no proxy", "MiB/s")
        for name, measure in (("proxy/latency_ms_p50", round_trip_ms), ("proxy/connect_ms_p50", first_byte_ms)):
            found = interleaved(rounds, **sides(ECHO, measure))
            table.times(name, found["ours"], nginx_stream=found["nginx"], no_proxy=found["direct"])
    api.delete(box["id"])


class Web:
    """Asks for so many bytes over one connection that is kept."""

    def __init__(self, address: Address, host: str, key: str) -> None:
        self._connection = socket.create_connection(address, timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def get(self, size_bytes: int) -> None:
        self._connection.sendall(f"GET /{size_bytes} {self._head}".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._connection.recv(65_536)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"it answered {head[:200]!r}")
        left = size_bytes - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= self._connection.recv_into(self._buffer) or left

    def rate_mib_per_s(self, size_mib: int) -> float:
        began = time.perf_counter()
        self.get(size_mib * MIB)
        return size_mib / (time.perf_counter() - began)

    def round_trip_ms(self) -> float:
        took_ms: list[float] = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            self.get(len(MESSAGE))
            took_ms.append((time.perf_counter() - began) * 1000)
        return statistics.median(took_ms)


def url(served: Served, table: Table, rounds: int, size_mib: int) -> None:
    api = served.api()
    box = api.create(name="web")
    command = ["perl", "-e", GUEST_WEB, str(WEB)]
    api.call("POST", f"/v1/sandboxes/{box['id']}/exec", {"command": command, "detach": True})
    target = (box["address"], WEB)
    wait_until(lambda: listens(target))
    gateway, _, port = served.settings.url_listen.rpartition(":")
    with Nginx({}, http={WEB: target}) as nginx:
        addresses = {"ours": (gateway, int(port)), "nginx": ("127.0.0.1", nginx.ports[WEB]), "direct": target}
        sides = {name: Web(each, f"web--{WEB}.localhost:{port}", served.key) for name, each in addresses.items()}
        found = interleaved(
            rounds, **{name: (lambda _, side=side: side.rate_mib_per_s(size_mib)) for name, side in sides.items()}
        )
        rate = {name: statistics.median(values) for name, values in found.items()}
        table.add("proxy/url_throughput", rate["ours"], rate["nginx"], "nginx http", "MiB/s")
        table.add("proxy/url_throughput", rate["ours"], rate["direct"], "no proxy", "MiB/s")
        found = interleaved(
            rounds, **{name: (lambda _, side=side: side.round_trip_ms()) for name, side in sides.items()}
        )
        table.times("proxy/url_latency_ms_p50", found["ours"], nginx_http=found["nginx"], no_proxy=found["direct"])
    api.delete(box["id"])


def listens(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit("the programs in the sandbox do not answer")
        time.sleep(0.05)


def main() -> None:
    chosen = arguments(9, __doc__, mib=512)
    rounds, size_mib = (2, 64) if chosen.quick else (chosen.rounds, chosen.mib)
    if not is_installed():
        raise SystemExit("nginx is not installed: apt-get install -y nginx libnginx-mod-stream")
    table = Table(f"proxy: {rounds} rounds, {size_mib} MiB each, {ROUND_TRIPS} round trips")
    with Served(pool_size="4GiB") as served:
        published_port(served, table, rounds, size_mib)
        url(served, table, rounds, size_mib)
    table.print_figures()


if __name__ == "__main__":
    main()
