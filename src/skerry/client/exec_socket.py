"""Interactive exec over a WebSocket, blocking: what is typed goes in, what is printed comes out, the exit ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from skerry.client import wire
from skerry.client.message_socket import MessageSocket
from skerry.client.target import Target
from skerry.errors import DeadlineExceeded, SkerryError


class ExecSocket:
    """Messages may be sent from one thread while another reads `frames`: neither ever waits for the other."""

    def __init__(self, messages: MessageSocket) -> None:
        self._messages = messages
        self._left = False

    @classmethod
    def connect_to(cls, target: Target, path: str) -> ExecSocket:
        return cls(MessageSocket.connect_to(target, path, [wire.SUBPROTOCOL]))

    def send_spec(self, body: dict[str, Any]) -> None:
        self._messages.send(json.dumps(body))

    def send_stdin(self, data: bytes) -> None:
        """Waits while the command does not read; large input belongs in a thread of its own."""
        self._messages.send(wire.stdin_message(data))

    def close_stdin(self) -> None:
        self._messages.send(wire.CLOSE_STDIN)

    def resize(self, rows: int, columns: int) -> None:
        self._messages.send(wire.resize_message(rows, columns))

    def frames(self, timeout_s: float | None = None) -> Iterator[wire.Frame]:
        """(channel, payload) of stdout, stderr and, last, exit; no exit after `leave`. Raises DeadlineExceeded after
        `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                messages = self._messages.receive(left_s)
            except DeadlineExceeded:
                raise DeadlineExceeded(f"the command has not ended after {timeout_s:g} s; it goes on") from None
            except SkerryError:
                if self._left:
                    return
                raise
            for message in messages:
                frame = wire.split_message(message)
                yield frame
                if frame[0] == wire.EXIT:
                    return

    def leave(self) -> None:
        """From another thread: `frames` ends now, whatever the command does."""
        self._left = True
        self._messages.leave()

    def close(self) -> None:
        """Ends a command that is not detached."""
        self._messages.close()

    def __enter__(self) -> ExecSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
