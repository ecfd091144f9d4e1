"""Nodes in the database: what each says, written by the one reconciler that watches it, and what an operator has set
of it, in columns of its own, so that neither writer ever overwrites the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from sqlalchemy import Row, func, or_, select, update

from skerry.errors import Conflict, NotFound
from skerry.model.node import Marks, Node, pairs_of
from skerry.store.tables import nodes

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

SET = {"labels", "taints", "cordoned", "draining"}
"""Of a record: what is made on reading, of its own and of what was set."""


@dataclass(frozen=True)
class Marked:
    node: Node
    """As it counts."""
    marks: Marks
    version: int
    """Of the marks."""


class Nodes:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def all(self) -> list[Node]:
        rows = await self._transaction.connection.execute(_SELECT.order_by(nodes.c.name, nodes.c.id))
        return [_read(row).node for row in rows.all()]

    async def count(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(nodes)) or 0

    async def ranges(self) -> set[str]:
        """All that any of them has a route to."""
        bodies = await self._transaction.connection.execute(select(nodes.c.body))
        return {each for body in bodies.scalars() for each in from_json(body).get("ranges", ())}

    async def by_socket(self, agent_socket: str) -> Node | None:
        rows = await self._transaction.connection.execute(_SELECT.where(nodes.c.agent_socket == agent_socket))
        row = rows.first()
        return None if row is None else _read(row).node

    async def find(self, ref: str) -> Marked:
        """By id or name. Raises NotFound, or Conflict for a name that several have."""
        rows = await self._transaction.connection.execute(
            _SELECT.where(or_(nodes.c.id == ref, nodes.c.name == ref)).order_by(nodes.c.id)
        )
        found = [_read(row) for row in rows.all()]
        if len(found) > 1:
            raise Conflict(
                f"several nodes are named {ref}: {', '.join(each.node.id for each in found[:5])}; give an id"
            )
        if not found:
            raise NotFound(f"there is no node {ref!r}")
        return found[0]

    async def put(self, node: Node, was: Node | None) -> bool:
        """What its agent says, guarded by the state the writer believes; False when someone else wrote first. What was
        set of a node that is known stays; of a new one it is what the record says."""
        transaction = self._transaction
        row = {
            "name": node.name,
            "agent_socket": node.agent_socket,
            "state": node.state.value,
            "body": node.model_dump_json(exclude=SET),
        }
        if was is None:
            marks = _beyond_its_own(node)
            await transaction.connection.execute(
                nodes.insert().values(id=node.id, marks=marks.model_dump_json(), marked=0, **row)
            )
        else:
            changed = (
                update(nodes)
                .where(nodes.c.id == was.id, nodes.c.state == was.state.value)
                .values(**row)
                .returning(nodes.c.marks)
            )
            text = (await transaction.connection.execute(changed)).scalar()
            if text is None:
                return False
            marks = Marks.model_validate_json(text)
        if was is None or was.state is not node.state:
            await transaction.events.add([("node", node.id, node.name, node.state.value, "")])
        transaction.written.append(marks.over(node))
        return True

    async def mark(self, was: Marked, marks: Marks, kind: str, message: str = "") -> Node | None:
        """None when somebody else has set something of it meanwhile."""
        c = nodes.c
        done = await self._transaction.connection.execute(
            update(nodes)
            .where(c.id == was.node.id, c.marked == was.version)
            .values(marks=marks.model_dump_json(), marked=was.version + 1)
        )
        if done.rowcount == 0:
            return None
        node = marks.over(was.node)
        await self._transaction.events.add([("node", node.id, node.name, kind, message)])
        self._transaction.written.append(node)
        return node


_SELECT = select(nodes.c.body, nodes.c.marks, nodes.c.marked)


def _read(row: Row[Any, Any, Any]) -> Marked:
    marks = Marks.model_validate_json(row[1])
    return Marked(marks.over(Node.model_validate_json(row[0])), marks, row[2])


def _beyond_its_own(node: Node) -> Marks:
    own_taints, taints = pairs_of(node.own_taints), pairs_of(node.taints)
    return Marks(
        labels={key: value for key, value in node.labels.items() if node.own_labels.get(key) != value},
        taints={key: value for key, value in taints.items() if own_taints.get(key) != value},
        cordoned=node.cordoned,
        draining=node.draining,
    )
