"""Who needs each other in a circle, so that none of them could ever begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def round_trip(start: str, needs: Callable[[str], Iterable[str]]) -> list[str] | None:
    """The way from one through what it needs back to itself, which is its first and its last; None: there is none."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        here = waiting.pop()
        for needed in needs(here):
            if needed == start:
                way = [start, here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if needed not in came_from:
                came_from[needed] = here
                waiting.append(needed)
    return None
