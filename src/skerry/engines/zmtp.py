"""Just enough of ZeroMQ's wire protocol (ZMTP 3.0, no security) to publish KV events as vLLM does, and to follow them.

Of the standard library alone: the simulator runs in images that have nothing but Python, and the gateway's loop reads
many of these streams. A dependency on libzmq was refused for these two hundred lines; a test speaks with the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4
FRAME_BYTES_MAX = 64 << 20
PARTS_MAX = 16
BEHIND_BYTES_MAX = 16 << 20
"""Who has not read so much misses what comes, as ZeroMQ's subscribers do."""
REPLAY_MAX = 10_000
"""Messages that are kept for those who missed some."""
END = (-1).to_bytes(8, "big", signed=True)
HANDSHAKE_S = 10.0


class ProtocolError(ValueError):
    """The other side does not speak ZMTP 3, or sends more than is allowed."""


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > 255:
        return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body
    return bytes((flags, len(body))) + body


def message(parts: Sequence[bytes]) -> bytes:
    return b"".join(frame(part, MORE if at + 1 < len(parts) else 0) for at, part in enumerate(parts))


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    flags = (await reader.readexactly(1))[0]
    size = int.from_bytes(await reader.readexactly(8 if flags & LONG else 1), "big")
    if size > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {size} bytes")
    return flags, await reader.readexactly(size)


async def read(reader: asyncio.StreamReader) -> list[bytes]:
    """The parts of the next message; commands are passed over."""
    parts: list[bytes] = []
    while True:
        flags, body = await _frame(reader)
        if flags & COMMAND:
            continue
        parts.append(body)
        if not flags & MORE:
            return parts
        if len(parts) > PARTS_MAX:
            raise ProtocolError(f"a message of more than {PARTS_MAX} parts")


async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
    """Both sides greet each other and say what kind of socket they are."""
    async with asyncio.timeout(HANDSHAKE_S):
        writer.write(GREETING)
        greeting = await reader.readexactly(64)
        if greeting[0] != 0xFF or greeting[9] != 0x7F or greeting[10] < 3 or greeting[12:16] != b"NULL":
            raise ProtocolError("not ZMTP 3 without security")
        properties = b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind.encode()
        writer.write(frame(b"\x05READY" + properties, COMMAND))
        flags, body = await _frame(reader)
        if not flags & COMMAND or not body.startswith(b"\x05READY"):
            raise ProtocolError("no READY")


class Publisher:
    """Messages of (topic, number of 8 bytes, payload), numbered from 0."""

    def __init__(self) -> None:
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=REPLAY_MAX)
        self._followers: dict[asyncio.StreamWriter, set[bytes]] = {}
        self._servers: list[asyncio.Server] = []

    @property
    def followers(self) -> int:
        """That want something."""
        return sum(bool(topics) for topics in self._followers.values())

    async def listen(self, host: str, port: int, replay_port: int) -> tuple[int, int]:
        """Where a port is 0, one that is free; which they are."""
        self._servers = [
            await asyncio.start_server(self._follow, host, port),
            await asyncio.start_server(self._replay, host, replay_port),
        ]
        first, second = (int(server.sockets[0].getsockname()[1]) for server in self._servers)
        return first, second

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in list(self._followers):
            writer.transport.abort()

    def publish(self, topic: bytes, payload: bytes) -> None:
        number = self._number.to_bytes(8, "big")
        self._kept.append((self._number, payload))
        self._number += 1
        data = message((topic, number, payload))
        for writer, topics in self._followers.items():
            behind = writer.transport.get_write_buffer_size()
            if behind < BEHIND_BYTES_MAX and any(topic.startswith(wanted) for wanted in topics):
                writer.write(data)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ProtocolError, TimeoutError):
            await shake(reader, writer, "PUB")
            topics = self._followers[writer] = set()
            while True:
                for part in await read(reader):
                    if part[:1] == b"\x01":
                        topics.add(part[1:])
                    elif part[:1] == b"\x00":
                        topics.discard(part[1:])
        self._followers.pop(writer, None)
        writer.close()

    async def _replay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Who asks with a number gets what is kept from that on, then an end."""
        with contextlib.suppress(OSError, EOFError, ProtocolError, TimeoutError):
            await shake(reader, writer, "ROUTER")
            while True:
                since = int.from_bytes((await read(reader))[-1], "big")
                for number, payload in list(self._kept):
                    if number >= since:
                        writer.write(message((b"", number.to_bytes(8, "big"), payload)))
                        await writer.drain()
                writer.write(message((b"", END, b"")))
        writer.close()


async def follow(host: str, port: int, topic: bytes = b"") -> AsyncGenerator[tuple[int, bytes]]:
    """(number, payload) of each message. Ends with OSError or EOFError when the publisher goes; who missed a number
    asks `replay` for it."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await shake(reader, writer, "SUB")
        writer.write(frame(b"\x01" + topic))
        while True:
            parts = await read(reader)
            if len(parts) == 3:
                yield int.from_bytes(parts[1], "big"), parts[2]
    finally:
        writer.close()


async def replay(host: str, port: int, since: int) -> AsyncGenerator[tuple[int, bytes]]:
    """What the publisher has kept from that number on."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await shake(reader, writer, "DEALER")
        writer.write(message((b"", since.to_bytes(8, "big"))))
        while True:
            number, payload = (await read(reader))[-2:]
            if number == END:
                return
            yield int.from_bytes(number, "big"), payload
    finally:
        writer.close()
