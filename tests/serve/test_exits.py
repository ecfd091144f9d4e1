"""Exit files: their form, and that they cannot fill the disk."""

from __future__ import annotations

import os
from pathlib import Path

from skerry.serve.exits import FILES_KEPT, FILES_MAX, ExitFiles, start_time_ticks, wait_status


def test_wait_status_reads_back() -> None:
    assert os.waitstatus_to_exitcode(wait_status(os.CLD_EXITED, 7)) == 7
    assert os.waitstatus_to_exitcode(wait_status(os.CLD_KILLED, 9)) == -9
    assert os.waitstatus_to_exitcode(wait_status(os.CLD_DUMPED, 11)) == -11


def test_start_time_tells_processes_apart() -> None:
    assert start_time_ticks(os.getpid()) > 0
    assert start_time_ticks(2**22 + 1) == 0


def test_files_are_whole_and_bounded(tmp_path: Path) -> None:
    exits = ExitFiles(str(tmp_path))
    for pid in range(1, FILES_MAX + 2):
        exits.write(pid, 5, 256)
    names = os.listdir(tmp_path)
    assert len(names) == FILES_KEPT + 1
    assert (tmp_path / str(FILES_MAX + 1)).read_text() == "5 256\n"
    assert not any(name.startswith(".") for name in names)
