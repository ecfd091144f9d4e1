"""Talking to a service: words as they come, what was said before, refusals in one sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from skerry.cli.chat import Talk
from skerry.errors import Forbidden, LimitReached, SkerryError, Unavailable

ASKED: list[tuple[dict[str, str], dict[str, Any]]] = []


class Door(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ASKED.append((dict(self.headers), body))
        word = body["messages"][-1]["content"]
        if word.isdigit():
            self.send_response(int(word))
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": f"no, {word}"}}).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Skerry-Replica", "sb-1")
        self.end_headers()
        for part in ("", "you ", "said ", word):
            event = {"choices": [{"delta": {"content": part}}]}
            self.wfile.write(f": so\n\ndata: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    ASKED.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://tiny.localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_comes_word_by_word_and_is_remembered(url: str) -> None:
    talk = Talk(url, "sk_x", {"model": "tiny"})
    talk.said("system", "be brief")
    assert list(talk.ask("hi")) == ["you ", "said ", "hi"]
    assert talk.replica == "sb-1"
    list(talk.ask("more"))
    headers, body = ASKED[-1]
    assert headers["Authorization"] == "Bearer sk_x"
    assert headers["Host"].startswith("tiny.localhost:")
    assert [each["content"] for each in body["messages"]] == ["be brief", "hi", "you said hi", "more"]
    talk.clear()
    list(talk.ask("again"))
    assert [each["content"] for each in ASKED[-1][1]["messages"]] == ["be brief", "again"]


@pytest.mark.parametrize(("status", "kind"), [(403, Forbidden), (429, LimitReached), (503, Unavailable)])
def test_a_refusal_is_told_and_not_part_of_what_was_said(url: str, status: int, kind: type[SkerryError]) -> None:
    talk = Talk(url, None, {"model": "tiny"})
    with pytest.raises(kind, match=f"^no, {status}$"):
        list(talk.ask(str(status)))
    list(talk.ask("hi"))
    assert len(ASKED[-1][1]["messages"]) == 1


def test_nobody_there() -> None:
    with pytest.raises(Unavailable, match=r"tiny\.localhost:1 does not answer"):
        list(Talk("http://tiny.localhost:1/", None, {}).ask("hi"))
