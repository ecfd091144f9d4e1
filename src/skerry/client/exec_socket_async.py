"""Interactive exec over a WebSocket on asyncio; the messages are those of the blocking one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import aiohttp

from skerry.client import translate, wire
from skerry.client.target import Target
from skerry.errors import DeadlineExceeded


class AsyncExecSocket:
    """One task may send while another reads `frames`."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse, target: Target) -> None:
        self._connection = connection
        self._target = target

    @classmethod
    async def connect_to(cls, session: aiohttp.ClientSession, target: Target, url: str) -> AsyncExecSocket:
        try:
            connection = await session.ws_connect(url, protocols=[wire.SUBPROTOCOL], max_msg_size=wire.FRAME_BYTES_MAX)
        except aiohttp.WSServerHandshakeError as failure:
            raise translate.from_answer(failure.status, b"", target) from None
        return cls(connection, target)

    async def send_spec(self, body: dict[str, Any]) -> None:
        await self._send(json.dumps(body))

    async def send_stdin(self, data: bytes) -> None:
        await self._send(wire.stdin_message(data))

    async def close_stdin(self) -> None:
        await self._send(wire.CLOSE_STDIN)

    async def resize(self, rows: int, columns: int) -> None:
        await self._send(wire.resize_message(rows, columns))

    async def frames(self, timeout_s: float | None = None) -> AsyncIterator[wire.Frame]:
        """(channel, payload) of stdout, stderr and, last, exit. Raises DeadlineExceeded after `timeout_s`."""
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await self._connection.receive()
            except TimeoutError:
                raise DeadlineExceeded(f"the command has not ended after {timeout_s:g} s; it goes on") from None
            if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                reason = message.extra if isinstance(message.extra, str) else ""
                raise translate.from_close(self._connection.close_code or 1006, reason, self._target)
            frame = wire.split_message(message.data)
            yield frame
            if frame[0] == wire.EXIT:
                return

    async def close(self) -> None:
        """Ends a command that is not detached."""
        await self._connection.close()

    async def __aenter__(self) -> AsyncExecSocket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                await self._connection.send_str(message)
            else:
                await self._connection.send_bytes(message)
        except ConnectionError:
            # The command ended meanwhile; whoever reads the frames learns how.
            return
