"""The supervisor with real processes: restarts, order of stopping, exit files, and how small it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DOUBLE = Path(__file__).with_name("program_double.py")
RSS_KIB_MAX = 20_000

MAIN = """
import ctypes, json, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what `skerry serve` sets before it becomes the supervisor
from skerry.serve.supervisor import Supervisor
from skerry.serve.listeners import bind
from skerry.telemetry import Log
sockets = bind("127.0.0.1:0", int(os.environ["GATEWAYS"])) if "GATEWAYS" in os.environ else []
sys.exit(Supervisor(["agent", "control"], launcher=[sys.executable, sys.argv[1]], run_path=os.environ["RUN_PATH"],
    environment=dict(os.environ), log=Log("serve"), on_ready="READY",
    listening=[each.fileno() for each in sockets]).run())
"""


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


class Served:
    def __init__(self, run_path: Path, behaviour: str) -> None:
        self.run_path = run_path
        environment = {**os.environ, "RUN_PATH": str(run_path), "BEHAVIOUR": behaviour}
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, str(DOUBLE)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(run_path / "log").open("w"),
            text=True,
        )

    def notes(self, word: str) -> list[tuple[str, int]]:
        path = self.run_path / "notes"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(line[1], int(line[2])) for line in lines if line[0] == word]

    def wait_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "READY\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(behaviour: str = "") -> Served:
        started.append(Served(tmp_path, behaviour))
        return started[-1]

    yield start
    for served in started:
        for _, pid in served.notes("start"):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        served.process.kill()
        served.process.wait()


def test_a_program_that_dies_is_started_again(serve: Callable[..., Served]) -> None:
    served = serve()
    served.wait_ready()
    agent = dict(served.notes("start"))["agent"]
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: [name for name, _ in served.notes("start")].count("agent") == 2)
    assert [name for name, _ in served.notes("start")].count("control") == 1


def test_stopping_ends_control_before_the_agent(serve: Callable[..., Served]) -> None:
    served = serve()
    served.wait_ready()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert [name for name, _ in served.notes("end")] == ["control", "agent"]


def test_a_second_signal_does_not_wait(serve: Callable[..., Served]) -> None:
    served = serve("deaf")
    served.wait_ready()
    began = time.monotonic()
    served.process.send_signal(signal.SIGINT)
    wait_for(lambda: served.notes("deaf"))  # two at once would be one
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(30) == 130
    assert time.monotonic() - began < 5
    assert all(not Path(f"/proc/{pid}").exists() for _, pid in served.notes("start"))


def test_a_program_that_cannot_start_ends_it_all(serve: Callable[..., Served]) -> None:
    assert serve("refuse").process.wait(30) == 2


def test_the_exit_code_of_an_orphan_is_kept(serve: Callable[..., Served]) -> None:
    served = serve("orphan")
    served.wait_ready()
    notes = (served.run_path / "notes").read_text()
    orphan = notes.partition("orphan=")[2].split()[0]
    wait_for((served.run_path / "exits" / orphan).exists)
    ticks, status = (served.run_path / "exits" / orphan).read_text().split()
    assert os.waitstatus_to_exitcode(int(status)) == 7
    assert int(ticks) > 0
    agent = dict(served.notes("start"))["agent"]
    assert not (served.run_path / "exits" / str(agent)).exists()


def test_it_rests(serve: Callable[..., Served]) -> None:
    """No wake-ups and little memory once everything serves."""
    served = serve()
    served.wait_ready()

    def status(field: str) -> int:
        text = Path(f"/proc/{served.process.pid}/status").read_text()
        return int(text.partition(f"{field}:")[2].split()[0])

    def switches_while_idle() -> int:
        before = status("voluntary_ctxt_switches")
        time.sleep(1.5)
        return status("voluntary_ctxt_switches") - before

    assert any(switches_while_idle() <= 1 for _ in range(10)), "what follows its becoming ready may take a moment"
    assert status("VmRSS") < RSS_KIB_MAX


def test_a_second_supervisor_is_told_who_has_the_lock(tmp_path: Path) -> None:
    told = {
        "lock_path": str(tmp_path / "serve.lock"),
        "run_path": str(tmp_path),
        "programs": ["agent"],
        "listen": "127.0.0.1:0",
        "gateways": 0,
        "log_level": "info",
        "banner": None,
    }
    holder = (tmp_path / "serve.lock").open("w")
    holder.write("4711")
    holder.flush()
    import fcntl

    fcntl.flock(holder, fcntl.LOCK_EX)
    ended = subprocess.run(
        [sys.executable, "-m", "skerry.serve.program"],
        env={**os.environ, "SKERRY_SUPERVISOR_JSON": json.dumps(told)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "pid 4711" in ended.stderr
