"""What the scheduler reads of the database and writes to it: only what has changed since it looked, and starts by the
hundred.

Events are the counter by which changes are found. They become visible in the order of their numbers, on PostgreSQL too
(see `Events.flush`), and whatever changes what a scheduler goes by writes one. A number drawn by each row from a
sequence would not do: a row with a lower one may become visible after one with a higher one has been read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import RowMapping, bindparam, func, select, text, update

from skerry.model.explanation import Seat
from skerry.model.placed import Placed
from skerry.model.sandbox import HOLDS_PLACE, S
from skerry.store.tables import events, sandboxes

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

LOOK_MAX = 20_000
"""Changes read one by one; after more than these everything is read anew, which is then cheaper."""
ROWS_AT_ONCE = 500
PLACED = "placed"
"""The event of a sandbox that gets a place."""
SCHEDULER_LOCK = 0x5CE776
"""PostgreSQL's advisory lock: of two schedulers that give places at once, one must see what the other gave."""
_NOUNS = ("sandbox", "node", "queue")


class SandboxRow(NamedTuple):
    sequence: int
    id: str
    name: str
    project: str
    owner: str
    state: str
    generation: int
    node: str | None
    queue: str
    tier: int
    priority: int
    cpu: float
    memory_bytes: int
    asks: str | None
    labels: Mapping[str, str]
    devices: str | None
    job: str | None
    gang: str | None
    gang_size: int
    gang_min: int
    rank: int
    limit_s: float | None
    queued_at: float | None
    placed_at: float | None
    updated_at: float
    evicted: bool
    started: bool
    image_name: str
    image_digest: str | None
    source_checkpoint: str | None
    volumes: str | None


_COLUMNS = [sandboxes.c[name] for name in SandboxRow._fields]


@dataclass(frozen=True, slots=True)
class Told:
    """What has changed since."""

    newest: int
    sandboxes: frozenset[str]
    nouns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Giving:
    """A place to be given."""

    id: str
    work: str
    generation: int
    """The sandbox is still PENDING at this one, or nobody of its work gets anything."""
    node: str
    devices: tuple[tuple[int, int, int], ...]
    image_digest: str
    say: str


