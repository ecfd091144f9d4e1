"""How an error travels: its HTTP status by its code, and what pydantic found as one sentence. Both APIs use it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from skerry.errors import Invalid

STATUS: dict[str, int] = {
    "invalid": 400,
    "unsupported": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "already_exists": 409,
    "in_use": 409,
    "protected": 409,
    "illegal_move": 409,
    "too_large": 413,
    "limit_reached": 429,
    "failed": 500,
    "error": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "no_room": 507,
}

VALUE_CHARACTERS_MAX = 60


def explain(error: ValidationError, known: Iterable[str] = ()) -> Invalid:
    """The first finding as one sentence with the field's path, what was given and what is allowed.
    `known`: the names of the fields there are, for a suggestion when an unknown one was given."""
    found = error.errors(include_url=False)[0]
    field = _path(found["loc"])
    kind = found["type"]
    message = found["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return Invalid(f"the body is not valid JSON: {found.get('ctx', {}).get('error', message)}")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(found["loc"][-1]), list(known), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return Invalid(f"{field}: there is no such field{hint}", field=field)
    if kind == "missing":
        return Invalid(f"{field}: this field is required", field=field)
    if not field:
        return Invalid(message)
    given = found.get("input")
    if isinstance(given, dict | list):  # may be long, and may hold what others must not read in a log
        return Invalid(f"{field}: {_allowed(message)}", field=field)
    return Invalid(f"{field}: {_shown(given)} is not allowed; {_allowed(message)}", field=field)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else str(part)
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _allowed(message: str) -> str:
    return message.replace("Input should", "it should").replace("String should", "it should")
