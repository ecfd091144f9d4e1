"""Control without HTTP beside an agent without a machine; either can be killed at any moment."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from skerry.clock import SystemClock
from skerry.control.app import Control
from skerry.control.intents import checkpoints, forks, images, sandboxes, volumes
from skerry.control.intents.capacity import none_known
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.explanation import Wait
from skerry.model.image import Image, ImageRequest, ImageState
from skerry.model.operation import Operation, OperationState
from skerry.model.sandbox import AT_REST, ForkRequest, S, Sandbox, SandboxSpec, SandboxUpdate
from skerry.model.volume import Volume, VolumeRequest, VolumeState
from skerry.settings import Settings
from skerry.store.store import Store
from skerry.store.transaction import PROJECT
from skerry.telemetry import Log
from tests.reconcile.fake_agent import FakeAgent
from tests.reconcile.fake_world import Box

CONVERGED_S_MAX = 30.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


class Cloud:
    """The tests write intents with a store of their own, as another control program would."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.settings = Settings(
            data_dir=folder, run_dir=folder / "run", listen="127.0.0.1:0", database_url=database_url
        )
        self.agent = FakeAgent(self.settings.agent_socket)
        self.store = Store(self.settings.database, SystemClock())
        self.control: Control | None = None
        self.store.changes.listen(self._wake)

    def _wake(self, record: Any) -> None:
        if self.control is not None:
            self.control.store.changes.publish(record)

    async def open(self) -> None:
        await self.agent.start()
        await self.start_control()
        await self.store.open()

    async def close(self) -> None:
        await self.kill_control()
        await self.agent.stop()
        await self.store.close()

    async def start_control(self) -> None:
        control = Control(self.settings, Log("control", "error"))
        await control.__aenter__()
        self.control = control

    async def kill_control(self) -> None:
        """Everything it does is cut off where it waits; nothing more is written."""
        if self.control is not None:
            control, self.control = self.control, None
            await control.__aexit__(None, None, None)

    # Intents

    async def image(self, name: str = "debian:12") -> Image:
        async with self.store.write() as tx:
            made = await images.request_image(tx, ImageRequest(name=name, source=f"docker://registry/{name}"))
        return await self.until_image(made.id, ImageState.READY)

    async def create(self, name: str, **spec: Any) -> Sandbox:
        async with self.store.write() as tx:
            wanted = SandboxSpec(image="debian:12", name=name, **spec)
            known = none_known if self.control is None else self.control.reconcilers.refusals.why_never
            return await sandboxes.create(tx, wanted, why_never=known, share=[], sandboxes_max=100)

    async def volume(self, name: str, **wanted: Any) -> Volume:
        async with self.store.write() as tx:
            made = await volumes.create(tx, VolumeRequest(name=name, **wanted), volumes_max=100)
        return await self.until_volume(made.id, VolumeState.READY)

    async def start(self, sandbox: Sandbox) -> Sandbox:
        async with self.store.write() as tx:
            return await sandboxes.start(tx, await tx.sandboxes.find(sandbox.id, PROJECT))

    async def stop(self, sandbox: Sandbox) -> Sandbox:
        async with self.store.write() as tx:
            return await sandboxes.stop(tx, await tx.sandboxes.find(sandbox.id, PROJECT), 0)

    async def restore(self, sandbox: Sandbox, ref: str) -> Sandbox:
        async with self.store.write() as tx:
            return await sandboxes.restore(tx, await tx.sandboxes.find(sandbox.id, PROJECT), ref)

    async def update(self, sandbox: Sandbox, **wanted: Any) -> Sandbox:
        async with self.store.write() as tx:
            found = await tx.sandboxes.find(sandbox.id, PROJECT)
            return await sandboxes.update(tx, found, SandboxUpdate(**wanted))

    async def delete(self, sandbox: Sandbox) -> Sandbox:
        async with self.store.write() as tx:
            return await sandboxes.delete(tx, await tx.sandboxes.find(sandbox.id, PROJECT), force=False)

    async def checkpoint(self, sandbox: Sandbox, origin: Origin = Origin.USER) -> Checkpoint:
        async with self.store.write() as tx:
            return await checkpoints.request_checkpoint(tx, sandbox.id, origin)

    async def fork(self, sandbox: Sandbox, count: int, checkpoint: str | None = None) -> list[Sandbox]:
        async with self.store.write() as tx:
            parent = await tx.sandboxes.find(sandbox.id, PROJECT)
            request = ForkRequest(count=count, checkpoint=checkpoint)
            return await forks.fork(tx, parent, request, sandboxes_max=100)

    # Facts

    def box(self, sandbox: Sandbox) -> Box:
        return self.agent.world.boxes[sandbox.id]

    async def get(self, sandbox: Sandbox) -> Sandbox:
        async with self.store.read() as tx:
            found = await tx.sandboxes.get(sandbox.id)
        assert found is not None
        return found

    async def until(self, found: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
        seen = None
        try:
            async with asyncio.timeout(CONVERGED_S_MAX):
                while not done(seen := await found()):  # noqa: ASYNC110 - it is written by many
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"did not converge: {seen}")
        return seen

    async def until_state(self, sandbox: Sandbox, *states: S) -> Sandbox:
        return await self.until(lambda: self.get(sandbox), lambda found: found.state in states)

    async def until_rest(self, sandbox: Sandbox) -> Sandbox:
        return await self.until(lambda: self.get(sandbox), lambda found: found.state in AT_REST)

    async def until_checkpoint(self, checkpoint: Checkpoint, *states: CheckpointState) -> Checkpoint:
        async def read() -> Checkpoint | None:
            async with self.store.read() as tx:
                return await tx.checkpoints.get(checkpoint.id)

        return await self.until(read, lambda found: found.state in states)

    async def until_image(self, image_id: str, *states: ImageState) -> Image:
        async def read() -> Image | None:
            async with self.store.read() as tx:
                return await tx.images.get(image_id)

        return await self.until(read, lambda found: found.state in states)

    async def until_volume(self, volume_id: str, *states: VolumeState) -> Volume:
        async def read() -> Volume | None:
            async with self.store.read() as tx:
                return await tx.volumes.get(volume_id)

        return await self.until(read, lambda found: found.state in states)

    async def why(self, sandbox: Sandbox) -> Wait | None:
        """By the newest decision of the control that runs."""
        assert self.control is not None
        return await self.control.reconcilers.place_sandboxes.why_waiting(sandbox.id)

    async def problems(self) -> list[str]:
        """What the checker of production finds, asked of the control that runs."""
        assert self.control is not None
        reconcilers = self.control.reconcilers
        inspection = reconcilers.place_sandboxes.inspection
        before = inspection.looks
        reconcilers.mirror.look_at_all()
        self.control.wakeups.place_sandboxes.set()

        async def looks() -> int:
            return inspection.looks

        await self.until(looks, lambda found: found > before)
        return inspection.found

    async def operations(self) -> Sequence[Operation]:
        async with self.store.read() as tx:
            return (await tx.operations.list(PROJECT, limit=500)).items

    async def failed_operations(self) -> list[str]:
        bad = [each for each in await self.operations() if each.state is not OperationState.SUCCEEDED]
        return [f"{each.kind} {each.state} {each.error}" for each in bad]


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder:  # not tmp_path: sockets' paths are short
        (Path(folder) / "run").mkdir()
        made = Cloud(Path(folder))
        await made.open()
        yield made
        await made.close()
