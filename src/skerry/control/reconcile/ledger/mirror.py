"""What the scheduler goes by, in memory: who has a place and who waits, kept up to date by reading what has changed.

It is a copy and may be late; nothing is lost by that, since places are given under a guard. Every so often all of it is
read anew, and what the copy said is held against what the database says: a difference is an error of ours, and is told
by the inspection.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from skerry.clock import Clock
from skerry.control.reconcile.ledger.shapes import DISK_FREE, TIERS, Limits, Shapes
from skerry.model.node import Node
from skerry.model.queue import QueueSpec
from skerry.model.sandbox import HOLDS_PLACE, S
from skerry.scheduler import snapshot
from skerry.scheduler.snapshot import Placement
from skerry.store.changes import Record
from skerry.store.ledger import SandboxRow
from skerry.store.store import Store

ANEW_S = 300.0
"""Between two times at which everything is read: what a lost change could cost at most."""
PAGE_ROWS = 2000
STEPS_MAX = 64
"""In which a node's room for disks is told: one that stops or goes need not be told to the scheduler every time."""
_PLACED = frozenset(state.value for state in HOLDS_PLACE)
_GONE = frozenset({S.DELETED.value})


class Mirror:
    def __init__(self, store: Store, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self.shapes = Shapes(limits)
        self.newest = -1
        """Number of the newest event that is in it. -1: nothing was read yet."""
        self._read_s = 0.0
        self.records: dict[str, Node] = {}
        self.nodes: dict[str, snapshot.Node] = {}
        self.machines: dict[str, snapshot.Node] = {}
        """The nodes as they would be if they were empty, and accepted work: seldom another."""
        self.machines_changed = 0
        """Counts how often they were others than before."""
        self.queues: dict[str, QueueSpec] = {}
        self.placements: dict[str, Placement] = {}
        self.waiting: dict[str, SandboxRow] = {}
        """In no order."""
        self._there: dict[str, str] = {}
        """Sandbox -> node, of those whose disk is there and that neither have a place nor wait for one there."""
        self._resting: Counter[str] = Counter()
        self._resting_told: dict[str, int] = {}
        self.moved: dict[str, Placement | None] = {}
        """Places that are others than they were, since somebody took this and emptied it."""
        self.nodes_changed = True
        self.is_anew = False
        """Everything was read in the newest refresh."""
        self.astray: list[str] = []
        """Where the copy differed from what was then read, though nothing had told of a change."""

    def hear(self, record: Record) -> bool:
        """Of a commit of this program: the one thing that is told without an event is what a node has. Whether places
        are to be looked at again for that: most often a machine says what it has said before."""
        if not isinstance(record, Node):
            return False
        if self.newest >= 0:
            self._see_node(record)
        return self.nodes_changed

    def look_at_all(self) -> None:
        """The next refresh reads everything anew."""
        self._read_s = -ANEW_S

    async def refresh(self) -> None:
        self.is_anew = False
        late = self._clock.monotonic_s() - self._read_s > ANEW_S
        if self.newest < 0 or late:
            return await self._read_all()
        async with self._store.read() as tx:
            told = await tx.ledger.told(self.newest)
            if told is None:
                return await self._read_all()
            rows = await tx.ledger.rows(told.sandboxes) if told.sandboxes else []
            nodes = await tx.nodes.all() if "node" in told.nouns else None
            queues = await tx.queues.all() if "queue" in told.nouns else None
        if nodes is not None:
            self._see_nodes(nodes)
        looked = self.shapes.looked
        if queues is not None:
            self._see_queues({queue.name: queue.spec for queue in queues})
        for row in rows:
            self._see(row)
        self.newest = told.newest
        if queues is not None or self.shapes.looked != looked:
            # Shapes are others: of all that have a place too.
            return await self._read_all()
        return None

    async def _read_all(self) -> None:
        self._read_s = self._clock.monotonic_s()
        seen: set[str] = set()
        after, before = 0, self._said()
        async with self._store.read() as tx:
            # The number first: what comes after it is read again as a change.
            newest = await tx.events.newest()
            nodes = await tx.nodes.all()
            queues = await tx.queues.all()
            while True:
                page = await tx.ledger.page(after, PAGE_ROWS)
                if not after:
                    self._see_nodes(nodes)
                    self._see_queues({queue.name: queue.spec for queue in queues})
                for row in page:
                    seen.add(row.id)
                    self._see(row)
                if len(page) < PAGE_ROWS:
                    break
                after = page[-1].sequence
            told = None if self.newest < 0 else await tx.ledger.told(self.newest)
        for sandbox in {*self.placements, *self.waiting, *self._there} - seen:
            self._drop(sandbox)
        self.astray = [] if told is None else _differences(before, self._said(), told.sandboxes)
        self.newest = newest
        self.is_anew = True

    def _said(self) -> dict[str, str]:
        """Sandbox -> what is said of it that a place is given or refused by."""
        said = dict.fromkeys(self.waiting, "as waiting")
        return said | {each.id: f"as on {each.node}" for each in self.placements.values()}

    # Nodes and queues

    def _see_nodes(self, nodes: list[Node]) -> None:
        for gone in self.records.keys() - {node.id for node in nodes}:
            del self.records[gone]
            del self.nodes[gone]
            del self.machines[gone]
            self.machines_changed += 1
            self.nodes_changed = True
        for node in nodes:
            self._see_node(node)

    def _see_node(self, node: Node) -> None:
        self.records[node.id] = node
        self._renew_node(node.id)

    def _renew_node(self, node_id: str) -> None:
        resting = self._resting_told.get(node_id, 0)
        made = self.shapes.of_node(self.records[node_id], resting)
        if self.nodes.get(node_id) != made:
            self.nodes[node_id] = made
            self.nodes_changed = True
            most = self._limits.sandboxes_max
            machine = replace(made, disk_bytes=DISK_FREE, sandboxes_max=most, accepts=True, why_not="")
            if self.machines.get(node_id) != machine:
                self.machines[node_id] = machine
                self.machines_changed += 1

    def _see_queues(self, queues: dict[str, QueueSpec]) -> None:
        if queues != self.queues:
            self.queues = queues
            self.shapes.renew(queues)

    # Sandboxes

    def _see(self, row: SandboxRow) -> None:
        if row.state in _PLACED and row.node is not None:
            placement = self._placement(row, row.node)
            if self.placements.get(row.id) != placement:
                self._drop(row.id)
                self.placements[row.id] = self.moved[row.id] = placement
            return
        self._drop(row.id)
        if row.state == S.PENDING.value:
            self.waiting[row.id] = row
        elif row.node is not None and row.state not in _GONE:
            self._there[row.id] = row.node
            self._rest(row.node, 1)

    def _drop(self, sandbox: str) -> None:
        self.waiting.pop(sandbox, None)
        if self.placements.pop(sandbox, None) is not None:
            self.moved[sandbox] = None
        if (node := self._there.pop(sandbox, None)) is not None:
            self._rest(node, -1)

    def _rest(self, node: str, more: int) -> None:
        self._resting[node] += more
        step = max(1, self._limits.sandboxes_max // STEPS_MAX)
        told = -(-self._resting[node] // step) * step
        if self._resting_told.get(node, 0) != told:
            self._resting_told[node] = told
            if node in self.records:
                self._renew_node(node)

    def _placement(self, row: SandboxRow, node: str) -> Placement:
        since_s = row.placed_at or row.updated_at
        devices = () if row.devices is None else tuple(tuple(each) for each in json.loads(row.devices))
        return Placement(
            id=row.id,
            work=row.gang or row.id,
            node=node,
            shape=self.shapes.of_row(row),
            devices=devices,
            queue=row.queue,
            project=row.project,
            user=row.owner,
            tier=TIERS[row.tier],
            priority=row.priority,
            since_s=since_s,
            ends_s=None if row.limit_s is None else since_s + row.limit_s,
            minimum=row.gang_min,
            leaving=row.evicted or row.state == S.STOPPING.value,
            size=row.gang_size,
        )

    def exact(self, node_id: str) -> snapshot.Node:
        """With what it had room for if nobody rounded, and its pool were not full: that keeps no promise from anybody
        who is there."""
        made = self.shapes.of_node(self.records[node_id], self._resting[node_id])
        return replace(made, disk_bytes=DISK_FREE)


def _differences(before: Mapping[str, str], after: Mapping[str, str], changed: Collection[str]) -> list[str]:
    return [
        f"sandbox {each} was known {before.get(each, 'as nowhere')}, and is {after.get(each, 'as nowhere')[3:]}"
        for each in sorted(before.keys() | after.keys())
        if before.get(each) != after.get(each) and each not in changed
    ]
