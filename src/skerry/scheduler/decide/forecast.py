"""When those who wait are expected to start, by the limits of what runs and of those ahead of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heapify, heappop, heappush

from skerry.scheduler.decide.fate import Fate
from skerry.scheduler.decide.holds import Holds
from skerry.scheduler.decide.seating import Ask, Seated, Seating
from skerry.scheduler.plan import Because
from skerry.scheduler.snapshot import Work

WORKS_MAX = 100
STEPS_MAX = 5000
"""Ends and attempts looked at: an expectation further ahead than that is worth nothing."""
IN_LINE = frozenset({Because.FIT, Because.GANG, Because.QUEUE, Because.RESERVED, Because.PREEMPTING})

Ends = list[tuple[float, str]]


def forecast(seating: Seating, holds: Holds, now: float, line: Iterable[tuple[Work, Fate]]) -> dict[str, float]:
    """Everybody in the line's order, nobody past another: whoever is let past starts earlier. Who is not in the answer
    waits for something that does not say when it ends, or stands behind somebody who does."""
    cell = seating.cell
    ends: Ends = [
        (max(each.ends_s, now), each.id)
        for each in holds.present.all.values()
        if each.ends_s is not None and each.id not in holds.leaving
    ]
    heapify(ends)
    times: dict[str, float] = {}
    at_s, steps = now, STEPS_MAX
    mark = cell.mark()
    for sandbox in sorted(holds.leaving):
        cell.free(sandbox)
    for number, (work, fate) in enumerate(line):
        if number == WORKS_MAX or steps <= 0:
            break
        if fate.because not in IN_LINE:
            continue
        ask = replace(fate.ask, work=work, members=work.members)
        if not all(cell.could_ever(shape, ask.pool) for shape in {shape for _, shape in ask.members}):
            continue
        seated, at_s, steps = _when(seating, ask, ends, at_s, steps)
        if seated is None:
            break
        if at_s > now:
            times[work.id] = at_s
        if work.limit_s is not None:
            for name, _, _ in seated.seats:
                heappush(ends, (at_s + work.limit_s, name))
    cell.rollback(mark)
    return times


def _when(seating: Seating, ask: Ask, ends: Ends, at_s: float, steps: int) -> tuple[Seated | None, float, int]:
    seated = seating.seat(ask)
    while seated is None and ends and steps > 0:
        at_s = ends[0][0]
        while ends and ends[0][0] <= at_s:
            seating.cell.free(heappop(ends)[1])
            steps -= 1
        seated = seating.seat(ask)
    return seated, at_s, steps
