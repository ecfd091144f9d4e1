"""Which trees the files API may touch: a sandbox's disk with its folders and volumes, or a checkpoint, read-only."""

from __future__ import annotations

from skerry.agent.files.views import View
from skerry.agent.plans import Plans
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.runtime.contract import Runtime


class SandboxRoots:
    def __init__(self, runtime: Runtime, sandboxes: Sandboxes, sleeper: Sleeper, plans: Plans) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._sleeper = sleeper
        self._plans = plans

    async def sandbox_view(self, sandbox_id: str, *, wake: bool = True) -> View:
        if wake:
            # Its disk is there asleep, too, but whoever reads a file wants what its programs write there.
            await self._sleeper.wake(sandbox_id, "files")
        order = self._sandboxes.order_of(sandbox_id)
        return View(self._runtime.disk_path(sandbox_id), self._plans.mounts(order))

    async def checkpoint_view(self, checkpoint_id: str) -> View:
        return View(self._runtime.checkpoint_path(checkpoint_id), readonly=True)
