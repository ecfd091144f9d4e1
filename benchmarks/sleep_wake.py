"""From a request at a URL to the first byte of its answer, while the sandbox sleeps warm or cold, and by 50 at once.

Beside podman: `unpause` or `start`, and then the same request. Podman holds nobody, so its caller asks again until
somebody answers, and its server is in the host's own network.
"""

from __future__ import annotations

import selectors
import socket
import time

import base_image
from harness import Api, Served, Table, arguments, interleaved
from peers.client import PeerFailed, Peers

CALLERS = 50
PORT, PEER_PORT = 8000, 18_479
IMAGE = "python:3"
ANSWER_S_MAX = 30.0


def server(port: int) -> list[str]:
    return ["python3", "-m", "http.server", str(port), "--directory", "/etc"]


class Callers:
    """Sockets that are connected before anything is timed; what is timed is request to first byte."""

    def __init__(self, served: Served, name: str) -> None:
        host, _, port = served.settings.url_listen.rpartition(":")
        self._address = host, int(port)
        lines = [
            "GET /hostname HTTP/1.1",
            f"Host: {name}--{PORT}.localhost:{port}",
            f"Authorization: Bearer {served.key}",
            "Connection: close",
        ]
        self._request = "\r\n".join([*lines, "", ""]).encode()

    def ask(self, count: int) -> list[float]:
        """Milliseconds of each."""
        with selectors.DefaultSelector() as waiting:
            for _ in range(count):
                waiting.register(socket.create_connection(self._address), selectors.EVENT_READ)
            sockets = [key.fileobj for key in waiting.get_map().values()]
            began = time.perf_counter()
            for each in sockets:
                each.sendall(self._request)  # pyright: ignore
            found: list[float] = []
            while len(found) < count:
                ready = waiting.select(ANSWER_S_MAX)
                now = time.perf_counter()
                assert ready, "nobody answers"
                for key, _ in ready:
                    answered: socket.socket = key.fileobj  # pyright: ignore
                    head = answered.recv(4096)
                    assert head.startswith(b"HTTP/1.1 200"), head
                    waiting.unregister(answered)
                    answered.close()
                    found.append((now - began) * 1000)
            return found


class Wakes:
    def __init__(self, api: Api, callers: Callers, peers: Peers, table: Table, box: str) -> None:
        self._api = api
        self._callers = callers
        self._peers = peers
        self._table = table
        self._box = box

    def measure(self, tier: str, rounds: int, peer_name: str) -> None:
        many: list[float] = []

        def one(_: int) -> float:
            self._sleep(tier)
            return self._callers.ask(1)[0]

        def fifty(number: int) -> float:
            self._sleep(tier)
            found = self._callers.ask(CALLERS)
            if number:
                many.extend(found)
            return max(found)

        sides = {"one": one, "fifty": fifty}
        if self._peers.has_podman():
            sides["peer"] = lambda _: self._peer(tier)
        found = interleaved(rounds, **sides)
        for suffix, times in (("", found["one"]), ("_50", many)):
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                peer = _quantile(found["peer"], share) if "peer" in found else None
                self._table.add(f"sleep_wake/{tier}_ms_{name}{suffix}", _quantile(times, share), peer, peer_name, "ms")

    def _sleep(self, tier: str) -> None:
        self._api.call("POST", f"/v1/sandboxes/{self._box}/sleep", {"tier": tier, "force": True})

    def _peer(self, tier: str) -> float:
        if tier == "warm":
            self._peers.ask("podman", "pause", "wake")
            return self._peers.ask("podman", "unpause_to_first_byte", "wake")
        self._peers.ask("podman", "stop", "wake")
        return self._peers.ask("podman", "start_to_first_byte", "wake")


def _quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def main() -> None:
    chosen = arguments(60, __doc__)
    warm_rounds, cold_rounds = (5, 3) if chosen.quick else (chosen.rounds, max(3, chosen.rounds // 3))
    with Served() as served, Peers() as peers:
        api = served.api()
        with base_image.archive("python3").open("rb") as archive:
            api.call("POST", f"/v1/images/upload?name={IMAGE}&wait_s=300", archive)
        box = api.create(image=IMAGE, name="wake", command=server(PORT))["id"]
        if peers.has_podman():
            peers.ask("podman", "open", str(base_image.tree()))
            try:
                tree = str(base_image.tree("python3"))
                peers.ask("podman", "serve", "wake", tree, PEER_PORT, server(PEER_PORT))
            except PeerFailed as error:
                raise SystemExit(f"podman does not serve here: {error}") from None
        table = Table("request at a URL to first byte, sandbox asleep")
        wakes = Wakes(api, Callers(served, "wake"), peers, table, box)
        wakes.measure("warm", warm_rounds, "podman unpause")
        wakes.measure("cold", cold_rounds, "podman start")
        table.print_figures()


if __name__ == "__main__":
    main()
