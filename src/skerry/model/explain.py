"""What pydantic found, in sentences: where, what was given, and what is allowed there. The APIs and the file use it."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from skerry.errors import Invalid
from skerry.model.amounts import format_size
from skerry.model.fields import parse_size

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
BOUNDS = frozenset({"greater_than_equal", "less_than_equal", "greater_than", "less_than"})
VALUE_CHARACTERS_MAX = 60
MAPPING = "it should be a mapping of names to values"
KINDS = {
    "string_type": "it should be text",
    "int_type": "it should be a whole number",
    "int_parsing": "it should be a whole number",
    "int_parsing_size": "it should be a whole number",
    "int_from_float": "it should be a whole number",
    "float_type": "it should be a number",
    "float_parsing": "it should be a number",
    "bool_type": "it should be true or false",
    "bool_parsing": "it should be true or false",
    "list_type": "it should be a list",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dataclass_type": MAPPING,
}
"""pydantic's kinds of findings, in words that need no Python."""
WORDS: dict[Any, str] = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list"}
_FIELD = re.compile(r"([a-z_]+): ")
WITHHELD = "withheld"
"""Type of a finding whose input nobody may read."""


class Finding(NamedTuple):
    location: tuple[int | str, ...]
    """Of the field; of one that is unknown, its own name last."""
    say: str
    """Without the path."""


def findings(model: Any, error: ValidationError) -> list[Finding]:
    """Each of them as a sentence; of the kinds that one field may be of, all in one."""
    told: dict[tuple[int | str, ...], Finding] = {}
    for found in error.errors(include_url=False):
        location, kinds = _read_location(model, found["loc"])
        say = f"it should be {kinds}" if kinds else _say(model, found)
        if field := _field_named(model, location, say):
            location, say = (*location, field), say.removeprefix(f"{field}: ")
        told.setdefault(location, Finding(location, say))
    return list(told.values())


def _read_location(model: Any, given: Sequence[int | str]) -> tuple[tuple[int | str, ...], str]:
    """Without what pydantic adds to the path of a field: which of the kinds that it may be of was tried, and that a key
    is meant. And these kinds in words, where it is none of them."""
    here, location = model, list[int | str]()
    for part in given:
        if part == "[key]":
            continue
        kinds = list(_alternatives(here))
        if isinstance(part, str) and len(kinds) > 1 and part.partition("[")[0] in [_plain(kind) for kind in kinds]:
            words = dict.fromkeys(
                WORDS[get_origin(kind) or kind] for kind in kinds if (get_origin(kind) or kind) in WORDS
            )
            return tuple(location), ", ".join(words).replace(", true", " or true").replace(", a list", " or a list")
        location.append(part)
        here = _inside(here, part)
    return tuple(location), ""


def _plain(kind: Any) -> str:
    return getattr(get_origin(kind) or kind, "__name__", "")


def _field_named(model: Any, location: tuple[int | str, ...], say: str) -> str | None:
    """What a model says of one of its fields begins with that field's name: it belongs to the path."""
    named = _FIELD.match(say)
    owner = model_at(model, location)
    return named[1] if named and owner is not None and named[1] in _fields_of(owner) else None


def explain(error: ValidationError, model: Any = None) -> Invalid:
    """The first finding. `model`: what was to be validated, for a suggestion where an unknown field was given."""
    found = findings(model, error)[0]
    field = path_of(found.location)
    return Invalid(f"{field}: {found.say}" if field else found.say, field=field or None)


def _say(model: Any, found: Mapping[str, Any]) -> str:
    kind, message, given = found["type"], found["msg"].removeprefix("Value error, "), found.get("input")
    owner = model_at(model, found["loc"][:-1])
    if kind in BOUNDS and owner is not None:
        info = _fields_of(owner).get(str(found["loc"][-1]))
        if info is not None and (range_text := allowed_range(info)):
            return f"{given} is not allowed; give {range_text}"
    if kind == "json_invalid":
        return f"the body is not valid JSON: {found.get('ctx', {}).get('error', message)}"
    if kind in UNKNOWN:
        known: Iterable[str] = _fields_of(owner) if owner is not None else ()
        near = difflib.get_close_matches(str(found["loc"][-1]), list(known), n=1)
        return "there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    if kind in ("missing", "missing_argument"):
        return "this field is required"
    if kind == "too_long" and isinstance(given, list | dict):
        return f"at most {found['ctx']['max_length']} are allowed"
    if kind == "too_short" and isinstance(given, list | dict):
        return f"at least {found['ctx']['min_length']} is needed"
    message = KINDS.get(kind) or message
    if not found["loc"]:
        return message
    if kind == WITHHELD or isinstance(given, dict | list):
        # It may be long, and may hold what others must not read in a log.
        return _allowed(message)
    return f"{_shown(given)} is not allowed; {_allowed(message)}"


def model_at(model: Any, location: Sequence[int | str]) -> type[Any] | None:
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
        if _is_model(inner):
            known = _fields_of(inner)
            info = known.get(str(part)) or next((info for info in known.values() if info.alias == part), None)
            if info is not None:
                return info.annotation
    return None


def _model_in(annotation: Any) -> type[Any] | None:
    return next((inner for inner in _alternatives(annotation) if _is_model(inner)), None)


def _is_model(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(cast("type[object]", kind), BaseModel))


def _fields_of(model: type[Any]) -> Mapping[str, FieldInfo]:
    """A dataclass is read too, where those who hold it have no use for pydantic."""
    if issubclass(model, BaseModel):
        return model.model_fields
    hints = get_type_hints(model, include_extras=True)
    return {each.name: FieldInfo.from_annotation(hints[each.name]) for each in fields(model)}


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
    parts = [*info.metadata, *_metadata_in(info.annotation)]
    low, above, high = _bounds(parts)
    if high is None or (low is None and above is None):
        return ""
    sized = any(getattr(part, "func", None) is parse_size for part in parts)
    shown = format_size if sized else _number
    return f"{shown(low)} to {shown(high)}" if low is not None else f"more than {shown(above)}, at most {shown(high)}"


def _number(value: float) -> str:
    """Not in scientific form: 31536000 and not 3.1536e+07."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _bounds(parts: Iterable[Any]) -> tuple[Any, Any, Any]:
    """(least, more than, most)."""
    low = above = high = None
    for part in parts:
        if isinstance(part, annotated_types.Ge):
            low = part.ge
        elif isinstance(part, annotated_types.Gt):
            above = part.gt
        elif isinstance(part, annotated_types.Le):
            high = part.le
        elif isinstance(part, FieldInfo):
            inner = _bounds(part.metadata)
            low, above, high = (
                here if here is not None else there for here, there in zip((low, above, high), inner, strict=True)
            )
    return low, above, high


def _metadata_in(annotation: Any) -> Iterator[Any]:
    """Of the alternatives too: the bounds of `int | None` are those of its int."""
    yield from getattr(annotation, "__metadata__", ())
    if get_origin(annotation) is Annotated:
        yield from _metadata_in(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _metadata_in(inner)


def path_of(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _allowed(message: str) -> str:
    return message.replace("Input should", "it should").replace("String should", "it should")
