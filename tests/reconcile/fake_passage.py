"""What passes through the agent without a machine, to and from sandboxes: commands, files and logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from skerry.errors import Invalid, NotFound


class FakePassage:
    def __init__(self) -> None:
        self.closed_streams = 0

    def add_routes(self, add: Callable[..., Any], verb: Callable[..., Any]) -> None:
        one = "/sandboxes/{id}"
        add("POST", one + "/exec", verb("exec", self._exec))
        add("GET", one + "/exec", self._exec_socket)
        add("GET", one + "/files", verb("files", self._read))
        add("PUT", one + "/files", verb("files", self._write))
        add("GET", one + "/logs", self._logs)

    async def _exec(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["command"] == ["bad"]:
            raise Invalid("workdir: no such folder", field="workdir")
        return web.json_response({"session": "ex-1", "stdout": " ".join(asked["command"]), "exit": {"code": 0}})

    async def _exec_socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response({"items": []})
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_bytes(b"\x01spec:" + message.data.encode())
                elif message.data == b"\x00quit":
                    await socket.send_bytes(b'\x03{"code":0}')
                    await socket.close(code=1000, message=b"done")
                else:
                    await socket.send_bytes(b"\x01" + message.data[1:])
        finally:
            self.closed_streams += 1
        return socket

    async def _read(self, request: web.Request) -> web.StreamResponse:
        if request.query["path"] == "/big":
            answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            await answer.prepare(request)
            for _ in range(64):
                await answer.write(b"x" * 65536)
            return answer
        if request.query["path"] == "/none":
            raise NotFound("no such file: /none", field="path")
        return web.Response(body=b"hello", content_type="application/octet-stream")

    async def _write(self, request: web.Request) -> web.Response:
        if request.query["path"] == "/refused":
            raise Invalid("path: that is a folder", field="path")
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.json_response({"path": request.query["path"], "size_bytes": size})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await answer.prepare(request)
        try:
            await answer.write(b"line 1\n")
            while request.query.get("follow") == "true":
                await asyncio.sleep(0.02)
                await answer.write(b"more\n")
        finally:
            self.closed_streams += 1
        return answer
