"""Reap what nobody waits for: processes of guests whose parent outside died, and what crun and killed tools leave.

We are their parent as subreaper. One that is not reaped is more than a wasted number: the first process of a pid
namespace cannot end before every member of it is reaped, so a sandbox would never stop.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

POLL_S = 0.5
"""There is no event for it: a guest's main process that ends by itself waits in the kernel until we have reaped."""


def reap_orphans() -> int:
    """Every zombie child of ours that no `Child` waits for; how many there were."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return 0  # the usual case, in one call: looking at each child would cost 1 % of a core with 200 sandboxes
    except ChildProcessError:
        return 0
    me = os.getpid()
    try:
        pids = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    reaped = 0
    for pid in pids:
        if _is_orphan(int(pid), me):
            try:
                reaped += os.waitpid(int(pid), os.WNOHANG)[0] != 0
            except ChildProcessError:
                continue
    return reaped


def _is_orphan(pid: int, parent: int) -> bool:
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        state, ppid, _, session = rest.split()[:4]
        if state != "Z" or int(ppid) != parent:
            return False
        numbers = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "NSpid" in line)
    except (OSError, StopIteration):
        return False
    inner = numbers.split()[1:]
    if len(inner) > 1 and inner[-1] != "1":
        return True
    # A sandbox's main process, number 1 of its namespace, leads a session, as do those that we start: for their ends a
    # `Child` waits. What else is number 1 was the tool of an image build that has been broken off.
    return int(session) != pid and (len(inner) > 1 or name == "crun")


async def keep_reaping() -> None:
    while True:
        reap_orphans()
        await asyncio.sleep(POLL_S)
