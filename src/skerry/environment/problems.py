"""What is wrong with a file: one sentence each, with file, line and path, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skerry.errors import Invalid

PROBLEMS_SHOWN_MAX = 100

Path = tuple[str | int, ...]


class Place(NamedTuple):
    file: str
    line: int
    """From 1; 0 where it is about the whole file."""


class Problem(NamedTuple):
    place: Place
    path: Path
    say: str

    def __str__(self) -> str:
        where = f"{self.place.file}:{self.place.line}" if self.place.line else self.place.file
        path = path_text(self.path)
        return f"{where}: {path}: {self.say}" if path else f"{where}: {self.say}"


def path_text(path: Path) -> str:
    """("sandboxes", "web", "ports", 0) -> sandboxes.web.ports[0]"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


class Problems(Invalid):
    """Everything that was found, a line for each."""

    def __init__(self, found: Sequence[Problem]) -> None:
        self.found = sorted(set(found), key=lambda problem: (problem.place, path_text(problem.path), problem.say))
        lines = [str(problem) for problem in self.found[:PROBLEMS_SHOWN_MAX]]
        if len(self.found) > PROBLEMS_SHOWN_MAX:
            lines.append(f"… and {len(self.found) - PROBLEMS_SHOWN_MAX} more")
        super().__init__("\n".join(lines))
        self.lines = lines
