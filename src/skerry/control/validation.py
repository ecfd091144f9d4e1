"""What was wrong with a request, as one sentence: where, what was given, and what is allowed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from skerry.errors import Invalid
from skerry.model.explain import explain


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
        return explain(error, model)
    return Invalid("the body is not what is expected here")


def explain_parameter(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """For a parameter of the path or query, of which FastAPI's finding tells enough."""
    first = errors[0]
    name = str(first["loc"][-1])
    context: Mapping[str, Any] = first.get("ctx") or {}
    given = str(first.get("input"))[:60]
    message = str(first["msg"]).removeprefix("Value error, ")
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
            return Invalid(f"{name}: {given!r} is not allowed; {message.lower()}", field=name)
