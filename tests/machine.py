"""What Skerry has left on this machine, seen from outside: for tests that prove nothing is left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from skerry.settings import Settings


def cgroups(settings: Settings) -> set[str]:
    """Sandboxes that have a cgroup, under v1 or v2."""
    names: set[str] = set()
    for root, folders, _ in os.walk("/sys/fs/cgroup"):
        if Path(root).name == f"skerry-{settings.instance}":
            names.update(folders)
            folders.clear()
    return names


def groups(settings: Settings) -> list[str]:
    """The group of all our groups, wherever it is."""
    return [root for root, _, _ in os.walk("/sys/fs/cgroup") if Path(root).name == f"skerry-{settings.instance}"]


def processes(settings: Settings) -> set[int]:
    """Processes inside any sandbox's cgroup."""
    pids: set[int] = set()
    for root, _, _ in os.walk("/sys/fs/cgroup"):
        if f"/skerry-{settings.instance}/" in root + "/":
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
