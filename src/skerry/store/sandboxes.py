"""Sandboxes in the database, and the questions that reconcilers and the API ask about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import Boolean, ColumnElement, Table, and_, func, literal_column, select, text, update

from skerry.model.moves import Moves
from skerry.model.network import Member
from skerry.model.port import PublishedPort
from skerry.model.sandbox import AT_REST, MOVES, S, Sandbox
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import LIVING, NETWORKED, PUBLISHING, UNAPPLIED, sandboxes

GONE = (S.DELETING.value, S.DELETED.value)
_LIVING: ColumnElement[bool] = literal_column(LIVING, Boolean)
_UNAPPLIED: ColumnElement[bool] = literal_column(UNAPPLIED, Boolean)
_NETWORKED: ColumnElement[bool] = literal_column(NETWORKED, Boolean)
_PUBLISHING: ColumnElement[bool] = literal_column(PUBLISHING, Boolean)
IN_MEMORY = (S.STARTING.value, S.RUNNING.value, S.ASLEEP.value, S.STOPPING.value, S.RESTORING.value)
"""States in which a sandbox counts with all it was promised: also asleep, since nothing may keep it from waking."""
HOLDS_PORTS = (S.PENDING.value, *IN_MEMORY)
PORTS_LOCK = 0x5CE772
"""PostgreSQL's advisory lock: of two sandboxes that claim a port at once, one must see the other."""


