"""Who waits, as the scheduler takes it: one sandbox, or a gang of them that start together or not at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.shapes import TIERS
from skerry.control.reconcile.ledger.sources import Source
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Work
from skerry.store.ledger import SandboxRow


def works_of(mirror: Mirror, sources: Mapping[str, Source]) -> tuple[Work, ...]:
    """Of those whose source is there."""
    alone: list[Work] = []
    gangs: dict[str, list[SandboxRow]] = defaultdict(list)
    for row in mirror.waiting.values():
        if sources[row.id].digest is None:
            continue
        if row.gang is None:
            alone.append(_work(mirror, row.id, [row], sources, None))
        else:
            gangs[row.gang].append(row)
    if not gangs:
        return tuple(alone)
    placed = Counter(each.work for each in mirror.placements.values() if each.work in gangs)
    for gang, rows in gangs.items():
        missing = rows[0].gang_min - placed[gang]
        if len(rows) >= missing:  # the others are not made yet, or what they start from is not there
            rows.sort(key=lambda row: row.rank)
            alone.append(_work(mirror, gang, rows, sources, max(1, missing)))
    return tuple(alone)


def _work(
    mirror: Mirror, name: str, rows: list[SandboxRow], sources: Mapping[str, Source], minimum: int | None
) -> Work:
    first = rows[0]
    queue = mirror.queues.get(first.queue)
    limit_s = first.limit_s
    if limit_s is None and queue is not None:
        limit_s = queue.max_duration
    return Work(
        id=name,
        members=tuple((row.id, _shape(mirror, row, sources[row.id])) for row in rows),
        queue=first.queue,
        project=first.project,
        user=first.owner,
        tier=TIERS[first.tier],
        priority=first.priority,
        submitted_s=min(row.queued_at or row.updated_at for row in rows),
        minimum=minimum,
        limit_s=limit_s,
        together=mirror.shapes.together(first),
    )


def _shape(mirror: Mirror, row: SandboxRow, source: Source) -> Shape:
    return mirror.shapes.of_row(row, source.node or "", has_disk=source.has_disk)
