"""One connection to a port in a sandbox, through the API, blocking. One thread may send while another receives."""

from __future__ import annotations

import json
from collections import deque
from types import TracebackType

from skerry.client.message_socket import MessageSocket
from skerry.client.target import Target
from skerry.errors import Failed, from_wire

READY, END = "ready", "end"
"""As `skerry.model.stream` has them, repeated because importing a model costs the CLI 50 ms; a test compares them."""


class PortSocket:
    def __init__(self, messages: MessageSocket) -> None:
        self._messages = messages
        self._received: deque[str | bytes] = deque()
        self._ended = False

    @classmethod
    def connect_to(cls, target: Target, path: str) -> PortSocket:
        """When it returns the sandbox is awake and its program has taken the connection. Raises what the API says."""
        messages = MessageSocket.connect_to(target, path)
        try:
            made = cls(messages)
            refuse_all_but_ready(made._next())
        except BaseException:
            messages.close()
            raise
        return made

    def send(self, data: bytes) -> None:
        self._messages.send(data)

    def end(self) -> None:
        """We have said all we had to say; the other side may go on."""
        self._messages.send(END)

    def receive(self) -> bytes:
        """What came next; b"" when the other side has said all. Raises Unavailable when the connection broke."""
        while not self._ended:
            message = self._next()
            if message == END:
                self._ended = True
            elif isinstance(message, bytes) and message:
                return message
        return b""

    def close(self) -> None:
        self._messages.leave()
        self._messages.close()

    def __enter__(self) -> PortSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> str | bytes:
        while not self._received:
            self._received.extend(self._messages.receive())
        return self._received.popleft()


def refuse_all_but_ready(message: str | bytes) -> None:
    """Raises the error that came in place of READY."""
    if message != READY:
        try:
            raise from_wire(json.loads(message))
        except ValueError:
            raise Failed("the server's answer was not understood; are client and server of one version?") from None
