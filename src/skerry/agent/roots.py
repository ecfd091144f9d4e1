"""Which trees the files API may touch: a sandbox's disk with its shared folders, or a checkpoint, read-only."""

from __future__ import annotations

from pathlib import Path

from skerry.agent.files.views import HostMount, View
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.runtime.contract import Runtime


class SandboxRoots:
    def __init__(self, runtime: Runtime, sandboxes: Sandboxes, sleeper: Sleeper) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._sleeper = sleeper

    async def sandbox_view(self, sandbox_id: str, *, wake: bool = True) -> View:
        if wake:
            # Its disk is there asleep, too, but whoever reads a file wants what its programs write there.
            await self._sleeper.wake(sandbox_id, "files")
        order = self._sandboxes.order_of(sandbox_id)
        mounts = [HostMount(mount.target, Path(mount.source), mount.readonly) for mount in order.spec.mounts]
        return View(self._runtime.disk_path(sandbox_id), mounts)

    async def checkpoint_view(self, checkpoint_id: str) -> View:
        return View(self._runtime.checkpoint_path(checkpoint_id), readonly=True)
