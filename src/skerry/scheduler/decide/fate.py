"""What a pass noted of those that wait, one note for all of a class."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.scheduler.decide.seating import Ask
from skerry.scheduler.plan import Because


@dataclass(slots=True)
class Fate:
    ask: Ask
    """Of the first that met it."""
    because: Because
    say: str = ""
    """What was found out; empty where that is read from the cell."""
    most: int = 0
    """Members that had room."""
    no_room: bool = False

    def __post_init__(self) -> None:
        self.no_room = self.because in (Because.FIT, Because.GANG)
