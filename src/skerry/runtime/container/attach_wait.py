"""Begin early what the kernel makes everyone wait for who moves a process into a control group.

After a quiet moment the first such move waits for an RCU grace period, some 12 ms; those that follow at once do not.
crun makes its move only when it has loaded, so a move of ours, from where we are to where we are, lets the wait pass
meanwhile: the first exec after a pause takes 12 ms instead of 22. Mounting the groups with `favordynmods` would do away
with the wait, but slows every fork on the machine and cannot be taken back; that is for its owner to decide.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
RESTS_S = 0.012
"""So soon after one move the next one does not wait."""


class AttachWait:
    def __init__(self, root: Path = GROUPS) -> None:
        self._root = root
        self._fd = -1
        self._moving: asyncio.Future[None] | None = None
        self._moved_s = 0.0

    def open(self) -> None:
        """Without a group to be found, it does nothing."""
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            file = self._root / controllers.removeprefix("name=") / path.lstrip("/") / "cgroup.procs"
            try:
                self._fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
                return
            except OSError:
                continue

    def begin(self) -> None:
        """For who is about to start crun; returns at once."""
        loop = asyncio.get_running_loop()
        if self._fd < 0 or self._moving is not None or loop.time() - self._moved_s < RESTS_S:
            return
        self._moving = loop.run_in_executor(None, self._move)
        self._moving.add_done_callback(self._on_moved)

    def _move(self) -> None:
        try:
            os.write(self._fd, b"0")
        except OSError:  # it was only to save time
            pass

    def _on_moved(self, moving: asyncio.Future[None]) -> None:
        self._moving = None
        self._moved_s = moving.get_loop().time()

    async def close(self) -> None:
        if self._moving is not None:
            await asyncio.wait({self._moving})
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
