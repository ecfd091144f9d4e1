"""What /proc tells of a sandbox's processes from outside: the main one, its ids, its traffic."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

_ESTABLISHED = "01"
_LOOPBACK = ("0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:")
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as the kernel writes them on a little-endian machine."""
RUN_SETTLE_S = 5.0
SETTLE_POLL_S = 0.02


def main_of(pids: Sequence[int], likely: int | None) -> int | None:
    """The one that is process 1 of its own pid namespace; `likely` is only asked first."""
    first = [likely] if likely in pids and likely is not None else []
    return next((pid for pid in (*first, *pids) if _is_first(pid)), None)


def _is_first(pid: int) -> bool:
    for line in _lines(Path(f"/proc/{pid}/status")):
        if line.startswith("NSpid:"):
            numbers = line.split()[1:]
            return len(numbers) > 1 and numbers[-1] == "1"
        if line.startswith("State:") and line.split()[1] in "ZX":
            return False
    return False


def heeds(pid: int, number: int) -> bool:
    """Whether a signal would have an effect: the first process of a pid namespace does not get one that it has neither
    blocked nor caught. True for a process that has gone."""
    masks = [line.split()[1] for line in _lines(Path(f"/proc/{pid}/status")) if line.startswith(("SigBlk", "SigCgt"))]
    return not masks or any(int(mask, 16) & 1 << number - 1 for mask in masks)


def uid_base_of(pid: int) -> int | None:
    """The host's uid of the guest's root."""
    lines = _lines(Path(f"/proc/{pid}/uid_map"))
    return int(lines[0].split()[1]) if lines else None


def network_bytes(pid: int) -> tuple[int, int]:
    """(received, sent) by the sandbox, over all links but loopback."""
    received = sent = 0
    for line in _lines(Path(f"/proc/{pid}/net/dev"))[2:]:
        name, _, counters = line.partition(":")
        numbers = counters.split()
        if name.strip() != "lo" and len(numbers) > 8:
            received, sent = received + int(numbers[0]), sent + int(numbers[8])
    return received, sent


def network_connections(pid: int) -> int:
    """Established TCP connections in the sandbox, over all links but loopback; proc_net_tcp.rst."""
    found = 0
    for family in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/{pid}/net/{family}"))[1:]:
            words = line.split()
            found += words[3] == _ESTABLISHED and not words[1].startswith(_LOOPBACK)
    return found


def settle_runs(crun_root: Path) -> None:
    """Wait for every `crun run` that an earlier agent started: one that is still at work would otherwise bring a
    sandbox to life after we have looked. One that takes too long is killed, and what it began with it."""
    deadline_s = time.monotonic() + RUN_SETTLE_S
    while runs := _runs(crun_root):
        if time.monotonic() > deadline_s:
            for pid in runs:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return
        time.sleep(SETTLE_POLL_S)


def _runs(crun_root: Path) -> list[int]:
    found: list[int] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"--root={crun_root}".encode() in words and b"run" in words:
                found.append(int(entry.name))
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # it has just ended
        return []
