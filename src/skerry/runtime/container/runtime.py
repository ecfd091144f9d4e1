"""`contract.Runtime` for containers: crun on btrfs disks, one control group and one set of namespaces per sandbox."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.errors import Conflict, Failed
from skerry.model.sandbox import MIB, ExitReason, SandboxSpec
from skerry.runtime.container import crun as crun_words
from skerry.runtime.container import oci
from skerry.runtime.container.attach_wait import AttachWait
from skerry.runtime.container.box import Box
from skerry.runtime.container.cgroups import Cgroups
from skerry.runtime.container.crun import Crun
from skerry.runtime.container.exec import ExecProcess
from skerry.runtime.container.launch import Launcher, Layout
from skerry.runtime.container.orphans import keep_reaping, reap_orphans
from skerry.runtime.container.output import OutputReader
from skerry.runtime.container.pool import Pool
from skerry.runtime.container.processes import (
    heeds,
    main_of,
    network_bytes,
    network_connections,
    settle_runs,
    uid_base_of,
)
from skerry.runtime.container.spawn import Child
from skerry.runtime.container.syscalls import set_child_subreaper
from skerry.runtime.contract import Capabilities, Ended, ExecPlan, Found, OnOutput, StartPlan, Usage

OPEN_FILES_WANTED = 1_048_576
"""The kernel's own ceiling (fs.nr_open): a sandbox's limit can be no higher than ours."""
FLUSH_FROM_BYTES = 4 * MIB
"""From so much unwritten data on, writing it out before the freeze costs less than doing it inside."""
KILLED_WAIT_S = 10.0
REAP_POLL_S = 0.01
READY_WAIT_S, READY_POLL_S = 1.0, 0.001

log = logging.getLogger(__name__)


class ContainerRuntime:
    name = "container"

    def __init__(self, *, pool: Pool, cgroups: Cgroups, crun: Crun, layout: Layout, launcher: Launcher) -> None:
        self.capabilities = Capabilities()
        self._pool = pool
        self._cgroups = cgroups
        self._crun = crun
        self._layout = layout
        self._launcher = launcher
        self._boxes: dict[str, Box] = {}
        self._clearing: dict[str, asyncio.Lock] = {}
        self._attach_wait = AttachWait()
        self._reaping: asyncio.Task[None] | None = None

    # The machine

    async def open(self) -> None:
        installed = crun_words.version()
        if installed is None or installed < crun_words.VERSION_MIN:
            least = ".".join(map(str, crun_words.VERSION_MIN))
            raise Failed(f"crun {least} or newer is needed: run `apt-get install crun`", because=f"found {installed}")
        set_child_subreaper()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(hard, OPEN_FILES_WANTED) if os.geteuid() == 0 else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        await self._pool.open()
        self._launcher.open()
        self._attach_wait.open()
        # An agent that died in a checkpoint left one frozen; if that had not become init yet, it is still a `crun run`,
        # which would never end and be killed.
        for sandbox_id in self._cgroups.names():
            self._cgroups.thaw(sandbox_id)
        await asyncio.to_thread(settle_runs, self._crun.root)
        self._reaping = asyncio.create_task(keep_reaping())

    async def close(self) -> None:
        if self._reaping is not None:
            self._reaping.cancel()
        for box in self._boxes.values():
            box.close()
        self._boxes.clear()
        self._launcher.close()
        await self._attach_wait.close()
        await self._cgroups.remove_parent()
        await self._pool.close()

    async def look(self) -> list[Found]:
        disks = set(await self._pool.disks())
        running = {name: self._pid_of(name) for name in self._cgroups.names()}
        return [Found(name, name in disks, running.get(name)) for name in sorted(disks | running.keys())]

    def _pid_of(self, sandbox_id: str) -> int | None:
        return main_of(self._cgroups.pids(sandbox_id), self._layout.bundle(sandbox_id).pid())

    async def room(self) -> tuple[int, int]:
        return await self._pool.room()

    # Disks

    async def import_image(self, digest: str, unpack: Callable[[Path], Awaitable[None]]) -> int:
        return await self._pool.import_image(digest, unpack)

    def image_path(self, digest: str) -> Path:
        return self._pool.image_path(digest)

    async def images(self) -> list[str]:
        return await self._pool.images()

    async def delete_image(self, digest: str) -> None:
        await self._pool.delete_image(digest)

    async def create_disk(self, sandbox_id: str, source_image: str | None, source_checkpoint: str | None) -> bool:
        self._attach_wait.begin()
        return await self._pool.create_disk(sandbox_id, source_image, source_checkpoint)

    def disk_path(self, sandbox_id: str) -> Path:
        return self._pool.disk_path(sandbox_id)

    def checkpoint_path(self, checkpoint_id: str) -> Path:
        return self._pool.checkpoint_path(checkpoint_id)

    async def checkpoints(self) -> list[str]:
        return await self._pool.checkpoints()

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        await self._pool.delete_checkpoint(checkpoint_id)

    # Volumes

    async def create_volume(
        self, volume_id: str, source: str | None, limit_bytes: int | None, *, readonly: bool = False
    ) -> None:
        await self._pool.create_volume(volume_id, source, limit_bytes, readonly=readonly)

    async def resize_volume(self, volume_id: str, limit_bytes: int) -> None:
        await self._pool.resize_volume(volume_id, limit_bytes)

    def volume_path(self, volume_id: str) -> Path:
        return self._pool.volume_path(volume_id)

    async def volumes(self) -> dict[str, int]:
        return await self._pool.volumes()

    async def delete_volume(self, volume_id: str) -> None:
        await self._pool.delete_volume(volume_id)

    # Life

    async def start(self, plan: StartPlan, on_output: OnOutput) -> int:
        pid = await self.adopt(plan.sandbox_id, on_output)
        if pid is not None:
            return pid
        if self._has_remains(plan.sandbox_id):
            await self._clear(plan.sandbox_id)
        self._attach_wait.begin()
        disk = self._pool.disk_path(plan.sandbox_id)
        await self._pool.set_limit(plan.sandbox_id, plan.spec.disk)
        try:
            main, output = await self._launcher.start(plan, disk, on_output)
        except BaseException:
            await asyncio.shield(self._clear(plan.sandbox_id))
            raise
        self._keep(plan.sandbox_id, main, plan.slot.uid_base, output)
        return main.pid

    async def adopt(self, sandbox_id: str, on_output: OnOutput) -> int | None:
        box = self._boxes.get(sandbox_id)
        if box is not None and box.runs:
            box.listen(on_output)
            return box.main.pid
        self._cgroups.thaw(sandbox_id)
        pid = self._pid_of(sandbox_id)
        uid_base = uid_base_of(pid) if pid is not None else None
        main = Child.adopt(pid, self._layout.exits) if pid is not None else None
        if main is None or uid_base is None:
            return None
        output = OutputReader.open(self._layout.main_pipe(sandbox_id), on_output)
        box = self._keep(sandbox_id, main, uid_base, output)
        self._launcher.drain_strays(sandbox_id, box)
        return main.pid

    def _keep(self, sandbox_id: str, main: Child, uid_base: int, output: OutputReader | None) -> Box:
        box = Box(
            sandbox_id=sandbox_id,
            main=main,
            uid_base=uid_base,
            output=output,
            oom_kills=lambda: self._cgroups.oom_kills(sandbox_id),
            clear=lambda: self._clear(sandbox_id),
        )
        self._boxes[sandbox_id] = box
        return box

    async def wait(self, sandbox_id: str) -> Ended:
        box = self._boxes.get(sandbox_id)
        return await box.wait() if box is not None else Ended(None, ExitReason.LOST)

    async def stop(self, sandbox_id: str, grace_s: float) -> None:
        box = self._boxes.get(sandbox_id)
        if (box is None or not box.runs) and await self.adopt(sandbox_id, _ignore) is not None:
            box = self._boxes[sandbox_id]
        if box is not None and box.runs:
            await self._end(box, grace_s)
        if self._has_remains(sandbox_id):
            await self._clear(sandbox_id)

    async def _end(self, box: Box, grace_s: float) -> None:
        box.stopping = True
        try:
            self._cgroups.thaw(box.sandbox_id)
            box.frozen = False
            if grace_s > 0:
                await self._until_heeded(box, signal.SIGTERM, min(grace_s, READY_WAIT_S))
                box.main.signal(signal.SIGTERM)
                await self._until_ended(box, grace_s)
            if box.runs:
                # The main process is the first of its pid namespace: with it all others go.
                box.main.signal(signal.SIGKILL)
                await self._until_ended(box, KILLED_WAIT_S)
        except asyncio.CancelledError:
            box.stopping = False  # it may run on
            raise

    async def _until_ended(self, box: Box, limit_s: float) -> None:
        """Or until the limit. The kernel lets a main process end only when we have reaped what is ours of its guest."""
        ending = asyncio.ensure_future(box.wait())
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while not ending.done() and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.wait({ending}, timeout=REAP_POLL_S)
            reap_orphans()

    async def _until_heeded(self, box: Box, number: int, limit_s: float) -> None:
        """A sandbox that has only just started may not have set up its signals yet, and would never see this one."""
        for _ in range(int(limit_s / READY_POLL_S)):
            if not box.runs or heeds(box.main.pid, number):
                return
            await asyncio.sleep(READY_POLL_S)

    async def destroy(self, sandbox_id: str) -> None:
        await self.stop(sandbox_id, 0)
        await self._pool.delete_disk(sandbox_id)
        self._boxes.pop(sandbox_id, None)
        self._clearing.pop(sandbox_id, None)

    def _has_remains(self, sandbox_id: str) -> bool:
        return (
            self._cgroups.exists(sandbox_id) or (self._crun.root / sandbox_id).exists() or self._layout.has(sandbox_id)
        )

    async def _clear(self, sandbox_id: str) -> None:
        """No process, control group, mount or pipe of it is left; whatever was half made goes too."""
        async with self._clearing.setdefault(sandbox_id, asyncio.Lock()):
            await self._cgroups.kill(sandbox_id)
            await self._cgroups.remove(sandbox_id)
            self._crun.forget(sandbox_id)
            self._layout.bundle(sandbox_id).remove()
            shutil.rmtree(self._layout.pipes(sandbox_id), ignore_errors=True)

    # Checkpoints

    async def checkpoint(self, sandbox_id: str, checkpoint_id: str) -> float:
        box = self._boxes.get(sandbox_id)
        if box is None or not box.runs:
            await self._pool.snapshot(sandbox_id, checkpoint_id)
            return 0.0
        if self._cgroups.dirty_bytes(sandbox_id) >= FLUSH_FROM_BYTES:
            await self._pool.flush(sandbox_id)
        async with box.door:
            if box.frozen:
                await self._pool.snapshot(sandbox_id, checkpoint_id)
                return 0.0
            await box.nobody_entering()
            return await self._frozen_snapshot(sandbox_id, checkpoint_id)

    async def _frozen_snapshot(self, sandbox_id: str, checkpoint_id: str) -> float:
        began_s = time.perf_counter()
        try:
            if not await self._cgroups.freeze(sandbox_id):
                log.warning("checkpoint of %s: a process could not be frozen; the snapshot is atomic", sandbox_id)
            await self._pool.snapshot(sandbox_id, checkpoint_id)
        finally:
            self._cgroups.thaw(sandbox_id)
        return (time.perf_counter() - began_s) * 1000

    async def restore(self, sandbox_id: str, checkpoint_id: str) -> None:
        await self._pool.restore(sandbox_id, checkpoint_id, None)  # the next start sets the limit

    # Sleep

    async def freeze(self, sandbox_id: str, *, squeeze: bool = False) -> None:
        box = self._running(sandbox_id)
        async with box.door:
            self._running(sandbox_id)
            await box.nobody_entering()
            if not await self._cgroups.freeze(sandbox_id):
                self._cgroups.thaw(sandbox_id)
                raise Failed("a process of the sandbox is stuck in the kernel and cannot be frozen")
            box.frozen = True
        if squeeze:
            await asyncio.to_thread(self._cgroups.squeeze, sandbox_id)

    async def thaw(self, sandbox_id: str) -> None:
        box = self._boxes.get(sandbox_id)
        if box is not None and box.runs:
            async with box.door:
                self._cgroups.thaw(sandbox_id)
                box.frozen = False

    # While it runs

    async def limit(self, sandbox_id: str, spec: SandboxSpec) -> None:
        box = self._boxes.get(sandbox_id)
        if box is not None and box.runs:
            await self._pool.set_limit(sandbox_id, spec.disk)
            await asyncio.to_thread(self._cgroups.limit, sandbox_id, oci.ceilings(spec))

    def main_pid(self, sandbox_id: str) -> int | None:
        box = self._boxes.get(sandbox_id)
        return box.main.pid if box is not None and box.runs and not box.stopping else None

    async def exec(self, sandbox_id: str, plan: ExecPlan) -> ExecProcess:
        box = self._running(sandbox_id)
        self._attach_wait.begin()
        async with box.door:
            self._running(sandbox_id)
            process, entering = await self._launcher.exec(box, plan, lambda: self._cgroups.pids(sandbox_id))
            box.enter(entering)
            return process

    async def adopt_exec(self, sandbox_id: str, token: dict[str, str]) -> ExecProcess | None:
        box = self._boxes.get(sandbox_id)
        if box is None or not box.runs:
            return None
        return self._launcher.adopt_exec(box, token, lambda: self._cgroups.pids(sandbox_id))

    async def usage(self, sandbox_id: str) -> Usage:
        used = self._cgroups.usage(sandbox_id)
        pid = self._pid_of(sandbox_id)
        received, sent = network_bytes(pid) if pid is not None else (0, 0)
        return Usage(
            cpu_s=used.cpu_s,
            memory_bytes=used.memory_bytes,
            memory_peak_bytes=used.memory_peak_bytes,
            oom_kills=used.oom_kills,
            pids=used.pids,
            disk_bytes=await self._pool.disk_usage(sandbox_id),
            network_received_bytes=received,
            network_sent_bytes=sent,
            network_connections=network_connections(pid) if pid is not None else 0,
        )

    def _running(self, sandbox_id: str) -> Box:
        box = self._boxes.get(sandbox_id)
        if box is None or not box.runs or box.stopping:
            raise Conflict("the sandbox does not run; start it first")
        return box


def _ignore(_: bytes) -> None:
    pass
