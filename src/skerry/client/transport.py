"""Calls over HTTP, blocking. Without aiohttp, which would delay each start of the CLI by 300 ms."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from skerry import __version__
from skerry.client import translate
from skerry.client.call import NOTHING, Call, Pause, Reply
from skerry.client.flows import Flow
from skerry.client.http1 import Connection, Response
from skerry.client.target import Target
from skerry.errors import Invalid, SkerryError

if TYPE_CHECKING:
    from skerry.client.exec_socket import ExecSocket
    from skerry.client.port_socket import PortSocket

T = TypeVar("T")

USER_AGENT = f"skerry/{__version__}"
CONNECT_S = 5.0
IDLE_CONNECTIONS_MAX = 8
IDLE_S = 3.0
"""Servers close idle connections (uvicorn after 5 s); an older one is not trusted with a request."""
RETRY_PAUSES_S = (0.05, 0.25)
"""Before each further attempt of a GET whose connection was refused or reset."""
CHUNK_BYTES = 256 * 1024

_BROKEN = (OSError, EOFError, ValueError)


class Transport:
    """Safe to use from several threads: each request has a connection of its own while it lasts."""

    def __init__(self, target: Target, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.target = target
        self._pause = pause
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()
        self._headers = {"User-Agent": USER_AGENT, **target.headers}

    def send(self, call: Call[T]) -> T:
        return call.parse(self.reply(call).body)

    def json(self, call: Call[Any]) -> Any:
        return self.reply(call).body

    def reply(self, call: Call[Any]) -> Reply:
        with self.stream(call) as stream:
            text = b"".join(stream)
            try:
                return Reply(stream.status, json.loads(text) if text else None)
            except ValueError as failure:
                raise translate.from_failure(failure, self.target) from None

    def run(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                if isinstance(call, Pause):
                    self._pause(call.seconds)
                    call = flow.send(NOTHING)
                    continue
                try:
                    reply = self.reply(call)
                except SkerryError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(reply)
        except StopIteration as end:
            return end.value

    def stream(self, call: Call[Any]) -> Stream:
        """The answer as it comes. Raises the typed error of an answer that is one; close it or read it to its end."""
        pauses = list(RETRY_PAUSES_S) if call.repeatable else []
        while True:
            try:
                return self._stream(call)
            except _BROKEN as failure:
                if not pauses or not isinstance(failure, ConnectionError):
                    raise translate.from_failure(failure, self.target) from None
                self._pause(pauses.pop(0))

    def exec_socket(self, path: str) -> ExecSocket:
        from skerry.client.exec_socket import ExecSocket

        return ExecSocket.connect_to(self.target, path)

    def port_socket(self, path: str) -> PortSocket:
        from skerry.client.port_socket import PortSocket

        return PortSocket.connect_to(self.target, path)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _stream(self, call: Call[Any]) -> Stream:
        connection = self._connection()
        try:
            response = self._exchange(connection, call)
            stream = Stream(self, connection, response)
            if response.status < 400:
                return stream
            text = response.read(translate.ERROR_BYTES_MAX)
        except BaseException:
            connection.close()
            raise
        stream.close()
        raise translate.from_answer(response.status, text, self.target)

    def _exchange(self, connection: Connection, call: Call[Any]) -> Response:
        connection.connect().settimeout(call.reply_s)
        headers = {**self._headers, "Accept": call.accept}
        data: Any = call.data
        if call.body is not None:
            data = json.dumps(call.body).encode()
            headers["Content-Type"] = "application/json"
        elif data is not None:
            headers["Content-Type"] = "application/octet-stream"
        try:
            connection.request(call.method, call.target, headers, data)
        except (BrokenPipeError, ConnectionResetError):
            if data is None:
                raise
            # A server that refuses a body answers and hangs up before it has read it all: the answer says why.
        return connection.response()

    def _connection(self) -> Connection:
        now = time.monotonic()
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                # Readable while nothing was asked means: closed by the server.
                if now - since < IDLE_S and not select.select([connection.connect()], [], [], 0)[0]:
                    return connection
                connection.close()
        return self._new_connection()

    def _new_connection(self) -> Connection:
        path = self.target.unix_path
        if path is not None:
            if len(path.encode()) > 107:
                raise Invalid(f"the path of a socket is at most 107 bytes: {path}", field="address")
            return Connection("localhost", lambda: _dial_unix(path))
        url = urlsplit(self.target.address)
        is_tls = url.scheme == "https"
        host, port = url.hostname or "localhost", url.port or (443 if is_tls else 80)
        return Connection(url.netloc, lambda: _dial_tls(host, port) if is_tls else _dial_tcp(host, port))

    def give_back(self, connection: Connection) -> None:
        """A stream was read to its end: its connection may serve the next call."""
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS_MAX and connection.sock is not None:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


class Stream:
    """An answer in chunks, each as soon as it is there."""

    def __init__(self, transport: Transport, connection: Connection, response: Response) -> None:
        self.status = response.status
        self.length_bytes = response.length_bytes
        """Of the whole answer, where it is told."""
        self._transport = transport
        self._connection: Connection | None = connection
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read_some():
            yield chunk

    def read_some(self) -> bytes:
        """The next bytes; b"" at the end, and after it."""
        if self._connection is None:
            return b""
        try:
            chunk = self._response.read_some(CHUNK_BYTES)
        except _BROKEN as failure:
            self.close()
            raise translate.from_failure(failure, self._transport.target) from None
        if not chunk:
            self._end()
        return chunk

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        reusable = not self._response.will_close
        if connection is not None:
            if reusable:
                self._transport.give_back(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Hang up; the server takes it as the end of our interest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._response.ended and not self._response.will_close:
                self._transport.give_back(connection)
                return
            connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _dial_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_S)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _dial_tcp(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _dial_tls(host: str, port: int) -> socket.socket:
    import ssl

    sock = _dial_tcp(host, port)
    try:
        return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
