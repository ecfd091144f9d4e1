"""The byte formats of streams: lines of JSON, frames of exec output, messages of the exec WebSocket. Pure.

The channel numbers are those of `skerry.model.exec`, repeated because importing it costs the CLI pydantic (50 ms);
a test holds the two together.
"""

from __future__ import annotations

import json
from typing import Any

from skerry.errors import Failed, from_wire

STDIN, STDOUT, STDERR, EXIT, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
STREAM_TYPE = "application/vnd.skerry.stream"
SUBPROTOCOL = "v5.channel.k8s.io"

FRAME_BYTES_MAX = 64 * 1024**2
LINE_BYTES_MAX = 16 * 1024**2

Frame = tuple[int, bytes]


class Frames:
    """Cuts a byte stream into (channel, payload)."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        held = self._held
        held += chunk
        frames: list[Frame] = []
        start = 0
        while len(held) - start >= 8:
            length = int.from_bytes(held[start + 4 : start + 8], "big")
            if length > FRAME_BYTES_MAX:
                raise Failed("the server sent a frame that is too large; are client and server of one version?")
            if len(held) - start - 8 < length:
                break
            payload = bytes(held[start + 8 : start + 8 + length])
            if held[start] == EXIT:
                _refuse_error(payload)
            frames.append((held[start], payload))
            start += 8 + length
        del held[:start]
        return frames


class Lines:
    """Cuts a byte stream into the JSON objects of its lines."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> list[Any]:
        *whole, self._held = (self._held + chunk).split(b"\n")
        if len(self._held) > LINE_BYTES_MAX:
            raise Failed("the server sent a line that is too long; are client and server of one version?")
        return [json.loads(line) for line in whole if line.strip()]


def stdin_message(data: bytes) -> bytes:
    return bytes((STDIN,)) + data


CLOSE_STDIN = bytes((CLOSE, STDIN))


def resize_message(rows: int, columns: int) -> bytes:
    return bytes((RESIZE,)) + json.dumps({"rows": rows, "columns": columns}).encode()


def split_message(message: str | bytes) -> Frame:
    """Raises the typed error of a command that could not be started: it comes in place of an exit."""
    data = message.encode() if isinstance(message, str) else message
    if not data:
        raise Failed("the server sent an empty message; are client and server of one version?")
    if data[0] == EXIT and b'"error"' in data:
        # The command could not even be started: said after the handshake, since the spec comes after it.
        raise from_wire(json.loads(data[1:]))
    if data[0] == EXIT:
        _refuse_error(data[1:])
    return data[0], data[1:]


def _refuse_error(payload: bytes) -> None:
    end: Any = json.loads(payload)
    if end.get("error"):
        raise from_wire(end)
