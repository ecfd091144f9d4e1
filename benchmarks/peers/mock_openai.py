"""A model server that answers at once, as fast as one process can: what a gateway in front of it costs is what is left.

`python mock_openai.py PORT [--first-ms N] [--each-ms N] [--chunks N]`: chat completions, streamed where asked, each
stream of so many chunks of one token; /health, /v1/models, /get_model_info and what else routers ask of a backend.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

import httptools
import uvloop

MODEL = "mock"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_TEXT = "It costs nothing to say this, so it is said quickly, by a server that has no weights at all."
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32},
    }
).encode()


def _answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    told = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return _chunk(b"data: " + json.dumps(told).encode() + b"\n\n")


COMPLETION = _answer(_ANSWER)
TOKEN = _event({"content": " token"})
LAST = _event({}, "stop")
END = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
OTHERS = {
    b"/v1/models": _answer(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()),
    b"/get_model_info": _answer(json.dumps({"model_path": MODEL, "is_generation": True}).encode()),
    b"/get_server_info": _answer(json.dumps({"model_path": MODEL, "served_model_name": MODEL}).encode()),
    b"/server_info": _answer(json.dumps({"model_path": MODEL, "served_model_name": MODEL}).encode()),
}
OK = _answer(b"{}")


class Paces:
    def __init__(self, first_s: float, each_s: float, chunks: int) -> None:
        self.first_s, self.each_s, self.chunks = first_s, each_s, chunks


class Mock(asyncio.Protocol):
    def __init__(self, paces: Paces) -> None:
        self._paces = paces
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._left = 0
        self._path = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._left and not self._paces.each_s:
            self._go_on()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path.startswith(b"/v1/chat/completions"):
            streams = b'"stream": true' in self._body or b'"stream":true' in self._body
            self._begin_stream() if streams else self._write(COMPLETION)
        else:
            self._write(OTHERS.get(self._path, OK))

    def _begin_stream(self) -> None:
        self._left = self._paces.chunks
        if self._paces.first_s:
            self._loop.call_later(self._paces.first_s, self._begun)
        else:
            self._begun()

    def _begun(self) -> None:
        self._write(_STREAM_HEAD + _event({"role": "assistant", "content": ""}))
        if self._paces.each_s:
            self._loop.call_later(self._paces.each_s, self._one)
        else:
            self._loop.call_soon(self._go_on)

    def _one(self) -> None:
        self._left -= 1
        if self._left and self._transport is not None:
            self._write(TOKEN)
            self._loop.call_later(self._paces.each_s, self._one)
        else:
            self._left = 0
            self._write(LAST + END)

    def _go_on(self) -> None:
        """As fast as it is read, each token a write of its own and turns taken with other streams."""
        if self._transport is None or not self._writable or not self._left:
            return
        self._left -= 1
        if self._left:
            self._write(TOKEN)
            self._loop.call_soon(self._go_on)
        else:
            self._write(LAST + END)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int, paces: Paces) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Mock(paces), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--first-ms", type=float, default=0)
    parser.add_argument("--each-ms", type=float, default=0)
    parser.add_argument("--chunks", type=int, default=64)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.port, Paces(chosen.first_ms / 1000, chosen.each_ms / 1000, chosen.chunks)))
