"""What is asked of a model, checked, and the text that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry.engines.http1 import Refused, items, members

COMPLETION_TOKENS = 16
STOPS_MAX = 16
TEXT_MAX = 8 << 20


@dataclass(slots=True)
class Sampling:
    max_tokens: int | None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


def sampling(body: dict[str, Any], default_tokens: int | None) -> Sampling:
    """Raises Refused."""
    if body.get("n") not in (None, 1):
        raise Refused(400, "n: this engine gives one answer", param="n")
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or default_tokens
    stop = body.get("stop")
    stops: list[Any] = [stop] if isinstance(stop, str) else items(stop)
    if len(stops) > STOPS_MAX or not all(isinstance(one, str) and one for one in stops):
        raise Refused(400, f"stop: text, or a list of at most {STOPS_MAX}", param="stop")
    return Sampling(
        max_tokens=None if limit is None else int(_number(body, limit, "max_tokens", 1, 10**9)),
        temperature=_number(body, body.get("temperature", 1.0), "temperature", 0, 2),
        top_p=_number(body, body.get("top_p", 1.0), "top_p", 0, 1) or 1.0,
        top_k=int(_number(body, body.get("top_k", 0), "top_k", -1, 10**9)),
        seed=None if body.get("seed") is None else int(_number(body, body["seed"], "seed", -(2**63), 2**63 - 1)),
        stop=tuple(stops),
        ignore_eos=bool(body.get("ignore_eos")),
    )


def _number(body: dict[str, Any], value: Any, name: str, least: float, most: float) -> float:
    value = 1.0 if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise Refused(400, f"{name}: a number from {least:g} to {most:g}", param=name)
    return value


def messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """With the text of content that comes in parts put together. Raises Refused."""
    given = items(body.get("messages"))
    if not given:
        raise Refused(400, "messages: give a list of at least one message", param="messages")
    found: list[dict[str, Any]] = []
    for at, message in enumerate(map(members, given)):
        if not isinstance(message.get("role"), str):
            raise Refused(400, f"messages.{at}: a message has a role and content", param=f"messages.{at}")
        found.append({**message, "content": _text(message.get("content"), at)})
    return found


def begun(found: list[dict[str, Any]], system: str | None) -> list[dict[str, Any]]:
    """With the model's own system prompt, where a chat does not begin with another."""
    if system is None or found[0]["role"] in ("system", "developer"):
        return found
    return [{"role": "system", "content": system}, *found]


def _text(content: Any, at: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = [members(part).get("text") for part in items(content)]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise Refused(400, f"messages.{at}.content: this engine reads text only", param=f"messages.{at}.content")
    return "".join(map(str, parts))


def texts(body: dict[str, Any], name: str) -> list[str | list[int]]:
    """Each text, or the tokens of one. Raises Refused."""
    given = body.get(name)
    if isinstance(given, str):
        return [given]
    found = items(given)
    if found and all(isinstance(item, int) for item in found):
        return [found]
    if found and (all(isinstance(item, str) for item in found) or all(items(item) for item in found)):
        return found
    raise Refused(400, f"{name}: give text, or tokens, or a list of either", param=name)


def plain(found: list[dict[str, Any]]) -> str:
    """A conversation for models that have no template of their own."""
    return "".join(f"{message['role']}: {message['content']}\n" for message in found) + "assistant:"
