"""Keep in touch with a machine's agent: whether it answers, what the machine has, and what it reports."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.clock import Clock
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.control.wakeups import Wakeups
from skerry.errors import SkerryError, Unavailable
from skerry.model.identity import make_id
from skerry.model.node import Capacity, Node, NodeState
from skerry.model.order import Presence, Report
from skerry.store.store import Store
from skerry.telemetry import Log

CAPACITY_EVERY_S = 15.0


class WatchNode:
    moves: ClassVar[frozenset[tuple[NodeState, NodeState]]] = frozenset()
    """A node's state is what was seen, not a step of a plan: it has no table of moves."""

    def __init__(
        self,
        *,
        store: Store,
        agent: AgentClient,
        agent_socket: Path,
        name: str,
        book: ReportBook,
        wakeups: Wakeups,
        clock: Clock,
        log: Log,
    ) -> None:
        self._store = store
        self._agent = agent
        self._agent_socket = agent_socket
        self._name = name
        self._book = book
        self._wakeups = wakeups
        self._clock = clock
        self._log = log
        self._looked_s = 0.0

    async def step(self) -> None:
        """For as long as the agent answers. Ends when it does not, and the next round tries again."""
        try:
            node = await self._seen(await self._agent.capacity())
            async with aclosing(self._agent.watch_reports()) as stream:
                async for told in stream:
                    self._hear(node, told)
                    if self._clock.monotonic_s() - self._looked_s > CAPACITY_EVERY_S:
                        node = await self._seen(await self._agent.capacity())
            raise Unavailable("the agent ended its report stream")
        except SkerryError as error:
            if self._book.heard or not isinstance(error, Unavailable):
                self._log.warning("node is unreachable", say=error.say, because=error.because)
            await self._lost_touch()
        finally:
            self._book.end()

    def _hear(self, node: Node, told: list[Report] | Report | None) -> None:
        match told:
            case list():
                self._book.begin(node.id, told)
                self._wakeups.observe_sandboxes.set()
                self._wakeups.sweep_node.set()
                self._wakeups.answer_guests.set()
            case Report():
                was = self._book.get(told.sandbox_id)
                self._book.put(told)
                woke = told.presence is Presence.RUNNING and was is not None and was.presence is Presence.ASLEEP
                known = (was.services, was.health) if was is not None else ((), None)
                if (
                    woke
                    or (told.services, told.health) != known
                    or told.presence in (Presence.STOPPED, Presence.LOST, Presence.ASLEEP)
                ):
                    self._wakeups.observe_sandboxes.set()
                if told.checkpoint_wanted is not None:
                    self._wakeups.answer_guests.set()
            case None:
                pass

    async def _seen(self, capacity: Capacity) -> Node:
        self._looked_s = self._clock.monotonic_s()
        async with self._store.write() as tx:
            was = await tx.nodes.by_socket(str(self._agent_socket))
            node = Node(
                id=was.id if was else make_id("node", tx.chance(6)),
                name=self._name,
                state=NodeState.READY,
                agent_socket=str(self._agent_socket),
                cpu=capacity.cpu,
                memory_bytes=capacity.memory_bytes,
                disk_bytes=capacity.disk_bytes,
                disk_free_bytes=capacity.disk_free_bytes,
                own_labels=capacity.labels,
                own_taints=capacity.taints,
                arch=capacity.arch,
                accelerators=capacity.accelerators,
                extras=capacity.extras,
                ranges=capacity.ranges,
                seen_at=tx.now,
            )
            await tx.nodes.put(node, was)
        if was is None or was.state is not NodeState.READY:
            self._wakeups.about_agent()
        return node

    async def _lost_touch(self) -> None:
        async with self._store.read() as tx:
            was = await tx.nodes.by_socket(str(self._agent_socket))
        if was is None or was.state is NodeState.UNREACHABLE:
            return
        async with self._store.write() as tx:
            await tx.nodes.put(was.model_copy(update={"state": NodeState.UNREACHABLE}), was)
