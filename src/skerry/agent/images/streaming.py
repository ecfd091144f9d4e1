"""An HTTP answer made while it is sent: the work ends when the caller hangs up, also before the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skerry.agent.images.progress import ended


@dataclass(frozen=True)
class Answer:
    chunks: AsyncGenerator[bytes, None]
    headers: dict[str, str] = field(default_factory=dict[str, str])


class StreamedAnswer(Response):
    """`opens` is entered once the caller waits and left when all is sent or the caller has gone. What it raises before
    the first chunk becomes an error response. Starlette's own StreamingResponse leaves the generator to the garbage
    collector, which is too late for a process to be killed and a folder to be removed."""

    def __init__(self, opens: Callable[[], AbstractAsyncContextManager[Answer]], media_type: str) -> None:
        self._opens = opens
        super().__init__(media_type=media_type)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            await ended(sending)
            await ended(gone)

    async def _send(self, send: Send) -> None:
        async with self._opens() as answer, aclosing(answer.chunks) as chunks:
            self.headers.update(answer.headers)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        # Only now: who has read the end may rely on everything being cleaned up.
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
