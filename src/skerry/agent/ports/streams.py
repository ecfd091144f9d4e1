"""The agent's socket for raw streams: one line names a sandbox and a port, and from then on the connection is that one.

HTTP is not spoken here: what comes next need not be HTTP, and all traffic of a gateway passes here, so that a parser in
between would be paid for by every byte. The line is JSON and ends with a newline; so does the answer: {} when it is
connected; {"asleep": true} when it sleeps and was not to be woken, or the API's error body, and then it is closed.
"""

from __future__ import annotations

import asyncio
import json
import socket

from pydantic import ValidationError

from skerry.agent.ports.callers import Callers
from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.relay import Relay
from skerry.errors import Invalid, SkerryError
from skerry.model.explain import explain
from skerry.model.stream import StreamRequest

LINE_BYTES_MAX = 4096
LINE_S_MAX = 5.0
STREAMS_MAX = 10_000
"""Open at one time; each is two file descriptors."""


class Streams:
    def __init__(self, dialer: Dialer, relay: Relay) -> None:
        self._dialer = dialer
        self._relay = relay
        self._callers: Callers | None = None

    def open(self, listening: socket.socket) -> None:
        """`listening` does not block, and belongs to this from now on."""
        self._callers = Callers(listening, self._serve, most=STREAMS_MAX)
        self._callers.begin()

    async def close(self) -> None:
        if self._callers is not None:
            await asyncio.gather(*self._callers.close(), return_exceptions=True)

    async def _serve(self, caller: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with caller:
            try:
                asked, rest = await _read_request(caller)
                if not asked.wake and self._dialer.sleeps(asked.sandbox_id):
                    await loop.sock_sendall(caller, b'{"asleep": true}\n')
                    return
                sandbox = await self._dialer.connect(asked.sandbox_id, asked.port, asked.by, counts=asked.counts)
            except SkerryError as error:
                await loop.sock_sendall(caller, json.dumps(error.wire()).encode() + b"\n")
                return
            except OSError:
                return
            with sandbox:
                try:
                    await loop.sock_sendall(caller, b"{}\n")
                    if rest:
                        await loop.sock_sendall(sandbox, rest)
                    await self._relay.run(caller, sandbox, lambda _, inward: self._moved(asked, inward))
                except OSError:
                    return

    def _moved(self, asked: StreamRequest, inward: bool) -> None:
        if asked.counts:
            self._dialer.moved(asked.sandbox_id, asked.by, inward=inward)


async def _read_request(caller: socket.socket) -> tuple[StreamRequest, bytes]:
    """What is asked for, and whatever the caller had already sent after it. Raises Invalid."""
    line = b""
    try:
        async with asyncio.timeout(LINE_S_MAX):
            while b"\n" not in line and len(line) <= LINE_BYTES_MAX:
                chunk = await asyncio.get_running_loop().sock_recv(caller, LINE_BYTES_MAX)
                if not chunk:
                    break
                line += chunk
    except TimeoutError:
        raise Invalid("the first line did not come in time") from None
    line, newline, rest = line.partition(b"\n")
    if not newline:
        raise Invalid(f"the first line must be JSON of at most {LINE_BYTES_MAX} bytes, ending with a newline")
    try:
        return StreamRequest.model_validate_json(line), rest
    except ValidationError as error:
        raise explain(error) from None
