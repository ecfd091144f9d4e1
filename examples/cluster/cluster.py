"""A cluster in one file: `server` hands out ranges to count primes in, `agent SERVER` asks for work until stopped.

`status SERVER` prints who has joined and what they have counted; it ends with code 0 once all the work is done."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RANGES = [(start, start + 5000) for start in range(0, 200_000, 5000)]
TAKEN_S_MAX = 10.0
"""Work that an agent took and did not finish is given to another after so long."""


class Board:
    """Who is there and what is done; asked by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._agents: dict[str, int] = {}

    def join(self, name: str) -> None:
        with self._lock:
            self._agents.setdefault(name, 0)

    def take(self) -> int | None:
        with self._lock:
            for number in range(len(RANGES)):
                waited_s = time.monotonic() - self._taken.get(number, -TAKEN_S_MAX)
                if number not in self._counts and waited_s >= TAKEN_S_MAX:
                    self._taken[number] = time.monotonic()
                    return number
        return None

    def finish(self, agent: str, number: int, count: int) -> None:
        with self._lock:
            if number not in self._counts:
                self._counts[number] = count
                self._agents[agent] = self._agents.get(agent, 0) + 1

    def status(self) -> dict[str, object]:
        with self._lock:
            done = len(self._counts) == len(RANGES)
            return {
                "agents": dict(self._agents),
                "done": len(self._counts),
                "of": len(RANGES),
                "primes": sum(self._counts.values()) if done else None,
            }


def serve() -> None:
    board = Board()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(board.status())

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/join":
                board.join(asked["agent"])
            elif self.path == "/finish":
                board.finish(asked["agent"], asked["number"], asked["count"])
            self._answer({"number": board.take()} if self.path == "/take" else {})

        def _answer(self, body: dict[str, object]) -> None:
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            return

    ThreadingHTTPServer(("", 8000), Handler).serve_forever()


def ask(server: str, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(server + path, data), timeout=5) as answer:
        return json.load(answer)


def work(server: str) -> None:
    name = socket.gethostname()
    while True:
        try:
            ask(server, "/join", {"agent": name})
            number = ask(server, "/take", {})["number"]
            if number is None:
                time.sleep(0.5)
                continue
            low, high = RANGES[number]
            count = sum(1 for each in range(max(2, low), high) if all(each % by for by in range(2, int(each**0.5) + 1)))
            ask(server, "/finish", {"agent": name, "number": number, "count": count})
        except (OSError, urllib.error.URLError) as error:
            print(f"{server} does not answer: {error}")
            time.sleep(0.5)


def status(server: str) -> int:
    found = ask(server, "/")
    print(json.dumps(found))
    return 0 if found["done"] == found["of"] else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            serve()
        case ["agent", address]:
            work(address)
        case ["status", address]:
            sys.exit(status(address))
        case _:
            sys.exit(__doc__)
