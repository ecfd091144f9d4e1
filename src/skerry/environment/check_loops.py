"""Who waits for each other in a file, so that none of them would ever begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from skerry.environment.problems import Path


class Waiting(Protocol):
    @property
    def depends_on(self) -> Mapping[str, Any]: ...


def loops(section: str, members: Mapping[str, Waiting]) -> Iterator[tuple[Path, str]]:
    """Each once, at the first of those in it."""
    told: set[str] = set()
    for key in members:
        way = _loop(members, key)
        if way is not None and told.isdisjoint(way):
            told.update(way)
            yield (section, key, "depends_on"), f"these wait for each other: {' waits for '.join([*way, key])}"


def _loop(members: Mapping[str, Waiting], start: str) -> list[str] | None:
    """The way from one through what it waits for back to itself, itself first."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        here = waiting.pop()
        for needed in members[here].depends_on:
            if needed == start:
                way = [here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if needed in members and needed not in came_from:
                came_from[needed] = here
                waiting.append(needed)
    return None
