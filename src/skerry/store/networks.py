"""Private networks in the database: there or not, with no state to move through. Who is in them the sandboxes say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, exc, func, or_, select, text

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import make_id
from skerry.model.network import NetworkRequest, PrivateNetwork
from skerry.store.paging import Page, make_token, read_token
from skerry.store.tables import networks

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

NETWORKS_LOCK = 0x5CE773
"""PostgreSQL's advisory lock: of two who want an address, or a network and its end, one must see the other."""


class Networks:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def lock(self) -> None:
        """Nobody else makes, deletes, joins or leaves one until this transaction ends."""
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await self._transaction.connection.execute(text(f"SELECT pg_advisory_xact_lock({NETWORKS_LOCK})"))

    async def create(self, request: NetworkRequest, project: str) -> PrivateNetwork:
        transaction = self._transaction
        network = PrivateNetwork(
            id=make_id("network", transaction.chance(6)),
            project=project,
            created_at=transaction.now,
            **request.model_dump(),
        )
        try:
            await transaction.connection.execute(
                networks.insert().values(
                    id=network.id, project=project, name=network.name, body=network.model_dump_json()
                )
            )
        except exc.IntegrityError as error:
            raise AlreadyExists(
                f"there is already a network named {network.name}", because=str(error), field="name"
            ) from error
        await transaction.events.add([("network", network.id, network.name, "created", network.subnet)])
        return network

    async def all(self) -> list[PrivateNetwork]:
        """Of every project: no two may have an address in common."""
        rows = await self._transaction.connection.execute(select(networks.c.body).order_by(networks.c.sequence))
        return [PrivateNetwork.model_validate_json(body) for body in rows.scalars()]

    async def find(self, ref: str, project: str) -> PrivateNetwork:
        rows = await self._transaction.connection.execute(
            select(networks.c.body).where(
                networks.c.project == project, or_(networks.c.id == ref, networks.c.name == ref)
            )
        )
        body = rows.scalar()
        if body is None:
            raise NotFound(f"there is no network {ref!r}")
        return PrivateNetwork.model_validate_json(body)

    async def list(
        self, project: str, *, labels: dict[str, str] | None = None, limit: int, page_token: str | None = None
    ) -> Page[PrivateNetwork]:
        c = networks.c
        rows = await self._transaction.connection.execute(
            select(c.sequence, c.body)
            .where(c.project == project, c.sequence > read_token(page_token))
            .order_by(c.sequence)
        )
        # All of them are read: there are few, and labels have no column here.
        read = ((row[0], PrivateNetwork.model_validate_json(row[1])) for row in rows.all())
        found = [each for each in read if (labels or {}).items() <= each[1].labels.items()]
        items = [network for _, network in found[:limit]]
        return Page(items, make_token(found[limit - 1][0]) if len(found) > limit else None)

    async def count(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(networks))  # pyright: ignore[reportReturnType]

    async def delete(self, network: PrivateNetwork) -> None:
        await self._transaction.connection.execute(delete(networks).where(networks.c.id == network.id))
        await self._transaction.events.add([("network", network.id, network.name, "deleted", "")])
