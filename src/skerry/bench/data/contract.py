"""A conversation: what its user says turn by turn. A request that stands alone is one of a single turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(slots=True)
class Turn:
    text: str
    input_tokens: int = 0
    """Of this text alone; 0: not known."""
    output_tokens: int = 0
    """Asked for; 0: as many as the server likes."""
    think_s: float = 0.0
    """Between the end of the answer before and this."""
    at_s: float | None = None
    """By a trace: when it was asked, from the beginning."""
    images: Sequence[bytes] = ()
    sound: bytes = b""


@dataclass(slots=True)
class Conversation:
    turns: Sequence[Turn]
    system: str = ""
    system_tokens: int = 0
    scenario: str = ""
    fixed: bool = False
    """Turns hold whole prompts, history included: answers are not put between them."""
    messages: Sequence[Mapping[str, Any]] = ()
    """Of a single turn, in the place of its text."""
    raw: Sequence[bytes] = field(default=())
    """Bodies as they were logged, one for each turn: sent as they are."""
    user: str = ""
    """Who asks; sent as OpenAI's field of that name."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of each of its requests, beside those of the run: a user's own key, perhaps."""


class Source(Protocol):
    def conversations(self) -> Iterator[Conversation]:
        """The same ones every time for a seed. Ends where the data does; made-up data does not."""
        ...
