"""What an operator may set of nodes: labels, taints, and whether they take work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.errors import Conflict, Invalid
from skerry.model.fields import LABELS_MAX
from skerry.model.node import TAINTS_MAX, Marks, Node, NodeUpdate, pairs_of
from skerry.store.nodes import Marked
from skerry.store.transaction import Transaction


async def update(tx: Transaction, found: Marked, wanted: NodeUpdate) -> Node:
    labels = _merged("labels", found.marks.labels, wanted.labels, found.node.own_labels, LABELS_MAX)
    taints = _merged("taints", found.marks.taints, wanted.taints, pairs_of(found.node.own_taints), TAINTS_MAX)
    told = [f"{key}-" if value is None else f"{key}={value}" for key, value in wanted.labels.items()]
    told += [f"taint {key}-" if value is None else f"taint {key}={value}" for key, value in wanted.taints.items()]
    return await _mark(tx, found, {"labels": labels, "taints": taints}, "updated", ", ".join(told))


def _merged(
    field: str, had: Mapping[str, str], wanted: Mapping[str, str | None], own: Mapping[str, str], count_max: int
) -> dict[str, str]:
    """What is set after this, over its own. Raises Invalid for one that only its own settings can take away."""
    made = dict(had)
    for key, value in wanted.items():
        if value is not None:
            made[key] = value
        elif key in made:
            del made[key]
        elif key in own:
            raise Invalid(
                f"{field}.{key}: the machine's own settings give it this (node_{field}); take it from them, or set "
                "another value",
                field=f"{field}.{key}",
            )
    if len({**own, **made}) > count_max:
        raise Invalid(f"{field}: at most {count_max} are allowed", field=field)
    return made


async def cordon(tx: Transaction, found: Marked) -> Node:
    return await _mark(tx, found, {"cordoned": True}, "cordoned")


async def uncordon(tx: Transaction, found: Marked) -> Node:
    return await _mark(tx, found, {"cordoned": False, "draining": False}, "uncordoned")


async def drain(tx: Transaction, found: Marked) -> Node:
    return await _mark(tx, found, {"cordoned": True, "draining": True}, "draining")


async def _mark(tx: Transaction, found: Marked, changes: Mapping[str, Any], kind: str, message: str = "") -> Node:
    marks: Marks = found.marks.model_copy(update=changes)
    if marks == found.marks:
        return found.node
    node = await tx.nodes.mark(found, marks, kind, message)
    if node is None:
        raise Conflict(f"node {found.node.name} has just been changed by somebody else; look, then try again")
    return node
