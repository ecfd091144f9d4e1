"""Control as a process of its own: its sockets, its end, and its words when it cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from skerry.control.program import listen_tcp
from skerry.errors import Failed, Invalid
from skerry.settings import Settings
from skerry.telemetry import Log

MAIN = """
import json, sys
from skerry.control.program import main
from skerry.settings import Settings
main(Settings(**json.loads(sys.argv[1])))
"""


class UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        yield Settings(data_dir=Path(folder), run_dir=Path(folder) / "run", listen=f"127.0.0.1:{port}")


def start(settings: Settings) -> subprocess.Popen[str]:
    told = json.dumps({"data_dir": str(settings.data_dir), "run_dir": str(settings.run_dir), "listen": settings.listen})
    program = subprocess.Popen([sys.executable, "-c", MAIN, told], stderr=subprocess.PIPE, text=True)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and program.poll() is None:
        try:
            connection = UnixConnection(settings.control_socket)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return program
        except OSError:
            time.sleep(0.05)
    program.kill()
    pytest.fail(program.communicate()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_on_both_sockets_and_stops_when_told(settings: Settings, number: int) -> None:
    program = start(settings)
    assert settings.control_socket.stat().st_mode & 0o777 == 0o600
    key = settings.admin_key_path.read_text().strip()
    host, _, port = settings.listen.partition(":")
    follower = HTTPConnection(host, int(port), timeout=30)
    follower.request("GET", "/v1/events?watch=true", headers={"Authorization": f"Bearer {key}"})
    assert follower.getresponse().status == 200  # it never ends by itself, and must not hold up the stop
    program.send_signal(number)
    assert program.wait(30) == 0
    assert not settings.control_socket.exists()
    assert "Traceback" not in program.communicate()[1]


def test_killed_at_any_time_it_starts_again_with_the_same_key(settings: Settings) -> None:
    program = start(settings)
    key = settings.admin_key_path.read_text()
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    again = start(settings)
    assert settings.admin_key_path.read_text() == key
    connection = UnixConnection(settings.control_socket)
    connection.request("GET", "/v1/info", headers={"Authorization": f"Bearer {key.strip()}"})
    assert connection.getresponse().status == 200
    again.terminate()
    assert again.wait(30) == 0


def test_first_key_survives_a_crash_between_file_and_database(settings: Settings) -> None:
    settings.admin_key_path.write_text("sk_" + "ab" * 32 + "\n")
    program = start(settings)
    connection = UnixConnection(settings.control_socket)
    connection.request("GET", "/v1/info", headers={"Authorization": "Bearer sk_" + "ab" * 32})
    assert connection.getresponse().status == 200
    program.terminate()
    program.wait(30)


def test_address_that_is_taken_is_said(settings: Settings) -> None:
    log = Log("control", "error")
    held = listen_tcp(settings.listen, log)
    with pytest.raises(Failed, match="--listen"):
        listen_tcp(settings.listen, log)
    held.close()
    for bad in ("7070", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":7070"):
        with pytest.raises(Invalid, match="give HOST:PORT"):
            listen_tcp(bad, log)
