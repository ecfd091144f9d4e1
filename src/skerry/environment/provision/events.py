"""What is told while steps run and folders are copied: one callback gets it all, from whichever thread works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple


class Event(NamedTuple):
    kind: Literal["began", "line", "ended", "failed", "skipped", "note"]
    member: str
    step: str
    """The name of the step; of a folder, its place in the sandbox."""
    line: str = ""
    """What was printed, without its end, or what there is to say. Whoever shows it makes it harmless for a terminal."""
    stream: Literal["", "stdout", "stderr"] = ""
    seconds: float | None = None
    """How long it took: of `ended` and `failed`."""


Report = Callable[[Event], object]
