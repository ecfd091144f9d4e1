"""Run a peer's command and time it; its output goes where a detached container cannot hold it open."""

from __future__ import annotations

import subprocess
import time


def run(*command: str, given: str | None = None) -> None:
    """No pipe for output: a detached runtime would keep it."""
    subprocess.run(
        command,
        input=None if given is None else given.encode(),
        stdin=subprocess.DEVNULL if given is None else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def told(*command: str) -> str:
    """What a command that is not detached prints."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, text=True).stdout


def attempt(*command: str) -> None:
    """For clean-up: what is gone already is as good."""
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


class Stopwatch:
    def __init__(self) -> None:
        self._began = time.perf_counter()

    def ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000
