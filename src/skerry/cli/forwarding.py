"""While a terminal in a sandbox is open, what listens there is reached on the same port here."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from skerry.client.calls import ports as calls
from skerry.client.transport import Transport
from skerry.errors import Forbidden, InUse, SkerryError

LOOK_EVERY_S = 1.0
PRIVILEGED_END = 1024
"""Below, only root may listen, and what does is the machine's own: those are reached on another port."""
FORWARDS_MAX = 32
"""At one time; a sandbox whose programs listen everywhere must not take all ports of this machine."""


@contextmanager
def forwarding(transport: Transport, sandbox: str, wanted: bool) -> Generator[None]:
    if not wanted:
        yield
        return
    watch = _Watch(transport, sandbox)
    thread = threading.Thread(target=watch.run, name="forwarding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.close()


class _Watch:
    def __init__(self, transport: Transport, sandbox: str) -> None:
        from skerry.client.forward import Forward

        self._make = Forward
        self._transport = transport
        self._sandbox = sandbox
        self._open: dict[int, Forward] = {}
        self._lock = threading.Lock()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK_EVERY_S):
            try:
                found = {item["port"] for item in self._transport.json(calls.listening(self._sandbox))["items"]}
            except SkerryError:
                continue  # the terminal says so, if it is for good
            with self._lock:
                if not self.over.is_set():
                    self._follow(found)

    def _follow(self, found: set[int]) -> None:
        for port in self._open.keys() - found:
            self._open.pop(port).close()
        for port in sorted(found - self._open.keys())[: FORWARDS_MAX - len(self._open)]:
            self._forward(port)

    def _forward(self, port: int) -> None:
        path = calls.connect_path(self._sandbox, port)
        for local in (port, 0) if port >= PRIVILEGED_END else (0,):
            try:
                forward = self._open[port] = self._make(self._transport, path, port=local)
            except (InUse, Forbidden):
                continue
            if forward.port != port:
                # The terminal is raw, so that a line must begin and end with a return of its own.
                sys.stderr.write(f"\r\nskerry: port {port} of the sandbox is 127.0.0.1:{forward.port} here\r\n")
                sys.stderr.flush()
            return

    def close(self) -> None:
        with self._lock:
            for forward in self._open.values():
                forward.close()
            self._open.clear()
