"""One request to the control API as plain data, so that a call is written once for both transports."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from skerry.errors import Invalid

T = TypeVar("T")

REPLY_S = 60.0
"""An answer that the server does not hold back on purpose comes within this, or something is wrong."""

Value = str | int | float | bool | Sequence[str] | None
Data = bytes | Iterable[bytes] | AsyncIterable[bytes]


def label_query(labels: Mapping[str, str] | None) -> list[str]:
    """As the lists of the API take them: those with all of these labels."""
    return [f"{key}={value}" for key, value in (labels or {}).items()]


class Reply(NamedTuple):
    """201 created, 200 done, 202 still going on; and the JSON it came with."""

    status: int
    body: Any


NOTHING = Reply(204, None)
"""What a flow is sent after a pause."""


class Pause(NamedTuple):
    """What a flow may yield instead of a call: nothing is asked for so long."""

    seconds: float


class Call(Generic[T]):
    """`T` is what `parse` makes of the JSON answer; callers that want the JSON itself leave `parse` alone."""

    __slots__ = ("accept", "body", "data", "method", "parse", "path", "query", "reply_s")

    def __init__(
        self,
        method: str,
        path: str,
        parse: Any = None,
        *,
        query: Mapping[str, Value] | None = None,
        body: Any = None,
        data: Data | None = None,
        accept: str = "application/json",
        reply_s: float | None = REPLY_S,
    ) -> None:
        self.method = method
        self.path = path
        self.parse = parse
        self.query = query or {}
        self.body = body
        """Sent as JSON."""
        self.data = data
        """Sent as it is; with `body` None only."""
        self.accept = accept
        self.reply_s = reply_s
        """Longest silence to put up with; None: any."""

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.query.items():
            if value is None:
                continue
            if isinstance(value, bool):
                pairs.append((name, "true" if value else "false"))
            elif isinstance(value, str | int | float):
                pairs.append((name, str(value)))
            else:
                pairs.extend((name, item) for item in value)
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    @property
    def repeatable(self) -> bool:
        return self.method == "GET"


def segment(text: str) -> str:
    """A name or id as one piece of a path. "" would silently name the whole collection, "..", something else."""
    if text in ("", ".", ".."):
        raise Invalid(f"{text!r} is not a name or id")
    return quote(text, safe=":@")


def waiting(wait_s: float) -> float:
    """How long the answer may take when the server is asked to hold it for `wait_s`."""
    return REPLY_S + wait_s
