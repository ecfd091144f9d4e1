"""Talk to the process in which the peers run, in their own mount namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]


class PeerFailed(Exception):
    """A peer could not do what was asked; the text is its own."""


class Peers:
    """Each call is timed inside the peers' process, so the conversation costs them nothing."""

    def __enter__(self) -> Peers:
        self.folder = tempfile.mkdtemp(prefix="skerry-peers-", dir="/var/tmp")
        command = [sys.executable, "-m", "peers.program", self.folder]
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", *command],
            cwd=BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def ask(self, peer: str, call: str, *given: object) -> Any:
        """Milliseconds, for nearly every call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([peer, call, given]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the peers' process is gone"}
        if "error" in answer:
            raise PeerFailed(f"{peer} {call}: {answer['error']}")
        return answer["result"]

    def has_podman(self) -> bool:
        return shutil.which("podman") is not None

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(120)
        shutil.rmtree(self.folder, ignore_errors=True)
