"""What makes starts and execs cheap must not make them less safe: the sealed crun, the compiled filter, the wait."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from skerry.runtime.container.attach_wait import AttachWait
from skerry.runtime.container.crun import Crun
from skerry.runtime.container.oci import COMPILED_FILTER
from skerry.runtime.container.sealed import SealedProgram
from skerry.runtime.contract import ExecPlan
from tests.runtime.conftest import Machine


def test_nobody_can_write_to_a_sealed_program(tmp_path: Path) -> None:
    sealed = SealedProgram.of(Path("/bin/cat"), tmp_path / "programs")
    assert sealed is not None
    read_fd, write_fd = os.pipe()
    pid = os.posix_spawn(sealed.path, ["cat", "/proc/self/comm"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, write_fd, 1)])
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read_fd, 100) == b"cat\n"
    fd = int(os.readlink(sealed.path).rpartition("/")[2])
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    sealed.close()
    for each in (read_fd, write_fd):
        os.close(each)


def test_crun_is_started_from_its_sealed_copy(machine: Machine) -> None:
    box = machine.box()
    plan = ExecPlan(command=("sleep", "30"), env={}, workdir="/", user="root")
    process = machine.run(machine.runtime.exec(box, plan))
    try:
        assert os.readlink(f"/proc/{process.pid}/exe").startswith("/memfd:crun")
        assert Path(f"/proc/{process.pid}/comm").read_text() == "crun\n"
    finally:
        machine.run(process.kill(9))
        machine.run(process.wait())
        machine.run(process.close())


def test_later_sandboxes_get_the_filter_of_the_first(machine: Machine) -> None:
    first, second = machine.box(), machine.box()
    crun = Crun("crun", machine.settings.run_path / "crun")
    assert crun.filter_of(first)
    assert crun.filter_of(first) == crun.filter_of(second)
    config = json.loads((machine.settings.run_path / "bundles" / second / "config.json").read_text())
    assert config["annotations"][COMPILED_FILTER]
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "syscalls" not in config["linux"]["seccomp"]
    code, text = machine.sh(second, "grep Seccomp: /proc/1/status /proc/self/status")
    assert code == 0
    assert text.split() == ["/proc/1/status:Seccomp:", "2", "/proc/self/status:Seccomp:", "2"]


def test_the_wait_is_begun_once_and_in_another_thread(loop: asyncio.AbstractEventLoop) -> None:
    wait = AttachWait()
    wait.open()
    threads: list[str] = []
    wait._move = lambda: threads.append(threading.current_thread().name)  # pyright: ignore[reportAttributeAccessIssue]

    async def scene() -> None:
        wait.begin()
        wait.begin()
        await wait.close()
        wait.begin()

    loop.run_until_complete(scene())
    assert len(threads) == 1
    assert threads[0] != threading.main_thread().name
