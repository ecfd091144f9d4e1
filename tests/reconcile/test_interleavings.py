"""Whatever people, machines and deaths of control do to jobs in whatever order, step by step: the books are true after
every step, nothing runs twice, and the world comes to rest."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.control.app import Control
from skerry.control.intents import evictions, images, jobs, nodes, queues
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.nodes.watch import WatchNode
from skerry.control.reconcile.sandboxes.place import PlaceSandboxes
from skerry.errors import SkerryError
from skerry.model.image import ImageRequest
from skerry.model.job import JOB_FINAL, JobSpec
from skerry.model.order import Presence
from skerry.model.queue import QueueUpdate
from skerry.settings import Settings
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction
from skerry.telemetry import Log
from tests.reconcile.fake_agent import FakeAgent
from tests.reconcile.fake_world import Box
from tests.store.conftest import StillClock

OWNERS = (
    "PlaceSandboxes",
    "EvictSandboxes",
    "StartSandboxes",
    "StopSandboxes",
    "DeleteSandboxes",
    "ObserveSandboxes",
    "DependJobs",
    "AdvanceTasks",
    "AdvanceJobs",
    "ForgetJobs",
    "SweepNode",
    "WatchNode",
)
KINDS = ("submit", "end", "cancel", "lose", "away", "back", "reboot", "evict", "drain", "uncordon", "restart", "delete")
SEATS = 3
"""Of which the machine has so many, and no more is ever promised."""
ROUNDS_MAX = 80


class Life:
    def __init__(self, folder: Path, run: Path) -> None:
        """`run`: the same for all, since a node is known by its socket."""
        self.settings = Settings(data_dir=folder, run_dir=run, listen="127.0.0.1:0")
        self.clock = StillClock()
        self.agent = FakeAgent(self.settings.agent_socket)
        self.agent.capacity["extras"] = {"seat": SEATS}
        self.agent.between = self._answer
        self.is_away = False
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self.agent.start()
        await self.begin()

    async def begin(self) -> None:
        """A control program whose reconcilers step when they are told to."""
        self.control = Control(self.settings, Log("control", "error"), self.clock)
        await self.control.store.open()
        await self._stack.enter_async_context(self.control.agent)
        await self._stack.enter_async_context(self.control._group)
        self.owners = {type(each).__name__: each for each, _, _ in self.control.reconcilers.all}
        hands = (getattr(owner, "hands", None) for owner in self.owners.values())
        self.hands: list[Hands] = [each for each in hands if each is not None]

    async def end(self) -> None:
        """As a killed one: what is in hand is cut off."""
        await self.control.reconcilers.stop()
        await self._stack.aclose()
        await self.control.store.close()

    async def close(self) -> None:
        await self.end()
        await self.agent.stop()

    @property
    def store(self) -> Store:
        return self.control.store

    async def _answer(self, request: web.Request, handler: Any) -> Any:
        if self.is_away and request.transport is not None:
            request.transport.abort()
            return web.Response()
        return await handler(request)

    async def step(self, name: str, *, inspect: bool = False) -> None:
        owner: Any = self.owners[name]
        with suppress(SkerryError):
            if isinstance(owner, WatchNode):
                await self._touch(owner)
            elif isinstance(owner, PlaceSandboxes):
                if inspect:
                    self.control.reconcilers.mirror.look_at_all()
                await owner.step()
                assert owner.inspection.found == []
            else:
                await owner.step()
        for hands in self.hands:
            await hands.settle()
        await self.look()

    async def _touch(self, watch: WatchNode) -> None:
        try:
            node = await watch._seen(await self.control.agent.capacity())
            watch._book.begin(node.id, await self.control.agent.reports())
        except SkerryError:
            watch._book.end()
            await watch._lost_touch()

    async def look(self) -> None:
        """What holds at every moment."""
        async with self.store.read() as tx:
            assert await tx.stays.astray() == []
            usage = await tx.sandboxes.usage()
            holdings = await tx.sandboxes.holdings()
        assert sum(each.extras.get("seat", 0) for each in holdings if not each.pending) <= SEATS
        assert sum(each.cpu for each in holdings if not each.pending) == pytest.approx(
            sum(cpu for cpu, _, _ in usage.values())
        )
        running = [box for box in self.boxes() if box.presence is Presence.RUNNING]
        seats = Counter(tuple(box.order.spec.env[key] for key in KEYS) for box in running)
        assert all(count == 1 for count in seats.values()), "a member runs twice"
        assert all(box.starts <= 1 for box in self.boxes())

    def boxes(self) -> list[Box]:
        return [box for _, box in sorted(self.agent.world.boxes.items())]

    # What befalls it

    async def do(self, kind: str, chance: random.Random) -> None:
        running = [box for box in self.boxes() if box.presence is Presence.RUNNING]
        match kind:
            case "submit":
                with suppress(SkerryError):
                    async with self.store.write() as tx:
                        await jobs.submit(tx, _spec(chance), owner="tester", server=jobs.Server())
            case "cancel" | "delete" | "evict" | "drain" | "uncordon":
                with suppress(SkerryError):
                    async with self.store.write() as tx:
                        await self._write(tx, kind, chance)
            case "end" if running:
                self.agent.end(chance.choice(running).order.sandbox_id, chance.choice((0, 0, 1)))
            case "lose" if running:
                self.agent.lose(chance.choice(running).order.sandbox_id)
            case "away" | "back":
                self.is_away = kind == "away"
            case "reboot":
                for box in running:
                    self.agent.lose(box.order.sandbox_id)
            case "restart":
                await self.end()
                await self.begin()
            case _:
                pass

    async def _write(self, tx: Transaction, kind: str, chance: random.Random) -> None:
        there = (await tx.jobs.list(PROJECT, limit=100)).items
        match kind:
            case "cancel" if there:
                await jobs.cancel(tx, chance.choice(there), reason="enough")
            case "delete" if there:
                await jobs.delete(tx, chance.choice(there))
            case "evict" if self.boxes():
                box = chance.choice(self.boxes()).order.sandbox_id
                await evictions.evict(tx, box, "others need it", grace_s=0, for_others=True)
            case "drain" | "uncordon":
                node = await tx.nodes.find((await tx.nodes.all())[0].id)
                await (nodes.drain if kind == "drain" else nodes.uncordon)(tx, node)
            case _:
                pass

    async def come_to_rest(self, chance: random.Random) -> None:
        """Nothing is in the way any more, and every command ends well. Places are given more seldom than they come
        back: some are over before the scheduler looks again."""
        self.is_away = False
        async with self.store.write() as tx:
            await nodes.uncordon(tx, await tx.nodes.find((await tx.nodes.all())[0].id))
        left: list[Any] = []
        for number in range(ROUNDS_MAX):
            self.clock.move(10)
            for box in self.boxes():
                if box.presence is Presence.RUNNING:
                    self.agent.end(box.order.sandbox_id, 0)
            for name in chance.sample(OWNERS, len(OWNERS)):
                if name != "PlaceSandboxes" or number % 3 == 0:
                    await self.step(name, inspect=number % 2 == 0)
            async with self.store.read() as tx:
                going_on = [job for job in (await tx.jobs.list(PROJECT, limit=100)).items if job.state not in JOB_FINAL]
                left = [*going_on, *await tx.ledger.page(0, 100), *await tx.networks.all(), *self.boxes()]
            if not left:
                return
        pytest.fail(f"it did not come to rest: {left}")


KEYS = ("SKERRY_JOB_ID", "SKERRY_INDEX", "SKERRY_RANK")


def _spec(chance: random.Random) -> JobSpec:
    return JobSpec.model_validate(
        {
            "image": "debian:12",
            "command": ["work"],
            "memory": "16MiB",
            "cpu": 0.1,
            "grace_s": 0,
            "extras": {"seat": 1},
            "nodes": chance.choice((1, 1, 2, 3)),
            "array": chance.choice((1, 2)),
            "tier": chance.choice(("free", "production")),
            "retry": {"limit": chance.choice((0, 2)), "backoff_s": 5},
        }
    )


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[Path, Path, set[str]]]:
    """The folder of a database with an image and a node in it, that of the node's socket, and the node's images."""
    with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder, tempfile.TemporaryDirectory() as run:

        async def prepare() -> set[str]:
            life = Life(Path(folder), Path(run))
            await life.open()
            async with life.store.write() as tx:
                await images.request_image(tx, ImageRequest(name="debian:12", source="docker://registry/debian:12"))
                rules = {"minimum_run_s": 0, "grace_s": 0}
                await queues.update(
                    tx, await tx.queues.find("default"), QueueUpdate.model_validate({"preemption": rules})
                )
            await life.step("WatchNode")
            await life.step("CreateImages")
            await life.close()
            return life.agent.world.images

        yield Path(folder), Path(run), asyncio.run(prepare())


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16)), min_size=2, max_size=8))
def test_jobs_in_any_order(prepared: tuple[Path, Path, set[str]], befalls: list[tuple[str, int]]) -> None:
    async def live() -> None:
        with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder:
            shutil.copytree(prepared[0], folder, dirs_exist_ok=True)
            life = Life(Path(folder), prepared[1])
            life.agent.world.images |= prepared[2]
            await life.open()
            try:
                for kind, number in [("submit", 1), *befalls]:
                    chance = random.Random(number)
                    await life.do(kind, chance)
                    life.clock.move(chance.choice((0.1, 1, 6)))
                    for name in chance.sample(OWNERS, chance.randint(2, 8)):
                        await life.step(name, inspect=chance.random() < 0.5)
                await life.come_to_rest(random.Random(len(befalls)))
            finally:
                await life.close()

    asyncio.run(live())
