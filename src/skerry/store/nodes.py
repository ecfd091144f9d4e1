"""Nodes in the database: written by the one reconciler that watches each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from skerry.model.node import Node
from skerry.store.tables import nodes

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction


class Nodes:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def all(self) -> list[Node]:
        rows = await self._transaction.connection.execute(select(nodes.c.body).order_by(nodes.c.name, nodes.c.id))
        return [Node.model_validate_json(row[0]) for row in rows.all()]

    async def by_socket(self, agent_socket: str) -> Node | None:
        body = await self._transaction.connection.scalar(
            select(nodes.c.body).where(nodes.c.agent_socket == agent_socket)
        )
        return None if body is None else Node.model_validate_json(body)

    async def put(self, node: Node, was: Node | None) -> bool:
        """Guarded by the state the writer believes; False when someone else wrote first."""
        transaction = self._transaction
        row = {
            "name": node.name,
            "agent_socket": node.agent_socket,
            "state": node.state.value,
            "body": node.model_dump_json(),
        }
        if was is None:
            await transaction.connection.execute(nodes.insert().values(id=node.id, **row))
        else:
            done = await transaction.connection.execute(
                update(nodes).where(nodes.c.id == was.id, nodes.c.state == was.state.value).values(**row)
            )
            if done.rowcount == 0:
                return False
        if was is None or was.state is not node.state:
            await transaction.events.add([("node", node.id, node.name, node.state.value, "")])
        transaction.written.append(node)
        return True
