"""What pydantic found, in sentences: where, what was given, and what is allowed there. The APIs and the file use it."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from skerry.errors import Invalid
from skerry.model.amounts import format_size
from skerry.model.fields import parse_size

BOUNDS = frozenset({"greater_than_equal", "less_than_equal", "greater_than", "less_than"})
VALUE_CHARACTERS_MAX = 60
WITHHELD = "withheld"
"""Type of a finding whose input nobody may read."""


class Finding(NamedTuple):
    location: tuple[int | str, ...]
    """Of the field; of one that is unknown, its own name last."""
    say: str
    """Without the path."""


def findings(model: Any, error: ValidationError) -> list[Finding]:
    """Each of them as a sentence."""
    return [Finding(tuple(found["loc"]), _say(model, found)) for found in error.errors(include_url=False)]


def explain(error: ValidationError, model: Any = None) -> Invalid:
    """The first finding. `model`: what was to be validated, for a suggestion where an unknown field was given."""
    found = findings(model, error)[0]
    field = path_of(found.location)
    return Invalid(f"{field}: {found.say}" if field else found.say, field=field or None)


def _say(model: Any, found: Mapping[str, Any]) -> str:
    kind, message, given = found["type"], found["msg"].removeprefix("Value error, "), found.get("input")
    owner = model_at(model, found["loc"][:-1])
    if kind in BOUNDS and owner is not None:
        info = owner.model_fields.get(str(found["loc"][-1]))
        if info is not None and (range_text := allowed_range(info)):
            return f"{given} is not allowed; give {range_text}"
    if kind == "json_invalid":
        return f"the body is not valid JSON: {found.get('ctx', {}).get('error', message)}"
    if kind == "extra_forbidden":
        known: Iterable[str] = owner.model_fields if owner is not None else ()
        near = difflib.get_close_matches(str(found["loc"][-1]), list(known), n=1)
        return "there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    if kind == "missing":
        return "this field is required"
    if kind == "too_long" and isinstance(given, list | dict):
        return f"at most {found['ctx']['max_length']} are allowed"
    if not found["loc"]:
        return message
    if kind == WITHHELD or isinstance(given, dict | list):
        # It may be long, and may hold what others must not read in a log.
        return _allowed(message)
    return f"{_shown(given)} is not allowed; {_allowed(message)}"


def model_at(model: Any, location: Sequence[int | str]) -> type[BaseModel] | None:
    """The model that the field path leads into; None where it is a plain list or mapping."""
    here = model
    for part in location:
        here = _inside(here, part)
    return _model_in(here)


def _inside(annotation: Any, part: int | str) -> Any:
    """The type of what stands under one part of a path in a value of this type; None where that is not known."""
    for inner in _alternatives(annotation):
        origin = get_origin(inner)
        if origin is dict and isinstance(part, str):
            return get_args(inner)[1]
        if origin in (list, tuple) and isinstance(part, int):
            return get_args(inner)[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            by_alias = (info for info in inner.model_fields.values() if info.alias == part)
            info = inner.model_fields.get(str(part)) or next(by_alias, None)
            if info is not None:
                return info.annotation
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    found = (inner for inner in _alternatives(annotation) if isinstance(inner, type) and issubclass(inner, BaseModel))
    return next(found, None)


def _alternatives(annotation: Any) -> Iterator[Any]:
    """`X | None`, Annotated and aliases seen through: the types that a value may be of."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _alternatives(inner)
    elif annotation is not None:
        yield annotation


def allowed_range(info: FieldInfo) -> str:
    """`0.05 to 256`, `16MiB to 1TiB`; empty where the field has no bounds at both ends."""
    low, high = _bounds(info.metadata)
    sized = any(getattr(part, "func", None) is parse_size for part in _all_metadata(info))
    if low is None or high is None:
        return ""
    return f"{format_size(low)} to {format_size(high)}" if sized else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Not in scientific form: 31536000 and not 3.1536e+07."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _bounds(metadata: Sequence[Any]) -> tuple[Any, Any]:
    low = high = None
    for part in metadata:
        if isinstance(part, annotated_types.Ge):
            low = part.ge
        elif isinstance(part, annotated_types.Le):
            high = part.le
        elif isinstance(part, FieldInfo):
            inner = _bounds(part.metadata)
            low, high = inner[0] if low is None else low, inner[1] if high is None else high
    return low, high


def _all_metadata(info: FieldInfo) -> list[Any]:
    return [*info.metadata, *(getattr(info.annotation, "__metadata__", ()))]


def path_of(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif (
            part != "[key]"
        ):  # pydantic's word for a key of a mapping that is not allowed, which the part before it names
            path += f".{part}" if path else str(part)
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _allowed(message: str) -> str:
    return message.replace("Input should", "it should").replace("String should", "it should")
