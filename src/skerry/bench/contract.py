"""What the parts of a benchmark hand to each other: a request as it is meant, and what became of it.

Times are seconds of one monotonic clock, from the beginning of the run. Everything that is reported is computed from
records after the run: nothing is summed up on the way that could not be looked at again.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Api(StrEnum):
    """What is asked, by the path below the base URL."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    RESPONSES = "responses"
    TRANSCRIPTIONS = "transcriptions"
    SPEECH = "speech"


PATHS: Mapping[Api, str] = {
    Api.CHAT: "/v1/chat/completions",
    Api.COMPLETIONS: "/v1/completions",
    Api.EMBEDDINGS: "/v1/embeddings",
    Api.RERANK: "/v1/rerank",
    Api.RESPONSES: "/v1/responses",
    Api.TRANSCRIPTIONS: "/v1/audio/transcriptions",
    Api.SPEECH: "/v1/audio/speech",
}


@dataclass(slots=True)
class Request:
    """One that is meant to be sent."""

    number: int
    api: Api
    body: bytes
    """As it is sent."""
    input_tokens: int = 0
    """As the data says; 0: not known."""
    output_tokens: int = 0
    """Asked for; 0: as many as the server likes."""
    at_s: float | None = None
    """When it is meant to be sent. None: as soon as there is room for it."""
    session: int = -1
    turn: int = 0
    scenario: str = ""
    user: str = ""
    """Who asks, where the data says."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Fault(StrEnum):
    """Why a request failed."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    CLOSED = "closed"  # the connection ended before the answer had
    STATUS = "status"  # any but 200
    CONTENT = "content"  # not what the API says, or an error in the stream
    CANCELLED = "cancelled"  # the run ended first


@dataclass(slots=True)
class Record:
    """What became of one."""

    number: int
    scenario: str = ""
    session: int = -1
    turn: int = 0
    intended_s: float = 0.0
    """Latencies are counted from here too: a client that is late must not make a server look fast (coordinated
    omission). Of closed loops it is when it was sent."""
    sent_s: float = 0.0
    first_s: float = 0.0
    """First token, of whatever kind: content, reasoning, a tool's call; 0: there was none."""
    first_content_s: float = 0.0
    last_s: float = 0.0
    """Last token."""
    ended_s: float = 0.0
    status: int = 0
    fault: Fault | None = None
    say: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    """As the server counts; else events with text."""
    counted: bool = False
    """The server counted."""
    times_s: array[float] = field(default_factory=lambda: array("d"))
    """Of each event that brought tokens."""
    text: str = ""
    """Kept only for conversations, whose next turn needs it, and where it was asked for."""
    worker: int = 0
    user: str = ""

    @property
    def ok(self) -> bool:
        return self.fault is None


class Schedule(Protocol):
    """Which request is sent when: open loops by the clock, closed loops as answers come. Pure: time is given."""

    def take(self, now_s: float) -> Request | None:
        """The next that is to be sent now; asked again until there is none."""
        ...

    def due_s(self) -> float | None:
        """When to ask again, if nothing ends before. None: only then."""
        ...

    def ended(self, request: Request, record: Record, now_s: float) -> None:
        """What it said is in the record where conversations need it, and may not be yet where they do not."""
        ...

    def prepare(self) -> bool:
        """Make ready one more of those that come later, while nothing else is to be done. False: enough are."""
        ...

    def is_over(self, now_s: float) -> bool:
        """Whether nothing will be sent any more."""
        ...
