"""Decisions of the scheduler in words for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.model.explanation import Fell, Nearest, Wait
from skerry.scheduler.plan import Start, Waiting

_IDS = re.compile(r"\b[a-z]{2,4}-[0-9a-f]{12}\b")


def why_there(start: Start, mirror: Mirror) -> str:
    """The message of the event `placed`: where, and why there."""
    node = mirror.records.get(start.node)
    say = f"on {node.name if node else start.node}"
    if start.devices:
        say += f", accelerator {', '.join(_device(*each) for each in start.devices)}"
    if start.fits > 1:
        say += f"; {start.fits} nodes had room"
        best = [f"{name} {value:g}" for name, value in start.terms if value]
        say += f", this one was best by {', '.join(best)}" if best else ""
    return say + ("; let past others, whom it cannot delay" if start.backfilled else "")


def told(waiting: Waiting, mirror: Mirror, decided_s: float) -> Wait:
    starts_at = None if waiting.starts_s is None else datetime.fromtimestamp(max(waiting.starts_s, decided_s), UTC)
    return Wait(
        because=waiting.because.value,
        say=with_names(waiting.say, mirror),
        position=waiting.position,
        ahead=[mirror.waiting[each].name if each in mirror.waiting else each for each in waiting.ahead],
        fallen=[Fell(filter=each.filter, nodes=each.nodes) for each in waiting.fallen],
        near=[Nearest(node=_node(each.node, mirror), missing=dict(each.missing)) for each in waiting.near],
        starts_at=starts_at,
    )


def _node(node_id: str, mirror: Mirror) -> str:
    node = mirror.records.get(node_id)
    return node.name if node is not None else node_id


def with_names(say: str, mirror: Mirror) -> str:
    """The scheduler knows nodes and sandboxes by their ids only."""
    return _IDS.sub(lambda found: _name(found[0], mirror), say)


def _name(id: str, mirror: Mirror) -> str:
    if id in mirror.records:
        return mirror.records[id].name
    return mirror.waiting[id].name if id in mirror.waiting else id


def _device(index: int, milli: int, memory_bytes: int) -> str:
    del memory_bytes
    return str(index) if milli == 1000 else f"{index} ({milli / 1000:g} of it)"
