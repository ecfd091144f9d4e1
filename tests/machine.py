"""What Skerry has left on this machine, seen from outside: for tests that prove nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from skerry.settings import Settings

GROUPS = Path("/sys/fs/cgroup")


def trees(settings: Settings) -> Iterator[Path]:
    """Our part of each control group hierarchy. Only what is mounted: where an empty v2 hierarchy was taken away, as in
    a process that has called `prepare_process`, crun 1.8 leaves plain files with the numbers of processes long gone."""
    hierarchies = [GROUPS] if (GROUPS / "cgroup.controllers").exists() else list(GROUPS.iterdir())
    for hierarchy in hierarchies:
        ours = hierarchy / f"skerry-{settings.instance}"
        if hierarchy.is_mount() and ours.is_dir():
            yield ours


def cgroups(settings: Settings) -> set[str]:
    """Sandboxes that have a cgroup, under v1 or v2."""
    return {folder.name for tree in trees(settings) for folder in tree.iterdir() if folder.is_dir()}


def groups(settings: Settings) -> list[str]:
    """The group of all our groups, wherever it is."""
    return [root for root, _, _ in os.walk("/sys/fs/cgroup") if Path(root).name == f"skerry-{settings.instance}"]


def processes(settings: Settings) -> set[int]:
    """Processes inside any sandbox's cgroup."""
    pids: set[int] = set()
    for tree in trees(settings):
        for root, _, _ in os.walk(tree):
            try:
                pids.update(int(pid) for pid in Path(root, "cgroup.procs").read_text().split())
            except OSError:
                continue
    return pids


def stuck(settings: Settings) -> str:
    """Where in the kernel each process of a sandbox is: for the message of a test that waits for their end."""
    told: list[str] = []
    for pid in processes(settings):
        try:
            about = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[0::2]
            told.append(f"{about[0]}) {about[1].split()[0]} in {Path(f'/proc/{pid}/stack').read_text()}")
        except OSError:
            continue
    return "; ".join(told)


def kill_processes(settings: Settings) -> None:
    """A frozen one dies only when it is thawed."""
    for tree in trees(settings):
        for root, _, files in os.walk(tree):
            if "freezer.state" in files:
                Path(root, "freezer.state").write_text("THAWED")
    for pid in processes(settings):
        with contextlib.suppress(ProcessLookupError):  # went with its sandbox's first process
            os.kill(pid, signal.SIGKILL)


def remove_groups(settings: Settings) -> None:
    """Empty ones, and what crun leaves where there is no hierarchy."""
    for tree in trees(settings):
        for root, _, _ in os.walk(tree, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(root)
    if not (GROUPS / "unified").is_mount():
        shutil.rmtree(GROUPS / "unified" / f"skerry-{settings.instance}", ignore_errors=True)


def links(settings: Settings) -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if name.startswith(f"sk{settings.instance}-")}


def mounts(settings: Settings) -> list[str]:
    """Mounts of ours in the host's own namespace: there must never be one."""
    ours = (str(settings.data_dir), str(settings.run_path))
    return [line for line in Path("/proc/mounts").read_text().splitlines() if any(path in line for path in ours)]


def subvolumes(settings: Settings, agent_pid: int) -> dict[str, set[str]]:
    """Folder -> names in the pool, looked at through the agent's mount namespace."""
    pool = Path(f"/proc/{agent_pid}/root{settings.run_path}/pool")
    return {folder.name: set(os.listdir(folder)) for folder in pool.iterdir() if folder.is_dir()}


def loop_devices(settings: Settings) -> list[str]:
    listed = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(settings.data_dir) in line]
