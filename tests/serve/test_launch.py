"""The launcher: one of each program at a time, and a stuck predecessor does not block it for ever."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import time
from pathlib import Path

from skerry.serve.launch import take_lock
from skerry.telemetry import Log

HOLD = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid())); lock.flush()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_predecessor_is_waited_for(tmp_path: Path) -> None:
    holder = hold(tmp_path / "agent.lock", 0.5)
    descriptor = take_lock(tmp_path / "agent.lock", Log("agent", stream=io.StringIO()))
    assert holder.wait() == 0, "it was not killed"
    assert (tmp_path / "agent.lock").read_text() == str(os.getpid())
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_predecessor_that_is_stuck_is_killed(tmp_path: Path) -> None:
    holder = hold(tmp_path / "agent.lock", 60)
    descriptor = take_lock(tmp_path / "agent.lock", Log("agent", stream=io.StringIO()), grace_s=0.3)
    assert holder.wait() == -9
    os.close(descriptor)


def test_a_lock_of_nobody_is_free(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").write_text("99999999")
    descriptor = take_lock(tmp_path / "agent.lock", Log("agent", stream=io.StringIO()))
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def test_a_program_dies_with_its_supervisor() -> None:
    child = (
        "import os, time; from skerry.serve.launch import die_with_parent; die_with_parent(os.getppid());"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    supervisor = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    program = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    deadline = time.monotonic() + 30
    while _alive(program):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_supervisor_that_died_first_is_noticed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from skerry.serve.launch import die_with_parent; die_with_parent(1); print('went on')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
