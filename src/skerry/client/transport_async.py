"""Calls over HTTP on asyncio, with aiohttp: the same calls, flows and errors as the blocking transport."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from skerry.client import translate
from skerry.client.call import NOTHING, Call, Data, Pause, Reply
from skerry.client.exec_socket_async import AsyncExecSocket
from skerry.client.flows import Flow
from skerry.client.port_socket_async import AsyncPortSocket
from skerry.client.target import Target
from skerry.client.transport import CHUNK_BYTES, CONNECT_S, IDLE_S, RETRY_PAUSES_S, USER_AGENT
from skerry.errors import SkerryError

T = TypeVar("T")

CONNECTIONS_MAX = 256


class AsyncTransport:
    """Belongs to the event loop of its first call."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._session: aiohttp.ClientSession | None = None

    async def send(self, call: Call[T]) -> T:
        return call.parse((await self.reply(call)).body)

    async def json(self, call: Call[Any]) -> Any:
        return (await self.reply(call)).body

    async def reply(self, call: Call[Any]) -> Reply:
        async with await self.stream(call) as stream:
            text = b"".join([chunk async for chunk in stream])
            try:
                return Reply(stream.status, json.loads(text) if text else None)
            except ValueError as failure:
                raise translate.from_failure(failure, self.target) from None

    async def run(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                if isinstance(call, Pause):
                    await asyncio.sleep(call.seconds)
                    call = flow.send(NOTHING)
                    continue
                try:
                    reply = await self.reply(call)
                except SkerryError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(reply)
        except StopIteration as end:
            return end.value

    async def stream(self, call: Call[Any]) -> AsyncStream:
        """The answer as it comes. Raises the typed error of an answer that is one; close it or read it to its end."""
        pauses = list(RETRY_PAUSES_S) if call.repeatable else []
        while True:
            try:
                return await self._stream(call)
            except (aiohttp.ClientError, OSError, ValueError) as failure:
                plain = plain_failure(failure)
                if not pauses or not isinstance(plain, ConnectionError):
                    raise translate.from_failure(plain, self.target) from None
                await asyncio.sleep(pauses.pop(0))

    async def exec_socket(self, path: str) -> AsyncExecSocket:
        try:
            return await AsyncExecSocket.connect_to(self._open(), self.target, f"{self._base}{path}")
        except (aiohttp.ClientError, OSError) as failure:
            raise translate.from_failure(plain_failure(failure), self.target) from None

    async def port_socket(self, path: str) -> AsyncPortSocket:
        try:
            return await AsyncPortSocket.connect_to(self._open(), self.target, f"{self._base}{path}")
        except (aiohttp.ClientError, OSError) as failure:
            raise translate.from_failure(plain_failure(failure), self.target) from None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def _base(self) -> str:
        return "http://localhost" if self.target.unix_path is not None else self.target.address

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            path = self.target.unix_path
            options: dict[str, Any] = {"limit": CONNECTIONS_MAX, "keepalive_timeout": IDLE_S}
            connector = aiohttp.UnixConnector(path, **options) if path else aiohttp.TCPConnector(**options)
            headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **self.target.headers}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers)
            # aiohttp would send PUT and DELETE anew by itself, which is ours to decide; its own tests switch it off so.
            setattr(self._session, "_retry_connection", False)  # noqa: B010
        return self._session

    async def _stream(self, call: Call[Any]) -> AsyncStream:
        headers = {"Accept": call.accept}
        data: Any = None
        if call.body is not None:
            data = json.dumps(call.body).encode()
            headers["Content-Type"] = "application/json"
        elif call.data is not None:
            data = _async_data(call.data)
            headers["Content-Type"] = "application/octet-stream"
        response = await self._open().request(
            call.method,
            URL(f"{self._base}{call.target}", encoded=True),
            data=data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=call.reply_s),
            allow_redirects=False,
        )
        if response.status < 400:
            return AsyncStream(response, self.target)
        try:
            text = await response.content.read(translate.ERROR_BYTES_MAX)
        finally:
            response.release()
        raise translate.from_answer(response.status, text, self.target)


class AsyncStream:
    """An answer in chunks, each as soon as it is there."""

    def __init__(self, response: aiohttp.ClientResponse, target: Target) -> None:
        self.status = response.status
        self._response = response
        self._target = target

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read_some():
            yield chunk

    async def read_some(self) -> bytes:
        """The next bytes; b"" at the end, and after it."""
        try:
            content = self._response.content
            chunk = await content.readany()
            while not chunk and not content.at_eof():
                chunk = await content.readany()
            return chunk
        except (aiohttp.ClientError, OSError) as failure:
            raise translate.from_failure(plain_failure(failure), self._target) from None

    async def close(self) -> None:
        """Hang up; the server takes it as the end of our interest."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def plain_failure(failure: Exception) -> Exception:
    """aiohttp's failure as the standard library would name it, so that one table serves both transports."""
    match failure:
        case aiohttp.ClientConnectorError():
            inner = failure.os_error
            kinds = {error.errno: error for error in getattr(inner, "exceptions", ())}
            return next(iter(kinds.values()), inner)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return ConnectionResetError(str(failure))
        case aiohttp.ServerTimeoutError():
            return TimeoutError(str(failure))
        case aiohttp.ClientResponseError():
            return ValueError(str(failure))
        case _:
            return failure


async def _pulled(data: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A blocking source, such as the files of a tree, read in a thread."""
    source = iter(data)
    while (chunk := await asyncio.to_thread(next, source, None)) is not None:
        yield chunk


def _async_data(data: Data) -> Any:
    if isinstance(data, bytes):
        return data if len(data) <= CHUNK_BYTES else io.BytesIO(data)
    return data if isinstance(data, AsyncIterable) else _pulled(data)
