"""What is reaped of a killed tool that had a pid namespace of its own, and what is left to who waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
from skerry.runtime.container.orphans import reap_orphans
from skerry.runtime.container.syscalls import set_child_subreaper

set_child_subreaper()
tool = subprocess.Popen(["unshare", "--pid", "--fork", *sys.argv[1:], "sleep", "60"], start_new_session=True)
children = lambda pid: Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
deadline = time.monotonic() + 30
while not children(tool.pid) or Path(f"/proc/{children(tool.pid)[0]}/comm").read_text() != "sleep\\n":
    assert time.monotonic() < deadline
    time.sleep(0.01)
first = int(children(tool.pid)[0])
tool.kill()
tool.wait()
os.kill(first, 9)
os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
reaped = reap_orphans()
print(reaped)
if not reaped:
    os.waitpid(first, 0)
"""


@pytest.mark.parametrize(("leads_a_session", "reaped"), [((), 1), (("setsid",), 0)])
def test_first_processes_are_reaped_unless_they_lead_a_session(leads_a_session: tuple[str, ...], reaped: int) -> None:
    """Those of sandboxes do, and their ends are somebody's to see."""
    command = [sys.executable, "-c", SCRIPT, *leads_a_session]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.stdout.strip(), ended.stderr) == (str(reaped), "")
