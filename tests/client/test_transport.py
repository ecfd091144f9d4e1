"""What happens between request and answer: errors, retries, kept connections; the same on every transport."""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from skerry.client.call import Call
from skerry.client.target import Target, resolve
from skerry.client.transport import Transport
from skerry.errors import DeadlineExceeded, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from tests.client.conftest import make_client
from tests.client.fake_control import FakeControl


def test_a_server_that_is_not_there_tells_how_to_start_it(
    kind: str, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"unix://{tmp_path}/no.sock" if kind.endswith("unix") else f"http://127.0.0.1:{port}"
    with make_client(kind, address, loop) as client, pytest.raises(Unavailable, match="start it with `skerry serve`"):
        client.info()


def test_wrong_key(control: FakeControl, kind: str, loop: asyncio.AbstractEventLoop) -> None:
    with make_client(kind, control.tcp, loop, key="wrong") as client:
        with pytest.raises(Unauthenticated):
            client.sandboxes.list()
        with pytest.raises(Unauthenticated):
            client.transport.exec_socket("/v1/sandboxes/box/exec")


def test_a_refused_upload_says_why(control: FakeControl, kind: str, loop: asyncio.AbstractEventLoop) -> None:
    """The server answers before it has read the body; the answer is what the caller sees, not a broken pipe."""
    address = control.unix if kind.endswith("unix") else control.tcp
    with make_client(kind, address, loop, key="wrong") as client, pytest.raises(Unauthenticated):
        client.images.upload((b"x" * 65536 for _ in range(200)), "big:1")


def test_what_is_not_ours_is_told_apart(client: Any) -> None:
    with pytest.raises(Unavailable, match="answered 502: <html>Bad Gateway"):
        client.transport.json(Call("GET", "/broken"))


def test_reads_are_tried_again_and_writes_are_not(client: Any, control: FakeControl) -> None:
    control.resets = 2
    assert client.info()["version"] == "0.1.0"
    assert control.requests == ["GET /v1/info"] * 3
    control.resets = 1
    with pytest.raises(Unavailable, match="broke the connection"):
        client.sandboxes.create("debian:12")
    assert control.requests.count("POST /v1/sandboxes") == 1
    control.resets = 9
    with pytest.raises(Unavailable):
        client.info()
    assert control.requests.count("GET /v1/info") == 6


def test_the_connection_is_kept(control: FakeControl, kind: str, loop: asyncio.AbstractEventLoop) -> None:
    with make_client(kind, control.tcp, loop) as client:
        for _ in range(3):
            client.info()
        with pytest.raises(NotFound):
            client.sandboxes.get("nobody")
        client.info()
    assert len(set(control.peers)) == 1


def test_a_silent_server_is_given_up(kind: str, loop: asyncio.AbstractEventLoop) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            make_client(kind, address, loop) as client,
            pytest.raises(DeadlineExceeded, match="did not answer in time"),
        ):
            client.transport.json(Call("POST", "/v1/sandboxes", reply_s=0.2))


def test_project_and_key_are_sent(control: FakeControl) -> None:
    target = resolve(control.tcp, "sk-fake", "team-a", environ={"HOME": "/nowhere"})
    Transport(target).json(Call("GET", "/v1/info"))
    sent = control.headers[-1]
    assert (sent["Authorization"], sent["Skerry-Project"]) == ("Bearer sk-fake", "team-a")


def test_one_client_serves_many_threads(control: FakeControl) -> None:
    transport = Transport(Target(control.unix, "sk-fake"))
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(transport.json(Call("GET", "/v1/info")))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    transport.close()


def test_a_socket_path_that_is_too_long_says_so() -> None:
    with pytest.raises(Invalid, match="at most 107 bytes"):
        Transport(Target("unix:///" + "x" * 200, None)).json(Call("GET", "/health"))


def test_a_socket_of_somebody_else() -> None:
    # Root may open every socket, so root becomes nobody for the moment of the call.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        Path(folder).chmod(0o755)
        server.bind(f"{folder}/s")
        Path(folder, "s").chmod(0)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(Forbidden):
                Transport(Target(f"unix://{folder}/s", None)).json(Call("GET", "/health"))
        finally:
            os.seteuid(before)


def test_tls_is_spoken_and_an_unknown_certificate_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=localhost"
    command = [*make.split(), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = Target(f"https://localhost:{server.server_port}", None)
        with pytest.raises(Unavailable, match="not trusted"):
            Transport(target).json(Call("GET", "/health"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert Transport(target).json(Call("GET", "/health")) == {"status": "ok"}
        server.shutdown()


class Greeter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "16")
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *_: object) -> None:
        pass
