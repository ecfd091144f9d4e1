"""What this machine has, as it is told to control: measured, but for what its settings say of it."""

from __future__ import annotations

import os
import platform

from skerry.agent.devices import Devices
from skerry.agent.networks.host_routes import ROUTES, ranges_taken
from skerry.model.node import Capacity
from skerry.runtime.contract import Runtime
from skerry.settings import Settings


class Machine:
    def __init__(self, settings: Settings, runtime: Runtime, devices: Devices, *, own_links: str) -> None:
        """`own_links`: how the names of the sandboxes' links begin."""
        self._settings = settings
        self._runtime = runtime
        self._devices = devices
        self._own_links = own_links

    async def capacity(self) -> Capacity:
        total, free = await self._runtime.room()
        return Capacity(
            cpu=float(len(os.sched_getaffinity(0))),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk_bytes=total,
            disk_free_bytes=free,
            labels=self._settings.node_labels,
            taints=self._settings.node_taints,
            arch=platform.machine(),
            accelerators=self._devices.accelerators,
            extras=self._settings.extras,
            ranges=ranges_taken(ROUTES.read_text(), self._own_links),
            kernel=platform.release(),
            runtime=self._runtime.name,
        )
