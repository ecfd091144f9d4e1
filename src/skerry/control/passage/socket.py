"""Pass one WebSocket on to the agent, message by message both ways; either end closing closes the other at once."""

from __future__ import annotations

import asyncio

import aiohttp
from starlette.types import Receive, Scope, Send
from yarl import URL

from skerry.client.agent import AgentClient, translate
from skerry.control.http_errors import send_error
from skerry.errors import BY_CODE, Failed, SkerryError
from skerry.model.wire import STATUS

MESSAGE_BYTES_MAX = 16 * 1024**2
CLOSE_S_MAX = 1.0
BROKEN = 1011
"""WebSocket's code for: the server could not go on."""
UNSENDABLE = frozenset({1004, 1005, 1006, 1015})
"""Codes that stand for the absence of one and must not be sent."""


async def pass_socket(agent: AgentClient, target: str, scope: Scope, receive: Receive, send: Send) -> None:
    if (await receive())["type"] != "websocket.connect":
        return None
    try:
        upstream = await agent.session.ws_connect(
            URL(f"http://agent{target}", encoded=True),
            protocols=scope.get("subprotocols", ()),
            max_msg_size=MESSAGE_BYTES_MAX,
            compress=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S_MAX),  # pyright: ignore[reportCallIssue]
        )
    except aiohttp.WSServerHandshakeError as error:
        return await send_error(_refused(error.status), scope, receive, send)
    except (aiohttp.ClientError, OSError) as error:
        return await send_error(translate(error), scope, receive, send)
    async with upstream:
        await send({"type": "websocket.accept", "subprotocol": upstream.protocol})
        inward = asyncio.ensure_future(_inward(upstream, receive))
        outward = asyncio.ensure_future(_outward(upstream, send))
        try:
            await asyncio.wait((inward, outward), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (inward, outward):
                pump.cancel()
            await asyncio.gather(inward, outward, return_exceptions=True)


async def _inward(upstream: aiohttp.ClientWebSocketResponse, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes")
        if data is not None:
            await upstream.send_bytes(data)
        else:
            await upstream.send_str(message.get("text") or "")


async def _outward(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    while True:
        message = await upstream.receive()
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                await send({"type": "websocket.send", "bytes": message.data})
            case aiohttp.WSMsgType.TEXT:
                await send({"type": "websocket.send", "text": message.data})
            case _:
                code = upstream.close_code
                reason = str(message.extra or "") if message.type is aiohttp.WSMsgType.CLOSE else ""
                if code is None or code in UNSENDABLE:
                    code, reason = BROKEN, "the agent of this machine went away"
                return await send({"type": "websocket.close", "code": code, "reason": reason})


def _refused(status: int) -> SkerryError:
    """The words of a refused handshake are lost in the client library; its status is not."""
    words = {404: "there is no such command in this sandbox", 409: "the sandbox does not run"}
    code = next((code for code, known in STATUS.items() if known == status), None)
    if status not in words or code is None:
        return Failed("the agent of this machine refused the WebSocket", because=f"status {status}")
    return BY_CODE[code](words[status])
