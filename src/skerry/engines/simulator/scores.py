"""How well texts go together, for /v1/rerank and /v1/score: by the tokens that they share, so that what is nearer in
words comes first."""

from __future__ import annotations

from typing import Any

from skerry.engines.http1 import Refused, items, members
from skerry.engines.simulator import texts

PAIRS_MAX = 2048


def pairs(left: Any, right: Any, names: tuple[str, str]) -> list[tuple[str, str]]:
    """One with each of the others, or one by one. Raises Refused."""
    lefts, rights = _texts(left, names[0]), _texts(right, names[1])
    if len(lefts) == 1:
        lefts *= len(rights)
    if len(lefts) != len(rights):
        raise Refused(400, f"{names[0]}: give one, or as many as {names[1]}", param=names[0])
    if len(rights) > PAIRS_MAX:
        raise Refused(400, f"{names[1]}: at most {PAIRS_MAX}", param=names[1])
    return list(zip(lefts, rights, strict=True))


def _texts(given: Any, name: str) -> list[str]:
    found = [given] if isinstance(given, str) else items(given)
    told = [item if isinstance(item, str) else members(item).get("text") for item in found]
    if not told or not all(isinstance(text, str) for text in told):
        raise Refused(400, f"{name}: give text, or a list of texts", param=name)
    return [str(text) for text in told]


def score(left: list[int], right: list[int]) -> float:
    """Between 0 and 1."""
    one, other = set(left), set(right)
    return len(one & other) / max(1, len(one | other))


def tokens(text: str) -> list[int]:
    # The same word counts the same wherever it stands.
    return texts.tokens(f" {text.lower()}") or [0]


def ranked(scores: list[float], documents: list[str], top: Any) -> list[dict[str, Any]]:
    """Raises Refused."""
    if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 0):
        raise Refused(400, "top_n: a whole number", param="top_n")
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    return [
        {"index": at, "document": {"text": documents[at]}, "relevance_score": scores[at]}
        for at in order[: top or len(order)]
    ]
