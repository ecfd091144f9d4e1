"""The API's description as docs/openapi.json keeps it: `python -m skerry.control.openapi` writes it anew."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, get_origin

from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter

from skerry.control.passage.routes import PASSED, Passed, Raw

DOCUMENT = Path("docs/openapi.json")
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "For programs"},
                "message": {"type": "string", "description": "For people: one sentence"},
                "field": {"type": "string", "description": "Path of the field that was wrong"},
                "retry_after_s": {"type": "number"},
            },
        }
    },
}
WHOLE_WORDS = {
    "S": "SandboxState",
    "skerry__control__api__cloud__Health": "ServerHealth",
    "skerry__model__job__Member": "TaskMember",
    "skerry__model__network__Member": "NetworkMember",
    "skerry__model__guest_service__Health": "Health",
    "skerry__model__sleep__Tier": "SleepTier",
    "skerry__model__tier__Tier": "Tier",
    "skerry__model__policy__Policy": "Policy",
    "skerry__model__queue__Policy": "QueuePolicy",
    "skerry__model__queue__Strategy": "QueueStrategy",
    "skerry__model__rollout__Strategy": "RolloutStrategy",
    "skerry__model__service__Health": "ServiceHealth",
}
BOOLEANS = frozenset({"parents", "recursive", "follow", "wake"})
NUMBERS = frozenset({"depth", "tail"})
OPTIONAL = frozenset({"mode", "parents", "recursive", "follow", "wake", "tail", "depth", "to"})


def document(api: FastAPI) -> dict[str, Any]:
    """FastAPI's own, plus what goes by the passage, the key, and the one form of errors."""
    made: dict[str, Any] = json.loads(json.dumps(api.openapi()))  # FastAPI keeps its own and gives it out again
    components = made.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = ERROR_SCHEMA
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    for passed in PASSED:
        path = passed.path.replace(":path}", "}")
        made["paths"].setdefault(path, {})[passed.method.lower()] = _operation(passed, path, schemas)
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            _finish(path, method, operation)
    made["paths"] = dict(sorted(made["paths"].items()))
    components["schemas"] = dict(sorted(schemas.items()))
    return _with_whole_words(made)


def _with_whole_words(made: dict[str, Any]) -> dict[str, Any]:
    """`S` is a good name beside its table of moves, and none in a document of the whole API; nor is one that tells in
    which of two files of ours a word stands."""
    schemas: dict[str, Any] = made["components"]["schemas"]
    whole = json.dumps(made)
    for short, word in WHOLE_WORDS.items():
        if short in schemas:
            whole = whole.replace(f'"#/components/schemas/{short}"', f'"#/components/schemas/{word}"')
    renamed: dict[str, Any] = json.loads(whole)
    found: dict[str, Any] = renamed["components"]["schemas"]
    words = {WHOLE_WORDS.get(name, name): schema for name, schema in found.items()}
    for name in WHOLE_WORDS.keys() & found.keys():
        words[WHOLE_WORDS[name]]["title"] = WHOLE_WORDS[name]
    renamed["components"]["schemas"] = dict(sorted(words.items()))
    return renamed


def _finish(path: str, method: str, operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses["4XX"] = {"description": "Mend the request; `message` says how", "content": content}
    responses["5XX"] = {"description": "Try again later", "content": content}
    words = [word for word in path.split("/") if word and not word.startswith("{") and word != "v1"]
    operation["operationId"] = "_".join([method, *words, *(["one"] if path.endswith("}") else [])])
    if path == "/health":
        operation["security"] = []


def _operation(passed: Passed, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    for name in passed.parameters:
        kind = "boolean" if name in BOOLEANS else "integer" if name in NUMBERS else "string"
        parameters.append({"name": name, "in": "query", "required": name not in OPTIONAL, "schema": {"type": kind}})
    answer = {"description": "Done"}
    if passed.answer is not None:
        answer["content"] = _content(passed.answer, schemas)  # pyright: ignore[reportArgumentType]
    operation: dict[str, Any] = {
        "tags": [_tag(path)],
        "summary": passed.summary,
        "parameters": parameters,
        "responses": {"200": answer},
    }
    if passed.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(passed.body, schemas)}
    return operation


def _tag(path: str) -> str:
    words = path.split("/")
    return next((word for word in ("files", "exec", "images") if word in words), "sandboxes")


def _content(body: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(body, Raw):
        return {body.value: {"schema": {"type": "string", "format": "binary"}}}
    schema = TypeAdapter(body).json_schema(ref_template="#/components/schemas/{model}")
    schemas.update({name: found for name, found in schema.pop("$defs", {}).items() if name not in schemas})
    if get_origin(body) is None and isinstance(body, type) and issubclass(body, BaseModel):
        name = body.__name__.replace("[", "_").replace("]", "_")
        schemas.setdefault(name, schema)
        schema = {"$ref": f"#/components/schemas/{name}"}
    return {"application/json": {"schema": schema}}


def text(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    from skerry.control.app import Control
    from skerry.settings import Settings
    from skerry.telemetry import Log

    with tempfile.TemporaryDirectory() as folder:
        control = Control(Settings(data_dir=Path(folder)), Log("openapi"))
        DOCUMENT.write_text(text(document(control.api)))
    sys.stdout.write(f"{DOCUMENT}\n")


if __name__ == "__main__":
    main()
