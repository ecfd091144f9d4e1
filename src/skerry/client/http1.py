"""HTTP/1.1 as far as our server speaks it. http.client would bring the e-mail parser and TLS into every start of the
CLI: 24 ms of the 75 that `skerry exec` then took."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

LINE_BYTES_MAX = 65_536
HEADERS_MAX = 100
SEND_BYTES = 64 * 1024
BODILESS = (204, 304)
_BYTES = (bytes, bytearray, memoryview)

Body = bytes | bytearray | memoryview | Iterable[bytes] | None


class Connection:
    """One request at a time. Raises OSError, EOFError where the answer breaks off, ValueError where it is no HTTP."""

    def __init__(self, host: str, dial: Callable[[], socket.socket]) -> None:
        self._host = host
        self._dial = dial
        self._reader: Any = None
        self.sock: socket.socket | None = None

    def connect(self) -> socket.socket:
        if self.sock is None:
            self.sock = self._dial()
            self._reader = self.sock.makefile("rb")
        return self.sock

    def request(self, method: str, target: str, headers: Mapping[str, str], body: Body) -> None:
        sock = self.connect()
        whole = b"" if body is None else body if isinstance(body, _BYTES) else None
        lines = {"Host": self._host, "Accept-Encoding": "identity", **headers}
        if whole is None:
            lines["Transfer-Encoding"] = "chunked"
        elif whole or method != "GET":
            lines["Content-Length"] = str(len(whole))
        head = _head(f"{method} {target} HTTP/1.1", lines)
        if whole is not None and len(whole) <= SEND_BYTES:
            sock.sendall(head + whole)
            return
        sock.sendall(head)
        for part in _parts(body):
            sock.sendall(part)

    def response(self) -> Response:
        while True:
            version, status = _status(_line(self._reader, first=True))
            headers = _headers(self._reader)
            if status >= 200:
                return Response(self._reader, status, headers, keeps=version == b"HTTP/1.1")

    def close(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # a reader in another thread learns of it, too
            sock.close()
            self._reader.close()


class Response:
    def __init__(self, reader: Any, status: int, headers: Mapping[bytes, bytes], *, keeps: bool) -> None:
        self._reader = reader
        self.status = status
        self._chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._left: int | None = None
        """Of the body, or of the chunk; None: until the connection ends."""
        if self._chunked or status in BODILESS:
            self._left = 0
        elif (length := headers.get(b"content-length")) is not None:
            self._left = int(length)
        self.length_bytes = None if self._chunked else self._left
        self.ended = not self._chunked and self._left == 0
        self._inside = False
        self.will_close = not keeps or headers.get(b"connection", b"").lower() == b"close" or self._left is None

    def read_some(self, bytes_max: int) -> bytes:
        """What is there, as soon as anything is; b"" at the end."""
        if not self.ended and self._chunked and self._left == 0:
            self._next_chunk()
        if self.ended:
            return b""
        data: bytes = self._reader.read1(bytes_max if self._left is None else min(bytes_max, self._left))
        if self._left is None:
            self.ended = not data
            return data
        if not data:
            raise EOFError(f"{self._left} bytes are missing")
        self._left -= len(data)
        self.ended = not self._chunked and self._left == 0
        return data

    def read(self, bytes_max: int) -> bytes:
        parts: list[bytes] = []
        while bytes_max > 0 and (part := self.read_some(bytes_max)):
            parts.append(part)
            bytes_max -= len(part)
        return b"".join(parts)

    def _next_chunk(self) -> None:
        if self._inside:
            _line(self._reader)  # the end of the chunk before
        self._left = int(_line(self._reader).partition(b";")[0], 16)
        self._inside = True
        if self._left == 0:
            _headers(self._reader)
            self.ended = True


def _head(first: str, headers: Mapping[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isprintable() for line in lines) or first.count(" ") != 2:
        raise ValueError("a request has no line breaks in its head")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _parts(body: Any) -> Iterator[bytes | memoryview]:
    if isinstance(body, _BYTES):
        view = memoryview(cast(bytes, body))
        yield from (view[at : at + SEND_BYTES] for at in range(0, len(view), SEND_BYTES))
        return
    pieces: Iterable[bytes] = iter(lambda: body.read(SEND_BYTES), b"") if hasattr(body, "read") else body
    for piece in pieces:
        if piece:
            yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def _line(reader: Any, *, first: bool = False) -> bytes:
    line: bytes = reader.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        if len(line) >= LINE_BYTES_MAX:
            raise ValueError("a line of the answer is too long")
        if first and not line:
            raise ConnectionResetError("closed without an answer")
        raise EOFError("the answer ends in the middle")
    return line.rstrip(b"\r\n")


def _status(line: bytes) -> tuple[bytes, int]:
    version, _, rest = line.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise ValueError("the answer is no HTTP")
    return version, int(rest[:3])


def _headers(reader: Any) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for _ in range(HEADERS_MAX):
        line = _line(reader)
        if not line:
            return found
        name, _, value = line.partition(b":")
        found[name.strip().lower()] = value.strip()
    raise ValueError("the answer has too many headers")
