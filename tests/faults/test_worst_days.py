"""A reboot, a full disk, a stuck process, a crun that fails, everything killed at once; three times over."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from skerry.errors import NoRoom, SkerryError
from skerry.model.sandbox import S
from skerry.model.sleep import Tier
from skerry.runtime.container.memory import memory_folder
from tests import machine
from tests.server import Server
from tests.system.conftest import connect

IMAGE = "debian:12"


UNMOUNT_S_MAX = 120.0
"""The last process of a sandbox takes the pool's last mount with it, and is in its group until all that is written out
and flushed: on a busy disk that is not a matter of seconds."""


def until(condition, timeout_s: float = 30.0, describe=lambda: "") -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    # Once more, for a machine that stood still meanwhile.
    assert condition(), f"it did not come true in {timeout_s:.0f} s {describe()}"


def test_killing_every_program_three_times_leaves_every_sandbox_running(server: Server) -> None:
    with connect(server) as client:
        box = client.sandboxes.create(IMAGE, name="survivor")
        box.files.write("/root/data", b"precious")
        box.commands.run("sleep 10000 & echo $! > /root/pid")
        pid = box.files.read("/root/pid").strip().decode()
    for _ in range(3):
        server.kill("control", "agent")
        server.start()
        with connect(server) as client:
            box = client.sandboxes.connect("survivor")
            assert box.info().state is S.RUNNING
            assert box.info().restarts == 0
            assert box.commands.run(f"kill -0 {pid} && cat /root/data").stdout == "precious"
    with connect(server) as client:
        client.sandboxes.connect("survivor").delete()


def test_a_graceful_stop_leaves_sandboxes_running_and_start_adopts_them(server: Server) -> None:
    with connect(server) as client:
        box = client.sandboxes.create(IMAGE, command="n=0; while true; do n=$((n+1)); echo $n; sleep 0.1; done")
    server.stop()
    assert machine.processes(server.settings), "its processes go on without us"
    time.sleep(0.5)
    server.start()
    with connect(server) as client:
        box = client.sandboxes.connect(box.id)
        assert box.info().restarts == 0
        until(lambda: len(box.logs().splitlines()) > 12)
        numbers = [int(line) for line in box.logs().splitlines()]
        assert numbers == list(range(1, len(numbers) + 1)), "not a line was lost while nobody read"
        box.delete()


def test_a_reboot_brings_back_what_ran_with_its_disk(server: Server) -> None:
    for _ in range(3):
        with connect(server) as client:
            box = client.sandboxes.create(IMAGE, name="rebooted")
            stopped = client.sandboxes.create(IMAGE, name="was-stopped")
            stopped.stop(grace_s=0)
            box.files.write("/root/data", b"precious")
            address = box.info().address
            box.commands.run("sync")
        reboot(server)
        with connect(server) as client:
            box = client.sandboxes.connect("rebooted")
            until(lambda box=box: box.info().restarts == 1 and box.info().state is S.RUNNING)
            assert box.files.read("/root/data") == b"precious"
            assert box.info().address == address
            assert box.commands.run("echo up").stdout == "up\n"
            assert client.sandboxes.get("was-stopped").state is S.STOPPED
            box.delete()
            client.sandboxes.connect("was-stopped").delete()


def test_a_reboot_leaves_asleep_what_slept(server: Server) -> None:
    with connect(server) as client:
        boxes = [client.sandboxes.create(IMAGE, name=name) for name in ("warm", "cold")]
        for box in boxes:
            box.files.write("/root/data", b"precious")
            box.commands.run("sync")
            box.sleep(cold=box.name == "cold")
    reboot(server)
    with connect(server) as client:
        for box in boxes:
            again = client.sandboxes.connect(box.name)
            until(lambda again=again: (asleep := again.info().asleep) is not None and asleep.tier is Tier.COLD)
            assert (again.state, again.info().restarts) == (S.ASLEEP, 0)
            assert again.commands.run("cat /root/data").stdout == "precious"
            again.delete()


def test_a_killed_agent_leaves_asleep_what_slept(server: Server) -> None:
    with connect(server) as client:
        box = client.sandboxes.create(IMAGE, name="sleeper", command="exec sleep 100000")
        lease = box.keep_awake(600)
        box.sleep(force=True)
        server.kill("agent")
        server.start("agent")
        until(lambda: box.info().state is S.ASLEEP)
        activity = box.activity()
        assert activity.asleep is not None
        assert (activity.asleep.tier, activity.leases) == (Tier.WARM, [lease])
        assert box.commands.run("echo up").stdout == "up\n"
        assert box.info().restarts == 0
        box.delete()


def reboot(server: Server) -> None:
    """All processes gone, the pool unmounted, /run empty: what is left of a machine after one."""
    server.kill("control", "agent")
    machine.kill_processes(server.settings)
    until(lambda: not machine.processes(server.settings), UNMOUNT_S_MAX, lambda: machine.stuck(server.settings))
    until(lambda: not machine.loop_devices(server.settings), UNMOUNT_S_MAX)
    machine.remove_groups(server.settings)
    assert machine.cgroups(server.settings) == set()
    for path in sorted(server.settings.run_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(memory_folder(server.settings.run_path), ignore_errors=True)
    (server.settings.run_path / "exits").mkdir()
    server.start()


def test_a_full_pool_refuses_new_work_and_hurts_nobody_who_runs(small_server: Server) -> None:
    with connect(small_server) as client:
        hog = client.sandboxes.create(IMAGE, name="hog", disk="8GiB")
        other = client.sandboxes.create(IMAGE, name="other")
        full = hog.commands.run("dd if=/dev/zero of=/fill bs=1M 2>&1; sync")
        assert "No space left" in full.stdout or "quota" in full.stdout
        assert other.commands.run("echo still alive").stdout == "still alive\n"
        with pytest.raises((NoRoom, SkerryError), match=r"pool|reserve|room|full"):
            client.sandboxes.create(IMAGE, name="too-late")
        hog.delete()
        until(lambda: _can_create(client))
        assert other.commands.run("echo data > /root/x && cat /root/x").stdout == "data\n"
        for box in client.sandboxes.list():
            client.sandboxes.connect(box.id).delete()


def _can_create(client) -> bool:
    try:
        client.sandboxes.create(IMAGE).delete()
    except SkerryError:
        return False
    return True


def sleepers(server: Server) -> list[int]:
    found: list[int] = []
    for pid in machine.processes(server.settings):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"):
                found.append(pid)
    return found


def test_a_sandbox_whose_init_was_killed_by_the_operator_is_seen(server: Server) -> None:
    with connect(server) as client:
        box = client.sandboxes.create(IMAGE, command="exec sleep 100000")
        until(lambda: sleepers(server) != [])  # the shell has just begun
        [pid] = sleepers(server)
        os.kill(pid, signal.SIGKILL)
        until(lambda: box.info().state is S.STOPPED)
        ended = box.info().exit
        assert ended is not None
        assert ended.code == 137
        box.start()
        assert box.commands.run("echo again").stdout == "again\n"
        box.delete()
