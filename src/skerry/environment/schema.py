"""The JSON Schema of skerry.yaml, by which editors complete and check it: the models' own, short forms let in.

The finished text is in the package, `model/environment.schema.json`: `python -m skerry.environment.schema` writes it
anew. JSON Schema 2020-12. `${NAME}` may stand for any plain value, so a place for a number takes such a text too."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from skerry import model
from skerry.environment.merge import SIZE_FIELDS
from skerry.model.environment import SANDBOXES_MAX, Condition, Environment
from skerry.model.fields import Frozen

FILE = Path(model.__file__ or "").parent / "environment.schema.json"

Schema = dict[str, Any]

VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}|\{(index([+-]\d+)?|key|value)\}"}
AMOUNT = {"type": "string", "pattern": rf"{VARIABLE['pattern']}|^\s*\d+(\.\d+)?\s*[A-Za-z/]*\s*$"}
"""A number, or text such as 512MiB, 30s, 10Mbit: the models read it where it fits."""
_TEXT: Schema = {"type": "string"}
_ENV: Schema = {"type": "array", "items": {"type": "string", "pattern": "="}, "description": "KEY=VALUE"}
_COMMAND: Schema = {"type": "string", "description": "A line for /bin/sh; a list is the command as it stands."}
_LOADED: Schema = {
    "size": {"type": "string", "description": "A name in `sizes`; what the sandbox says itself wins."},
    "extends": {
        "description": "A template or sandbox of this file, or {file, name}: what is not said here is taken from it.",
        "anyOf": [
            _TEXT,
            {
                "type": "object",
                "properties": {"file": _TEXT, "name": _TEXT},
                "required": ["file", "name"],
                "additionalProperties": False,
            },
        ],
    },
    "profiles": {
        "type": "array",
        "items": _TEXT,
        "description": "Only there when one of them is asked for (--profile).",
    },
    "count": {
        "description": "So many of it, NAME-1, NAME-2, …; {index} in its texts is the number.",
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": SANDBOXES_MAX}, VARIABLE],
    },
    "for_each": {
        "description": "One for each; {key}, {value} and {index} in its texts.",
        "anyOf": [{"type": "array"}, {"type": "object"}],
    },
}


def schema() -> Schema:
    made: Schema = Environment.model_json_schema(by_alias=True, mode="validation")
    definitions: Schema = made["$defs"]
    _describe(made, definitions)
    _let_in_short_forms(definitions)
    machine = definitions["Machine"]
    machine["properties"] |= _LOADED
    machine["required"] = []  # the image may come from what it extends
    properties = made["properties"]
    properties["sizes"] = {
        "type": "object",
        "description": "Names for what a sandbox may use, for `size`.",
        "additionalProperties": {
            "type": "object",
            "properties": {name: deepcopy(machine["properties"][name]) for name in sorted(SIZE_FIELDS)},
            "additionalProperties": False,
        },
    }
    properties["templates"] = {
        "type": "object",
        "description": "What sandboxes have in common, for `extends`; nothing is made of them.",
        "additionalProperties": {"$ref": "#/$defs/Machine"},
    }
    named = properties["sandboxes"].pop("patternProperties")
    properties["sandboxes"].pop("propertyNames", None)  # `web-{index}` is a name before it is multiplied
    properties["sandboxes"]["additionalProperties"] = next(iter(named.values()))
    made["required"] = []
    made["patternProperties"] = {"^x-": {"description": "Left alone: a place for anchors."}}
    for section in ("networks", "volumes", "secrets", "queues"):
        for way in ("additionalProperties", "patternProperties"):
            _or_null(properties[section], way)
    _with_variables(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "skerry.yaml",
        **{key: value for key, value in made.items() if key != "title"},
    }


def _describe(made: Schema, definitions: Schema) -> None:
    """The sentence under a field in the source is what an editor shows of it."""
    for kind in _kinds(Frozen):
        described = made if kind is Environment else definitions.get(kind.__name__)
        if described is None:
            continue
        for owner in reversed(kind.__mro__):
            for name, text in _sentences(owner):
                if name in described.get("properties", {}):
                    described["properties"][name].setdefault("description", text)


def _kinds(kind: type[Frozen]) -> Iterator[type[Frozen]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _sentences(kind: type) -> Iterator[tuple[str, str]]:
    if not kind.__module__.startswith("skerry."):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(sentence))):
                yield name.rstrip("_"), " ".join(sentence.split())
            case _:
                pass


def _let_in_short_forms(definitions: Schema) -> None:
    machine = definitions["Machine"]["properties"]
    for name in ("env", "labels"):
        _or(machine, name, _ENV)
    for name in ("ports", "mounts", "folders", "networks", "secrets", "provision"):
        if name in machine:
            machine[name]["items"] = {"anyOf": [machine[name]["items"], _TEXT]}
    machine["ports"]["items"]["anyOf"].append({"type": "integer"})
    _or(machine, "networks", {"type": "object", "description": "NETWORK: ADDRESS"})
    _or(machine, "command", _COMMAND)
    _or(machine, "network", {"type": "boolean"})
    conditions = [one.value for one in Condition]
    machine["depends_on"] = {
        "description": machine["depends_on"].get("description", ""),
        "anyOf": [
            _TEXT,
            {"type": "array", "items": _TEXT},
            {"type": "object", "additionalProperties": {"enum": conditions}},
        ],
    }
    for name in ("GuestServiceSpec", "Health"):
        _or(definitions[name]["properties"], "command", _COMMAND)
    _let_in_short_forms_of_jobs(definitions)
    _let_in_short_forms_of_services(definitions)
    _or(definitions["DeclaredQueue"]["properties"], "labels", _ENV)
    _or(definitions["DeclaredQueue"]["properties"], "preemption", {"type": "boolean"})
    step = definitions["Provisioner"]["properties"]
    _or(step, "copy", {"type": "string", "description": "SOURCE:TARGET"})
    _or(step, "ansible", {"type": "string", "description": "PLAYBOOK"})
    for name in ("GuestServiceSpec", "Provisioner"):
        _or(definitions[name]["properties"], "env", _ENV)


def _let_in_short_forms_of_jobs(definitions: Schema) -> None:
    job = definitions["DeclaredJob"]["properties"]
    for name in ("env", "labels"):
        _or(job, name, _ENV)
    for name in ("mounts", "networks", "secrets"):
        job[name]["items"] = {"anyOf": [job[name]["items"], _TEXT]}
    _or(job, "networks", {"type": "object", "description": "NETWORK: ADDRESS"})
    _or(job, "command", _COMMAND)
    _or(job, "network", {"type": "boolean"})
    _or(job, "depends_on", _TEXT)
    _or(job, "depends_on", {"type": "array", "items": _TEXT})
    _or(job, "retry", {"type": "integer", "description": "Tries after the first."})
    _or(job, "notify", deepcopy(job["notify"]["items"]))
    _or(job, "array", {"type": "integer", "description": "So many tasks."})
    _or(job, "array", {"type": "string", "description": "Indices: 0-9, 1-9:2, 1,4,8."})
    _or(job, "gpu_kind", _TEXT)
    _or(definitions["Notification"]["properties"], "on", _TEXT)


def _let_in_short_forms_of_services(definitions: Schema) -> None:
    service = definitions["DeclaredService"]["properties"]
    for name in ("env", "labels"):
        _or(service, name, _ENV)
    for name in ("mounts", "networks", "secrets", "prepare"):
        service[name]["items"] = {"anyOf": [service[name]["items"], _TEXT]}
    _or(service, "networks", {"type": "object", "description": "NETWORK: ADDRESS"})
    _or(service, "command", _COMMAND)
    _or(service, "network", {"type": "boolean"})
    _or(service, "depends_on", _TEXT)
    _or(service, "depends_on", {"type": "array", "items": _TEXT})
    _or(service, "gpu_kind", _TEXT)


def _or(properties: Schema, name: str, other: Schema) -> None:
    if name not in properties:
        return
    own = dict(properties[name])
    kept = {key: own.pop(key) for key in ("default", "description", "title") if key in own}
    alternatives = own.pop("anyOf") if set(own) == {"anyOf"} else [own]
    properties[name] = {**kept, "anyOf": [*alternatives, other]}


def _or_null(section: Schema, way: str) -> None:
    """`backend:` with nothing behind it is an entry with all its defaults."""
    inside = section.get(way)
    if isinstance(inside, dict) and way == "patternProperties":
        section[way] = {name: {"anyOf": [one, {"type": "null"}]} for name, one in inside.items()}  # pyright: ignore
    elif isinstance(inside, dict):
        section[way] = {"anyOf": [inside, {"type": "null"}]}


def _with_variables(node: Any) -> None:
    """Numbers and truths may be written as a variable."""
    if isinstance(node, list):
        for one in node:  # pyright: ignore[reportUnknownVariableType]
            _with_variables(one)
        return
    if not isinstance(node, dict):
        return
    inside: Schema = node  # pyright: ignore[reportUnknownVariableType]
    for one in list(inside.values()):
        _with_variables(one)
    if inside.get("type") in ("integer", "number", "boolean") and "const" not in inside:
        own = {key: inside.pop(key) for key in list(inside) if key not in ("default", "description", "title")}
        inside["anyOf"] = [own, VARIABLE if own["type"] == "boolean" else AMOUNT]


def text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
