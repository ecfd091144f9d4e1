"""The agent's routes of ports: what is published, where programs listen, and one connection through a WebSocket."""

from __future__ import annotations

import asyncio
import json
import socket

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.listening import listeners_of
from skerry.agent.ports.publish import Publisher
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.slots import SlotPool
from skerry.errors import Invalid, SkerryError
from skerry.model.port import LISTENING_MAX, ListeningPort, Protocol
from skerry.model.stream import END, READY

CHUNK_BYTES = 64 * 1024
REFUSED = 1008
PORT_MAX = 65_535


class PortRoutes:
    def __init__(self, *, sandboxes: Sandboxes, slots: SlotPool, dialer: Dialer, publisher: Publisher) -> None:
        self._sandboxes = sandboxes
        self._slots = slots
        self._dialer = dialer
        self._publisher = publisher

    def routes(self) -> list[BaseRoute]:
        one = "/sandboxes/{sandbox_id}/ports"
        return [
            Route("/ports/held", self.held, methods=["GET"]),
            Route(one, self.states, methods=["GET"]),
            Route(one + "/listening", self.listening, methods=["GET"]),
            WebSocketRoute(one + "/{port}/connect", self.connect),
        ]

    async def held(self, _: Request) -> Response:
        found = await self._publisher.held_by_others()
        return JSONResponse({"items": [item.model_dump(mode="json") for item in found]})

    async def states(self, request: Request) -> Response:
        sandbox_id: str = request.path_params["sandbox_id"]
        ports = self._sandboxes.order_of(sandbox_id).spec.ports
        found = self._publisher.states(sandbox_id, ports)
        return JSONResponse({"items": [item.model_dump(mode="json") for item in found]})

    async def listening(self, request: Request) -> Response:
        """Asking is not using: it neither wakes the sandbox nor keeps it awake."""
        sandbox_id: str = request.path_params["sandbox_id"]
        if not self._sandboxes.runs(sandbox_id):
            self._sandboxes.report_of(sandbox_id)
            return JSONResponse({"items": []})
        found = await asyncio.to_thread(listeners_of, self._slots.network_of(sandbox_id))
        # A UDP socket that was never connected need not be a service: only TCP tells who listens.
        ports = sorted({item.port for item in found if item.protocol is Protocol.TCP})[:LISTENING_MAX]
        return JSONResponse({"items": [ListeningPort(port=port).model_dump(mode="json") for port in ports]})

    async def connect(self, caller: WebSocket) -> None:
        """Binary messages are bytes; text is READY once connected, END of one side, or the error body."""
        await caller.accept()
        sandbox_id: str = caller.path_params["sandbox_id"]
        try:
            port = _port(caller.path_params["port"])
            by = f"proxy {port}"
            inside = await self._dialer.connect(sandbox_id, port, by)
        except SkerryError as error:
            await _close(caller, json.dumps(error.wire()), REFUSED)
            return
        with inside:
            said_all = asyncio.Event()
            inward = asyncio.ensure_future(self._inward(caller, inside, sandbox_id, by, said_all))
            outward = asyncio.ensure_future(self._outward(caller, inside, sandbox_id, by, said_all))
            try:
                await asyncio.wait((inward, outward), return_when=asyncio.FIRST_COMPLETED)
            finally:
                inward.cancel()
                outward.cancel()
                await asyncio.gather(inward, outward, return_exceptions=True)
            await _close(caller)

    async def _inward(
        self, caller: WebSocket, inside: socket.socket, sandbox_id: str, by: str, said_all: asyncio.Event
    ) -> None:
        """Until the caller goes; after its END, too, since an answer may follow."""
        loop = asyncio.get_running_loop()
        while True:
            message = await caller.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data and not said_all.is_set():
                self._dialer.moved(sandbox_id, by, inward=True)
                await loop.sock_sendall(inside, data)
            elif message.get("text") == END:
                said_all.set()
                inside.shutdown(socket.SHUT_WR)

    async def _outward(
        self, caller: WebSocket, inside: socket.socket, sandbox_id: str, by: str, said_all: asyncio.Event
    ) -> None:
        """Until both sides have said all they had to say."""
        loop = asyncio.get_running_loop()
        await caller.send_text(READY)
        while chunk := await loop.sock_recv(inside, CHUNK_BYTES):
            self._dialer.moved(sandbox_id, by, inward=False)
            await caller.send_bytes(chunk)
        await caller.send_text(END)
        await said_all.wait()


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= PORT_MAX:
        raise Invalid(f"port: {text[:20]!r} is not allowed; expected 1 to {PORT_MAX}", field="port")
    return int(text)


async def _close(caller: WebSocket, last_words: str | None = None, code: int = 1000) -> None:
    try:
        if last_words is not None:
            await caller.send_text(last_words)
        await caller.close(code)
    except (RuntimeError, OSError, WebSocketDisconnect):  # it has gone meanwhile
        pass
