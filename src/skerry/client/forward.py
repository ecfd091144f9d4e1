"""A port of this machine that leads to one in a sandbox, through the API. Blocking: threads do the work.

with sandbox.forward(5432) as forward:
    connect("127.0.0.1", forward.port)
"""

from __future__ import annotations

import errno
import socket
import threading
from types import TracebackType

from skerry.client.port_socket import PortSocket
from skerry.client.transport import Transport
from skerry.errors import Forbidden, InUse, SkerryError, Unavailable

READ_BYTES = 64 * 1024
CONNECTIONS_MAX = 128
"""At one time; each is two threads. Further ones wait in the kernel's queue."""
FULL_S = 0.5
"""Pause after an accept that failed: trying again at once would only burn the processor."""


class Forward:
    """Until it is closed, whoever connects to `address`:`port` talks to a program in the sandbox, and wakes that."""

    def __init__(self, transport: Transport, path: str, *, port: int = 0, address: str = "127.0.0.1") -> None:
        """`path`: the API's, of the port in the sandbox. `port` 0: a free one. Raises InUse."""
        self._transport = transport
        self._path = path
        self._listening = listen(address, port)
        self.address: str = address
        self.port: int = self._listening.getsockname()[1]
        self.problem: SkerryError | None = None
        """Why the last connection could not be made; None after one that could."""
        self._open: set[_Connection] = set()
        self._seats = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="forward", daemon=True).start()

    def close(self) -> None:
        """Connections through it end."""
        self._closed.set()
        try:
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        except OSError:
            pass
        self._listening.close()
        for connection in list(self._open):
            connection.cut()

    def __enter__(self) -> Forward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._seats.acquire()
            try:
                caller, _ = self._listening.accept()
            except OSError:  # closed, or this program has no file descriptors left now
                self._seats.release()
                self._closed.wait(FULL_S)
                continue
            threading.Thread(target=self._serve, args=(caller,), name="forward", daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            try:
                self._converse(caller)
            except SkerryError as error:  # said before the caller is let go: whoever sees that may ask why
                self.problem = error
            except OSError:
                pass
            finally:
                self._seats.release()

    def _converse(self, caller: socket.socket) -> None:
        with self._transport.port_socket(self._path) as inside:
            self.problem = None
            connection = _Connection(caller, inside)
            self._open.add(connection)
            try:
                connection.pump()
            finally:
                self._open.discard(connection)


class _Connection:
    def __init__(self, caller: socket.socket, inside: PortSocket) -> None:
        self._caller = caller
        self._inside = inside

    def pump(self) -> None:
        upward = threading.Thread(target=self._up, name="forward", daemon=True)
        upward.start()
        try:
            while data := self._inside.receive():
                self._caller.sendall(data)
            self._caller.shutdown(socket.SHUT_WR)
            upward.join()
        finally:
            self.cut()
            upward.join()

    def _up(self) -> None:
        try:
            while data := self._caller.recv(READ_BYTES):
                self._inside.send(data)
        except OSError:
            self._inside.close()  # it broke off: the program in the sandbox is told so
            return
        self._inside.end()

    def cut(self) -> None:
        try:
            self._caller.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def listen(address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise refusal(address, port, error) from None


def refusal(address: str, port: int, error: OSError) -> SkerryError:
    """The error of a port of this machine that cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return InUse(f"a program of this machine listens on {address}:{port} already; choose another port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Forbidden(f"you may not listen on {address}:{port}; choose a port from 1024 on")
    return Unavailable(f"cannot listen on {address}:{port}: {error.strerror}")