class Sandboxes(Records[Sandbox]):
    noun: ClassVar[str] = "sandbox"
    prefix: ClassVar[str] = "sb"
    table: ClassVar[Table] = sandboxes
    statements: ClassVar[Statements] = Statements(sandboxes, ("id", "state", "generation"))
    moves: ClassVar[Moves[Any]] = MOVES
    model = Sandbox

    def index(self, record: Sandbox) -> dict[str, Any]:
        spec = record.spec
        return {
            "name": record.name,
            "generation": record.generation,
            "node": record.node,
            "parent": record.parent,
            "image_name": spec.image,
            "image_digest": record.image_digest,
            "source_checkpoint": record.source_checkpoint,
            "started": record.started_at is not None,
            "cpu": spec.cpu,
            "memory_bytes": spec.memory,
            "checkpoint_every_s": spec.checkpoints.every_s,
            "applied": record.applied,
            "ports": json.dumps([port.model_dump(mode="json") for port in spec.ports]) if spec.ports else None,
            "networks": json.dumps({each.name: each.address for each in record.memberships})
            if record.memberships
            else None,
            "labels": spec.labels,
        }

    def belief(self, was: Sandbox) -> dict[str, Any]:
        return {**super().belief(was), "was_generation": was.generation}

    def name_of(self, record: Sandbox) -> str:
        return record.name

    def at_rest(self, record: Sandbox) -> bool | None:
        return record.state is not S.FAILED if record.state in AT_REST else None

    async def list(
        self,
        project: str,
        *,
        state: S | None = None,
        labels: dict[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Sandbox]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project]
        where.append(_LIVING if state is None else c.state == state.value)
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        if image is not None:
            where.append(c.image_name == image)
        if parent is not None:
            where.append(c.parent == parent)
        for key, value in (labels or {}).items():
            where.append(c.labels[key].as_string() == value)
        return await self._page(where, limit, page_token)

    async def id_named(self, name: str, project: str) -> str | None:
        """The newest of that name, tombstones included."""
        c = self.table.c
        return await self._transaction.connection.scalar(
            select(c.id).where(c.project == project, c.name == name).order_by(c.sequence.desc()).limit(1)
        )

    async def generations(self, node: str) -> dict[str, tuple[S, int]]:
        """State and generation of every sandbox on a node, without reading the records."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.id, c.state, c.generation).where(c.node == node, _LIVING)
        )
        return {row[0]: (S(row[1]), row[2]) for row in rows.all()}

    async def usage(self) -> dict[str, tuple[float, int, int]]:
        """node -> (cpu, memory bytes) promised to those with processes, and how many there are in any state."""
        c = self.table.c
        running = c.state.in_(IN_MEMORY)
        rows = await self._transaction.connection.execute(
            select(
                c.node,
                func.coalesce(func.sum(c.cpu).filter(running), 0.0),
                func.coalesce(func.sum(c.memory_bytes).filter(running), 0),
                func.count(),
            )
            .where(c.node.is_not(None), _LIVING)
            .group_by(c.node)
        )
        return {row[0]: (float(row[1]), int(row[2]), int(row[3])) for row in rows.all()}

    async def count_living(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(self.table).where(_LIVING))  # pyright: ignore[reportReturnType]

    async def names_beginning(self, project: str, beginning: str) -> set[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name).where(
                c.project == project, c.state.not_in(GONE), func.substr(c.name, 1, len(beginning)) == beginning
            )
        )
        return {row[0] for row in rows.all()}

    async def users_of_image(self, digest: str | None, name: str) -> list[str]:
        """Names of those whose disk began from it, or will."""
        c = self.table.c
        uses = and_(c.image_digest.is_(None), c.image_name == name)
        if digest is not None:
            uses = uses | (c.image_digest == digest)
        rows = await self._transaction.connection.execute(select(c.name).where(_LIVING, uses))
        return [row[0] for row in rows.all()]

    async def users_by_digest(self) -> dict[str, int]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.image_digest, func.count()).where(_LIVING, c.image_digest.is_not(None)).group_by(c.image_digest)
        )
        return {row[0]: row[1] for row in rows.all()}

    async def waiting_for_checkpoint(self, checkpoint_ids: Sequence[str]) -> set[str]:
        """Those of the checkpoints that a sandbox still needs to make its first disk from."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.source_checkpoint)
            .where(c.source_checkpoint.in_(checkpoint_ids), c.started.is_(False), c.state.not_in(GONE))
            .distinct()
        )
        return {row[0] for row in rows.all()}

    async def reachable(self) -> list[Sandbox]:
        """Those that have their name still: all that are neither deleted nor being so."""
        c = self.table.c
        return await self._many(select(c.body).where(_LIVING, c.state.not_in(GONE)).order_by(c.sequence))

    async def unapplied(self, limit: int, excluding: Sequence[str]) -> list[Sandbox]:
        """Those whose machine has not been told of the newest change of their spec, oldest first."""
        c = self.table.c
        return await self._many(
            select(c.body).where(_UNAPPLIED, c.id.not_in(excluding)).order_by(c.sequence).limit(limit)
        )

    async def held_ports(self) -> list[tuple[str, str, PublishedPort]]:
        """(id, name, port) of each published port of every sandbox that runs, or is on its way there. Nobody else
        claims a port until this transaction ends."""
        c = self.table.c
        connection = self._transaction.connection
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({PORTS_LOCK})"))
        rows = await connection.execute(select(c.id, c.name, c.ports).where(_PUBLISHING, c.state.in_(HOLDS_PORTS)))
        return [
            (row[0], row[1], PublishedPort.model_validate(port)) for row in rows.all() for port in json.loads(row[2])
        ]

    async def members(self) -> dict[str, list[Member]]:
        """By name of the network: whoever has an address there. One that is being deleted may be reached there yet."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.id, c.name, c.state, c.networks)
            .where(_NETWORKED, _LIVING, c.project == self._transaction.project)
            .order_by(c.sequence)
        )
        found: dict[str, list[Member]] = {}
        for sandbox_id, name, state, networks in rows.all():
            for network, address in json.loads(networks).items():
                member = Member(sandbox=sandbox_id, name=name, state=state, address=address)
                found.setdefault(network, []).append(member)
        return found

    async def with_checkpoint_policy(self) -> list[Sandbox]:
        c = self.table.c
        return await self._many(
            select(c.body).where(c.state == S.RUNNING.value, c.checkpoint_every_s.is_not(None)).order_by(c.sequence)
        )

    async def next_checkpoint_number(self, sandbox_id: str) -> int:
        """1, 2, 3 …, never the same twice, even when the newest was deleted and pruned."""
        c = self.table.c
        number = await self._transaction.connection.scalar(
            update(self.table)
            .where(c.id == sandbox_id)
            .values(checkpoints_numbered=c.checkpoints_numbered + 1)
            .returning(c.checkpoints_numbered)
        )
        assert number is not None, "the caller has found this sandbox in the same transaction"
        return int(number)
