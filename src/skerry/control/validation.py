"""What was wrong with a request, as one sentence: where, what was given, and what is allowed there."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from skerry.errors import Invalid
from skerry.model.fields import format_size, parse_size
from skerry.model.wire import explain

BOUNDS = frozenset({"greater_than_equal", "less_than_equal", "greater_than", "less_than"})


def explain_body(model: Any, body: Any, errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """`errors`: FastAPI's own findings, for a body that is not JSON at all. `model`: what the body should have been."""
    first = errors[0]
    if first["type"] == "json_invalid":
        context: Mapping[str, Any] = first.get("ctx") or {}
        reason = context.get("error", "")
        return Invalid(f"the body is not valid JSON: {reason}")
    if not isinstance(body, dict):
        return Invalid("the body must be a JSON object, sent with Content-Type: application/json")
    try:
        TypeAdapter(model).validate_python(body)
    except ValidationError as error:
        return explain_error(model, error)
    return Invalid("the body is not what is expected here")


def explain_error(model: Any, error: ValidationError) -> Invalid:
    found = error.errors(include_url=False)[0]
    owner = model_at(model, found["loc"][:-1])
    if found["type"] in BOUNDS and owner is not None:
        info = owner.model_fields.get(str(found["loc"][-1]))
        if info is not None and (range_text := allowed_range(info)):
            path = ".".join(str(part) for part in found["loc"])
            return Invalid(f"{path}: {found['input']} is not allowed; give {range_text}", field=path)
    return explain(error, owner.model_fields if owner is not None else ())


def model_at(model: Any, location: Sequence[int | str]) -> type[BaseModel] | None:
    """The model that the field path leads into; None where it is a plain list or mapping."""
    here = _model_in(model)
    for part in location:
        if isinstance(part, int):
            continue
        if here is None:
            return None
        info = here.model_fields.get(part)
        here = _model_in(info.annotation) if info is not None else None
    return here


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = get_origin(annotation)
    if origin in (Annotated, list, Union, types.UnionType):
        for inner in get_args(annotation):
            if (found := _model_in(inner)) is not None:
                return found
    return None


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


def explain_parameter(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """For a parameter of the path or query, of which FastAPI's finding tells enough."""
    first = errors[0]
    name = str(first["loc"][-1])
    context: Mapping[str, Any] = first.get("ctx") or {}
    given = str(first.get("input"))[:60]
    match first["type"]:
        case "missing":
            return Invalid(f"{name}: this parameter is required", field=name)
        case "enum" | "literal_error":
            return Invalid(f"{name}: {given!r} is not allowed; give {context.get('expected')}", field=name)
        case "greater_than_equal":
            return Invalid(f"{name}: {given} is not allowed; give {context['ge']:g} or more", field=name)
        case "less_than_equal":
            return Invalid(f"{name}: {given} is not allowed; give {context['le']:g} or less", field=name)
        case "int_parsing" | "float_parsing" | "bool_parsing":
            kind = {"int": "a whole number", "float": "a number", "bool": "true or false"}[first["type"].split("_")[0]]
            return Invalid(f"{name}: {given!r} is not allowed; give {kind}", field=name)
        case _:
            return Invalid(f"{name}: {given!r} is not allowed; {str(first['msg']).lower()}", field=name)
