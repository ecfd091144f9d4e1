"""Exit codes of container processes that outlived their agent, kept as files for the next agent to read."""

from __future__ import annotations

import os

FILES_MAX = 4096
FILES_KEPT = 2048


def wait_status(code: int, status: int) -> int:
    """siginfo's (si_code, si_status) in the form of waitpid's status word, which os.waitstatus_to_exitcode reads."""
    if code == os.CLD_EXITED:
        return status << 8
    return status | (0x80 if code == os.CLD_DUMPED else 0)


def start_time_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat, which tells two processes with one pid apart; 0 when it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name in parentheses may hold spaces and parentheses: count from the last one.
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


class ExitFiles:
    """`FOLDER/PID` holds "START_TICKS WAIT_STATUS\\n"; written whole or not at all; the number of files is bounded."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._count = len(os.listdir(folder))

    def write(self, pid: int, ticks: int, status: int) -> None:
        if self._count >= FILES_MAX:
            self._prune()
        unfinished = f"{self._folder}/.{pid}"
        with open(unfinished, "w") as file:
            file.write(f"{ticks} {status}\n")
        os.rename(unfinished, f"{self._folder}/{pid}")
        self._count += 1

    def _prune(self) -> None:
        """The agent removes what it has read; what it never asks for must not fill /run. Oldest first."""
        entries = sorted(os.scandir(self._folder), key=lambda entry: entry.stat().st_mtime_ns)
        for entry in entries[: max(0, len(entries) - FILES_KEPT)]:
            os.unlink(entry.path)
        self._count = min(len(entries), FILES_KEPT)
