"""Sandboxes in the database, and the questions that reconcilers and the API ask about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sqlalchemy import Boolean, ColumnElement, Table, and_, func, literal_column, select, text, update

from skerry.model.moves import Moves
from skerry.model.network import Member
from skerry.model.port import PublishedPort
from skerry.model.resources import GPU_MILLI
from skerry.model.sandbox import AT_REST, HOLDS_PLACE, MOVES, S, Sandbox, models_named
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import (
    EVICTED,
    LIVING,
    MOUNTING,
    NETWORKED,
    OF_JOBS,
    OF_SERVICES,
    PUBLISHING,
    UNAPPLIED,
    WITH_MODELS,
    WITH_SECRETS,
    sandboxes,
)

GONE = (S.DELETING.value, S.DELETED.value)
_LIVING: ColumnElement[bool] = literal_column(LIVING, Boolean)
_EVICTED: ColumnElement[bool] = literal_column(EVICTED, Boolean)
_UNAPPLIED: ColumnElement[bool] = literal_column(UNAPPLIED, Boolean)
_NETWORKED: ColumnElement[bool] = literal_column(NETWORKED, Boolean)
_MOUNTING: ColumnElement[bool] = literal_column(MOUNTING, Boolean)
_WITH_SECRETS: ColumnElement[bool] = literal_column(WITH_SECRETS, Boolean)
_WITH_MODELS: ColumnElement[bool] = literal_column(WITH_MODELS, Boolean)
_OF_JOBS: ColumnElement[bool] = literal_column(OF_JOBS, Boolean)
_OF_SERVICES: ColumnElement[bool] = literal_column(OF_SERVICES, Boolean)
_PUBLISHING: ColumnElement[bool] = literal_column(PUBLISHING, Boolean)
PLACED = tuple(sorted(state.value for state in HOLDS_PLACE))
HOLDS_PORTS = (S.PENDING.value, *PLACED)
ASKED = {"gpu", "gpu_kind", "gpu_memory", "extras", "placement"}
"""Of the spec, what the column `asks` has as JSON where it is not as by default: requests that ask the same have the
same text, and the scheduler turns each text into what it works with once."""
PORTS_LOCK = 0x5CE772
"""PostgreSQL's advisory lock: of two sandboxes that claim a port at once, one must see the other."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Sandboxes of one owner in one queue on one node, or of those that wait; or what one of them has besides cores
    and memory, with a count of 0."""

    queue: str
    project: str
    owner: str
    node: str | None
    pending: bool
    count: int
    cpu: float
    memory_bytes: int
    gpu: float = 0.0
    devices: tuple[tuple[int, int], ...] = ()
    """(index on the node, thousandths)."""
    extras: Mapping[str, int] = field(default_factory=dict[str, int])


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
            **_placement(record),
            "parent": record.parent,
            "service": record.replica.service if record.replica is not None else None,
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
            "volumes": json.dumps(sorted(record.volumes.values())) if record.volumes else None,
            "secrets": json.dumps([use.name for use in spec.secrets]) if spec.secrets else None,
            "models": json.dumps(named) if (named := models_named(spec.mounts)) else None,
            "labels": spec.labels,
        }

    def belief(self, was: Sandbox) -> dict[str, Any]:
        return {**super().belief(was), "was_generation": was.generation}

    def name_of(self, record: Sandbox) -> str:
        return record.name

    def at_rest(self, record: Sandbox) -> bool | None:
        return record.state is not S.FAILED if record.state in AT_REST else None

    def changed(self, was: Sandbox, given: dict[str, Any]) -> dict[str, Any]:
        """With what follows from the move: since when it waits, and since when it has its place."""
        to, now = given.get("state", was.state), self._transaction.now
        if to is S.PENDING and was.state is not S.PENDING:
            given.setdefault("queued_at", now)
        if to in HOLDS_PLACE:
            given["placed_at"] = was.placed_at or now
        else:
            given |= {"placed_at": None, "devices": []}
        return given

    async def follow(self, was: Sandbox | None, now: Sandbox) -> None:
        await self._transaction.stays.follow(was, now)

    async def list(
        self,
        project: str,
        *,
        state: S | None = None,
        labels: dict[str, str] | None = None,
        name: str | None = None,
        image: str | None = None,
        parent: str | None = None,
        jobs: bool = False,
        queue: str | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Sandbox]:
        """`jobs`: those of jobs and services among them."""
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project]
        where.append(_LIVING if state is None else c.state == state.value)
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        if image is not None:
            where.append(c.image_name == image)
        if parent is not None:
            where.append(c.parent == parent)
        if not jobs:
            where += [c.job.is_(None), c.service.is_(None)]
        if queue is not None:
            where.append(c.queue == queue)
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
        running = c.state.in_(PLACED)
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

    async def holdings(self) -> list[Holding]:
        """What waits and what has a place, summed up: the only source of all that is said of use."""
        c = self.table.c
        whose = (c.queue, c.project, c.owner, c.node, c.state == S.PENDING.value)
        counted = c.state.in_(HOLDS_PORTS)
        rows = await self._transaction.connection.execute(
            select(*whose, func.count(), func.sum(c.cpu), func.sum(c.memory_bytes))
            .where(_LIVING, counted)
            .group_by(*whose)
        )
        found = [Holding(*row[:4], bool(row[4]), row[5], float(row[6]), int(row[7])) for row in rows.all()]
        asking = await self._transaction.connection.execute(
            select(*whose, c.asks, c.devices).where(_LIVING, counted, c.asks.is_not(None))
        )
        for row in asking.all():
            asks = json.loads(row[5])
            devices = tuple((index, milli) for index, milli, _ in json.loads(row[6] or "[]"))
            gpu, extras = asks.get("gpu", 0.0), asks.get("extras", {})
            found.append(Holding(*row[:4], bool(row[4]), 0, 0.0, 0, gpu, devices, extras))
        return found

    async def names_in_queue(self, queue: str, limit: int) -> tuple[list[str], int]:
        """The first so many that wait in it, run in it, or would when they are started; and how many there are."""
        c = self.table.c
        inside = (_LIVING, c.queue == queue, c.state.not_in(GONE))
        connection = self._transaction.connection
        rows = await connection.execute(select(c.name).where(*inside).order_by(c.sequence).limit(limit))
        count = await connection.scalar(select(func.count()).select_from(self.table).where(*inside))
        return [row[0] for row in rows.all()], count or 0

    async def count_pending(
        self, at_most: int, *, queue: str | None = None, project: str | None = None, owner: str | None = None
    ) -> int:
        """How many wait, counted up to a number."""
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.state == S.PENDING.value]
        for column, value in ((c.queue, queue), (c.project, project), (c.owner, owner)):
            if value is not None:
                where.append(column == value)
        some = select(c.sequence).where(*where).limit(at_most).subquery()
        return await self._transaction.connection.scalar(select(func.count()).select_from(some)) or 0

    async def count_living(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(self.table).where(_LIVING))  # pyright: ignore[reportReturnType]

    async def count_of_jobs(self) -> int:
        """Sandboxes of all jobs, in any state but deleted."""
        counted = select(func.count()).select_from(self.table).where(_OF_JOBS, _LIVING)
        return await self._transaction.connection.scalar(counted)  # pyright: ignore[reportReturnType]

    async def of_job(self, job: str, limit: int) -> list[Sandbox]:
        """Those of its members that are not deleted."""
        c = self.table.c
        return await self._many(select(c.body).where(_OF_JOBS, c.job == job, _LIVING).limit(limit))

    async def has_any_of(self, job: str) -> bool:
        """Whether a member of this job is left, be it one that is just being deleted."""
        found = select(self.table.c.id).where(_OF_JOBS, self.table.c.job == job, _LIVING).limit(1)
        return await self._transaction.connection.scalar(found) is not None

    async def of_service(self, service: str) -> list[Sandbox]:
        """Its replicas that are not deleted, oldest first."""
        c = self.table.c
        found = select(c.body).where(_OF_SERVICES, c.service == service, _LIVING)
        return await self._many(found.order_by(c.sequence))

    async def names_beginning(self, project: str, beginning: str) -> set[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name).where(
                c.project == project, c.state.not_in(GONE), func.substr(c.name, 1, len(beginning)) == beginning
            )
        )
        return {row[0] for row in rows.all()}

    async def has_children(self, sandbox_id: str) -> bool:
        """Whether one lives that came of it."""
        c = self.table.c
        found = select(c.id).where(c.parent == sandbox_id, c.state.not_in(GONE)).limit(1)
        return await self._transaction.connection.scalar(found) is not None

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

    async def evicted(self, limit: int) -> list[Sandbox]:
        """Those who have yet to be stopped to make room, and those who have been and come back by themselves."""
        c = self.table.c
        owed = c.state.in_([S.STARTING.value, S.RUNNING.value, S.ASLEEP.value])
        comes_back = (c.state == S.STOPPED.value) & c.job.is_(None)
        return await self._many(select(c.body).where(_EVICTED, owed | comes_back).order_by(c.sequence).limit(limit))

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

    async def users_of_volumes(self) -> dict[str, list[str]]:
        """By id of the volume: names of those that mount it, one that is being deleted among them."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name, c.volumes).where(_MOUNTING, _LIVING).order_by(c.sequence)
        )
        found: dict[str, list[str]] = {}
        for name, volumes in rows.all():
            for volume_id in json.loads(volumes):
                found.setdefault(volume_id, []).append(name)
        return found

    async def users_of_secrets(self) -> dict[str, list[str]]:
        """By name of the secret: the names of those whose spec names it, and that are not deleted."""
        return await self._users(self.table.c.secrets, _WITH_SECRETS)

    async def users_of_models(self) -> dict[str, list[str]]:
        """By name of the model: the names of those that mount it, and that are not deleted."""
        return await self._users(self.table.c.models, _WITH_MODELS)

    async def _users(self, column: ColumnElement[Any], some: ColumnElement[bool]) -> dict[str, list[str]]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name, column)
            .where(some, _LIVING, c.state.not_in(GONE), c.project == self._transaction.project)
            .order_by(c.sequence)
        )
        found: dict[str, list[str]] = {}
        for sandbox, names in rows.all():
            for name in dict.fromkeys(json.loads(names)):
                found.setdefault(name, []).append(sandbox)
        return found

    async def with_checkpoint_policy(self) -> list[Sandbox]:
        c = self.table.c
        return await self._many(
            select(c.body).where(c.state == S.RUNNING.value, c.checkpoint_every_s.is_not(None)).order_by(c.sequence)
        )

    async def number_checkpoints_after(self, sandbox_id: str, number: int) -> None:
        """Up to this one they are taken."""
        c = self.table.c
        await self._transaction.connection.execute(
            update(self.table).where(c.id == sandbox_id).values(checkpoints_numbered=number)
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


def _placement(record: Sandbox) -> dict[str, Any]:
    """What the scheduler reads of it, besides cores and memory."""
    spec, queued = record.spec, record.queued_at or record.created_at
    asked = spec.model_dump(mode="json", include=ASKED, exclude_defaults=True)
    return {
        "queue": spec.queue,
        "tier": spec.tier.rank,
        "priority": spec.priority,
        "owner": record.owner,
        "job": record.job,
        "gang": record.gang,
        "gang_size": record.gang_size,
        "gang_min": record.gang_min,
        "rank": record.rank,
        "gpu_milli": round(spec.gpu * GPU_MILLI),
        "devices": json.dumps(record.devices) if record.devices else None,
        "asks": json.dumps(asked, sort_keys=True) if asked else None,
        "limit_s": record.limit_s,
        "queued_at": queued.timestamp(),
        "placed_at": None if record.placed_at is None else record.placed_at.timestamp(),
        "evicted": record.evicted is not None,
    }
