"""A port of this machine that leads to one in a sandbox, through the API. On asyncio.

async with await sandbox.forward(5432) as forward:
    await connect("127.0.0.1", forward.port)
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from skerry.client.forward import CONNECTIONS_MAX, READ_BYTES, listen
from skerry.client.port_socket_async import AsyncPortSocket
from skerry.client.transport_async import AsyncTransport
from skerry.errors import SkerryError


class AsyncForward:
    """Until it is closed, whoever connects to `address`:`port` talks to a program in the sandbox, and wakes that."""

    def __init__(self, transport: AsyncTransport, path: str, *, port: int = 0, address: str = "127.0.0.1") -> None:
        """`path`: the API's, of the port in the sandbox. `port` 0: a free one. Raises InUse. `open` begins it."""
        self._transport = transport
        self._path = path
        self._listening = listen(address, port)
        self.address: str = address
        self.port: int = self._listening.getsockname()[1]
        self.problem: SkerryError | None = None
        """Why the last connection could not be made; None after one that could."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._seats = asyncio.Semaphore(CONNECTIONS_MAX)

    async def _begin(self) -> AsyncForward:
        self._server = await asyncio.start_server(self._came, sock=self._listening)
        return self

    async def close(self) -> None:
        """Connections through it end."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    async def __aenter__(self) -> AsyncForward:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._seats, await self._transport.port_socket(self._path) as inside:
                self.problem = None
                upward = asyncio.ensure_future(_up(reader, inside))
                try:
                    while data := await inside.receive():
                        writer.write(data)
                        await writer.drain()
                    writer.write_eof()
                    await upward
                finally:
                    upward.cancel()
                    await asyncio.gather(upward, return_exceptions=True)
        except SkerryError as error:
            self.problem = error
        except OSError:
            pass
        finally:
            writer.close()


async def _up(reader: asyncio.StreamReader, inside: AsyncPortSocket) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            await inside.send(data)
    except OSError:
        await inside.close()  # it broke off: the program in the sandbox is told so
        return
    await inside.end()


async def begin(transport: AsyncTransport, path: str, *, port: int, address: str) -> AsyncForward:
    return await AsyncForward(transport, path, port=port, address=address)._begin()  # pyright: ignore[reportPrivateUsage]
