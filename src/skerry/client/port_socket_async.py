"""One connection to a port in a sandbox, through the API, on asyncio; the messages are those of the blocking one."""

from __future__ import annotations

from types import TracebackType

import aiohttp

from skerry.client import translate, wire
from skerry.client.port_socket import END, refuse_all_but_ready
from skerry.client.target import Target


class AsyncPortSocket:
    """One task may send while another receives."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse, target: Target) -> None:
        self._connection = connection
        self._target = target
        self._ended = False

    @classmethod
    async def connect_to(cls, session: aiohttp.ClientSession, target: Target, url: str) -> AsyncPortSocket:
        try:
            connection = await session.ws_connect(url, max_msg_size=wire.FRAME_BYTES_MAX, compress=0)
        except aiohttp.WSServerHandshakeError as failure:
            raise translate.from_answer(failure.status, b"", target) from None
        try:
            made = cls(connection, target)
            refuse_all_but_ready(await made._next())
        except BaseException:
            await connection.close()
            raise
        return made

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send_bytes(data)
        except ConnectionError:  # whoever receives is told
            return

    async def end(self) -> None:
        """We have said all we had to say; the other side may go on."""
        try:
            await self._connection.send_str(END)
        except ConnectionError:
            return

    async def receive(self) -> bytes:
        """What came next; b"" when the other side has said all. Raises Unavailable when the connection broke."""
        while not self._ended:
            message = await self._next()
            if message == END:
                self._ended = True
            elif isinstance(message, bytes) and message:
                return message
        return b""

    async def close(self) -> None:
        await self._connection.close()

    async def __aenter__(self) -> AsyncPortSocket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _next(self) -> str | bytes:
        message = await self._connection.receive()
        if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            reason = message.extra if isinstance(message.extra, str) else ""
            raise translate.from_close(self._connection.close_code or 1006, reason, self._target)
        return message.data
