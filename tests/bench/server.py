"""A server that knows to the moment what it sent."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from pathlib import Path
from time import monotonic
from typing import Any

FIRST_S, EACH_S, TOKENS = 0.03, 0.01, 4
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """Streams so many tokens at known distances, and fails every `fails`-th request."""

    def __init__(self, fails: int = 0, tls: ssl.SSLContext | None = None, path: Path | None = None) -> None:
        """`path`: of a unix socket, in the place of a port."""
        self.port = 0
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.connections = 0
        self._fails = fails
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, args=(tls, path), daemon=True)
        self._up = threading.Event()
        self._stop = asyncio.Event()
        self._thread.start()
        self._up.wait()

    def _run(self, tls: ssl.SSLContext | None, path: Path | None) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            if path is not None:
                server = await asyncio.start_unix_server(self._answer, path)
            else:
                server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=tls)
                self.port = server.sockets[0].getsockname()[1]
            self._up.set()
            await self._stop.wait()
            server.close()

        asyncio.run(serve())  # which ends the answers that are under way too

    def close(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                self.heads.append(head)
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                if self._fails and len(self.bodies) % self._fails == 0:
                    writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops")
                    continue
                await self._stream(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        began_s = monotonic()
        writer.write(HEAD)
        for number in range(TOKENS):
            await asyncio.sleep(began_s + FIRST_S + number * EACH_S - monotonic())
            self._event(writer, {"choices": [{"delta": {"content": f" {number}"}}]})
        self._event(writer, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": TOKENS}})
        writer.write(b"0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, body: Any) -> None:
        data = f"data: {json.dumps(body)}\n\n".encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
