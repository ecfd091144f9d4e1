"""Who waits for each other in a file, so that none of them would ever begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from skerry.environment.problems import Path
from skerry.model.circle import round_trip


class Waiting(Protocol):
    @property
    def depends_on(self) -> Mapping[str, Any]: ...


def loops(section: str, members: Mapping[str, Waiting]) -> Iterator[tuple[Path, str]]:
    """Each once, at the first of those in it."""
    told: set[str] = set()
    for key in members:
        way = round_trip(key, lambda each: members[each].depends_on if each in members else ())
        if way is not None and told.isdisjoint(way):
            told.update(way)
            yield (section, key, "depends_on"), f"these wait for each other: {' waits for '.join(way)}"
