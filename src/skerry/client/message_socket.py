"""Messages over a WebSocket, blocking: sent from one thread while another receives.

The protocol is the websockets library's, without its threads: its own sync connection holds one lock while it sends,
so a peer that answers with more than the buffers hold would stop both sides for good; and it drops what came together
with the server's goodbye.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from skerry.client import translate, wire
from skerry.client.target import Target
from skerry.client.transport import CONNECT_S, USER_AGENT
from skerry.errors import DeadlineExceeded

OPEN_S = 60.0
READ_BYTES = 256 * 1024


class MessageSocket:
    """Text comes as str, bytes as bytes."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol, target: Target) -> None:
        self._socket = sock
        self._protocol = protocol
        self._target = target
        self._lock = threading.Lock()  # held for calls that cannot block
        self._unsent = bytearray()
        self._parts: list[bytes] = []
        self._is_text = False
        # What the server sent in one piece with its handshake.
        self._early = self._messages(protocol.events_received())

    @classmethod
    def connect_to(cls, target: Target, path: str, subprotocols: Sequence[str] = ()) -> Self:
        host = "localhost" if target.unix_path is not None else urlsplit(target.address).netloc
        scheme = "wss" if target.address.startswith("https:") else "ws"
        protocol = ClientProtocol(
            parse_uri(f"{scheme}://{host}{path}"),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=wire.FRAME_BYTES_MAX,
        )
        try:
            sock = _connected(target)
        except (OSError, EOFError) as failure:
            raise translate.from_failure(failure, target) from None
        try:
            _shake_hands(sock, protocol, target)
            sock.setblocking(False)
        except (OSError, EOFError) as failure:
            sock.close()
            raise translate.from_failure(failure, target) from None
        except BaseException:
            sock.close()
            raise
        return cls(sock, protocol, target)

    def send(self, message: str | bytes) -> None:
        """Waits while the other side does not read; quiet when it has gone, which whoever receives is told."""
        with self._lock:
            if self._protocol.state is not State.OPEN:
                return
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
            self._unsent += b"".join(self._protocol.data_to_send())
        try:
            while not self._flush():
                select.select([], [self._socket], [])
        except (OSError, ValueError):
            return

    def receive(self, timeout_s: float | None = None) -> list[str | bytes]:
        """The whole messages that came, after waiting for something to come; may be none. Raises DeadlineExceeded, and
        the error of a connection that ended."""
        if self._early:
            early, self._early = self._early, []
            return early
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left_s = timeout_s
        if getattr(self._socket, "pending", int)():
            left_s = 0  # TLS holds decrypted bytes that select knows nothing of
        ready = select.select([self._socket], [self._socket] if self._unsent else [], [], left_s)
        if not any(ready) and deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded("nothing came in time")
        with self._lock:
            data = self._read()
            if data == b"":
                self._protocol.receive_eof()
            elif data:
                self._protocol.receive_data(data)
            events = self._protocol.events_received()
            self._unsent += b"".join(self._protocol.data_to_send())
        messages = self._messages(events)
        try:
            self._flush()
        except OSError:
            # A goodbye that nobody waits for any more; what came before it counts.
            pass
        if data == b"" and not messages:
            code, reason = self._protocol.close_code, self._protocol.close_reason
            raise translate.from_close(code or 1006, reason or "", self._target)
        return messages

    def leave(self) -> None:
        """From another thread: whoever receives is told that it is over."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def close(self) -> None:
        with self._lock:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._unsent += b"".join(self._protocol.data_to_send())
        try:
            self._flush()
        except OSError:
            pass
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> bool:
        """Send what can be sent without waiting; whether that was all."""
        with self._lock:
            while self._unsent:
                try:
                    sent = self._socket.send(self._unsent)
                except OSError as failure:
                    if _would_block(failure):
                        return False
                    self._unsent.clear()
                    raise
                del self._unsent[:sent]
            return True

    def _read(self) -> bytes | None:
        """None: nothing yet; b"": the end, however it came."""
        try:
            return self._socket.recv(READ_BYTES)
        except OSError as failure:
            return None if _would_block(failure) else b""

    def _messages(self, events: list[Any]) -> list[str | bytes]:
        whole: list[str | bytes] = []
        for event in events:
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is not Opcode.CONT:
                    self._is_text = event.opcode is Opcode.TEXT
                self._parts.append(bytes(event.data))
                if event.fin:
                    data = b"".join(self._parts)
                    whole.append(data.decode(errors="replace") if self._is_text else data)
                    self._parts = []
        return whole


def _connected(target: Target) -> socket.socket:
    path = target.unix_path
    if path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return sock
    url = urlsplit(target.address)
    host = url.hostname or "localhost"
    sock = socket.create_connection((host, url.port or (443 if url.scheme == "https" else 80)), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if url.scheme != "https":
        return sock
    import ssl

    return ssl.create_default_context().wrap_socket(sock, server_hostname=host)


def _shake_hands(sock: socket.socket, protocol: ClientProtocol, target: Target) -> None:
    request = protocol.connect()
    request.headers["User-Agent"] = USER_AGENT
    for name, value in target.headers.items():
        request.headers[name] = value
    protocol.send_request(request)
    sock.settimeout(OPEN_S)
    sock.sendall(b"".join(protocol.data_to_send()))
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        data = sock.recv(READ_BYTES)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    refusal = protocol.handshake_exc
    if isinstance(refusal, InvalidStatus):
        answer = refusal.response
        raise translate.from_answer(answer.status_code, bytes(answer.body or b""), target)
    if refusal is not None:
        raise translate.from_failure(ValueError(str(refusal)), target)


def _would_block(failure: OSError) -> bool:
    # TLS says it in its own words (SSLWantReadError, SSLWantWriteError), whose names spare us its import.
    return isinstance(failure, BlockingIOError) or type(failure).__name__.startswith("SSLWant")