class Ledger:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def told(self, after: int) -> Told | None:
        """None: there is too much, or some of it has been forgotten."""
        c = events.c
        connection = self._transaction.connection
        oldest = await connection.scalar(select(func.min(c.sequence)))
        if oldest is not None and oldest > after + 1:
            return None
        query = select(c.sequence, c.noun, c.target).where(c.sequence > after).order_by(c.sequence).limit(LOOK_MAX + 1)
        rows = (await connection.execute(query)).all()
        if len(rows) > LOOK_MAX:
            return None
        return Told(
            rows[-1][0] if rows else after,
            frozenset(row[2] for row in rows if row[1] == "sandbox"),
            frozenset(row[1] for row in rows if row[1] in _NOUNS),
        )

    async def rows(self, ids: Iterable[str]) -> list[SandboxRow]:
        found: list[SandboxRow] = []
        for some in _batches(ids):
            query = select(*_COLUMNS).where(sandboxes.c.id.in_(some))
            found += map(SandboxRow._make, (await self._transaction.connection.execute(query)).all())
        return found

    async def page(self, after: int, limit: int) -> list[SandboxRow]:
        """Of all that are not deleted, in the order of their creation."""
        query = (
            select(*_COLUMNS)
            .where(sandboxes.c.sequence > after, sandboxes.c.state != S.DELETED.value)
            .order_by(sandboxes.c.sequence)
            .limit(limit)
        )
        return list(map(SandboxRow._make, (await self._transaction.connection.execute(query)).all()))

    async def first_waiting(self, of: str) -> str | None:
        """Id of the first sandbox that waits: the one of this id, or a member of the job of this id."""
        c = sandboxes.c
        whose = (c.id == of) | (c.job == of)
        query = select(c.id).where(whose, c.state == S.PENDING.value).order_by(c.sequence).limit(1)
        return await self._transaction.connection.scalar(query)

    async def of_job(self, job: str) -> tuple[list[str], list[str]]:
        """Ids of its sandboxes that wait, and of those that have a place."""
        c = sandboxes.c
        states = (S.PENDING.value, *(state.value for state in HOLDS_PLACE))
        query = select(c.id, c.state).where(c.job == job, c.state.in_(states)).order_by(c.sequence)
        rows = (await self._transaction.connection.execute(query)).all()
        waiting = [row[0] for row in rows if row[1] == S.PENDING.value]
        return waiting, [row[0] for row in rows if row[1] != S.PENDING.value]

    async def placed(self, sandbox: str) -> Seat | None:
        """Its newest place, and why there; None: it never had one, or that has been forgotten."""
        c = events.c
        query = (
            select(c.name, c.at, c.message, sandboxes.c.node)
            .join(sandboxes, sandboxes.c.id == c.target)
            .where(c.target == sandbox, c.kind == PLACED)
            .order_by(c.sequence.desc())
            .limit(1)
        )
        row = (await self._transaction.connection.execute(query)).first()
        if row is None:
            return None
        name, at_s, say, node = row
        return Seat(sandbox=name, node=node, say=say, at=datetime.fromtimestamp(at_s, UTC))

    async def give(self, given: Sequence[Giving], *, at: datetime, known: int) -> tuple[set[str], int] | None:
        """All in one transaction: those who got their place, and the number of the newest event. None, and nothing is
        given, if since event `known` another scheduler has given a place or a node has changed: look again first."""
        transaction, connection = self._transaction, self._transaction.connection
        if not transaction.is_sqlite:  # which has one writer at a time anyway
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEDULER_LOCK})"))
        c = events.c
        moved = select(c.sequence).where(c.sequence > known, (c.kind == PLACED) | (c.noun == "node")).limit(1)
        if await connection.scalar(moved) is not None:
            return None
        wanted = {each.id: each for each in given}
        found: dict[str, RowMapping] = {}
        for some in _batches(wanted):
            found |= {row["id"]: row for row in (await connection.execute(_WAITING, {"ids": some})).mappings()}
        torn = {each.work for each in given if each.id not in found or found[each.id]["generation"] != each.generation}
        rows: list[dict[str, Any]] = []
        stays: list[dict[str, Any]] = []
        for sandbox, row in found.items():
            giving = wanted[sandbox]
            if giving.work not in torn:
                rows.append(_written(row["body"], giving, at))
                stays.append({"sandbox": sandbox, "node": giving.node, **{name: row[name] for name in _STAY}})
        if rows:
            await connection.execute(_GIVE, rows)
            await transaction.stays.begin(stays, at)
        told = [("sandbox", row["was_id"], row["was_name"], PLACED, wanted[row["was_id"]].say) for row in rows]
        await transaction.events.add(told)
        await transaction.events.flush()
        transaction.written.extend(Placed(id=row["was_id"]) for row in rows)
        return {row["was_id"] for row in rows}, await transaction.events.newest()


_STAY = ("project", "owner", "queue", "job", "cpu", "memory_bytes", "gpu_milli")
_WAITING = (
    select(*(sandboxes.c[name] for name in ("id", "generation", "body", *_STAY)))
    .where(sandboxes.c.id.in_(bindparam("ids", expanding=True)), sandboxes.c.state == S.PENDING.value)
    .with_for_update()
)
"""The rows stay as they are until this transaction ends, so that what is written below is what was read."""
_GIVE = (
    update(sandboxes)
    .where(sandboxes.c.id == bindparam("was_id"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in ("state", "evicted", "node", "devices", "image_digest", "placed_at", "updated_at", "body")
        }
    )
)


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    every = list(ids)
    for start in range(0, len(every), ROWS_AT_ONCE):
        yield every[start : start + ROWS_AT_ONCE]


def _written(body: str, giving: Giving, at: datetime) -> dict[str, Any]:
    """The record is changed as JSON: to read and write it as an object takes four times as long."""
    record = from_json(body)
    state = S.STARTING if record["restore_checkpoint"] is None else S.RESTORING
    record |= {
        "state": state.value,
        "node": giving.node,
        "devices": giving.devices,
        "image_digest": giving.image_digest,
        "placed_at": at.isoformat(),
        "updated_at": at.isoformat(),
        "reason": None,
        "evicted": None,
    }
    return {
        "was_id": giving.id,
        "was_name": record["name"],
        "new_state": state.value,
        "new_evicted": False,
        "new_node": giving.node,
        "new_devices": json.dumps(giving.devices) if giving.devices else None,
        "new_image_digest": giving.image_digest,
        "new_placed_at": at.timestamp(),
        "new_updated_at": at.timestamp(),
        "new_body": to_json(record).decode(),
    }
