"""An engine's launch as a process of this machine instead of a sandbox, and a caller that asks it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.engines.contract import Launch

START_S_MAX = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Caller:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def json(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return json.loads(self.ask(path, None if body is None else {"model": "tiny", **body}))

    def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        lines = self.ask(path, {"model": "tiny", "stream": True, **body}).decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line[6:]) for line in lines[:-2]]

    def refused(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.ask(path, body)
        return caught.value.code, json.load(caught.value)["error"]["message"]


@contextmanager
def running(launch: Launch, log: Path, env: Mapping[str, str]) -> Iterator[Caller]:
    """Until it is healthy by its own probe."""
    assert launch.command is not None
    assert launch.health is not None
    command = [sys.executable if launch.command[0] == "python3" else launch.command[0], *launch.command[1:]]
    environment = {"PATH": os.environ["PATH"], **env, **launch.env}
    with log.open("w") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            caller = Caller(launch.port)
            deadline_s = time.monotonic() + START_S_MAX
            while not _healthy(caller, launch.health.path):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.1)
            yield caller
        finally:
            process.terminate()


def _healthy(caller: Caller, path: str) -> bool:
    try:
        caller.ask(path)
    except OSError:
        return False
    return True
