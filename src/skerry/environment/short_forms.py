"""The short ways to write a machine, as the long ones that the model knows: `8080:80`, `[db]`, a line of shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.client.calls.networks import join_from_text
from skerry.client.calls.ports import port_from_text
from skerry.client.calls.sandboxes import mount_from_text
from skerry.client.calls.secrets import use_from_text
from skerry.environment.merge import JOBS, QUEUES, SANDBOXES, SERVICES, TEMPLATES
from skerry.environment.multiply import TOKEN
from skerry.environment.problems import Path, Problem
from skerry.environment.tree import Value, listing, mapping
from skerry.errors import Invalid

Told = Callable[[Value, Path, str], None]
Forms = dict[str, Callable[[Value, Path, Told], Value]]


def expand_all(tree: Value, problems: list[Problem]) -> Value:
    """Every machine, template, job and queue of a file, before anything is merged: then like is merged with like."""
    if not isinstance(tree.data, dict):
        return tree
    made = dict(mapping(tree))
    of_sections = (
        (TEMPLATES, _FORMS),
        (SANDBOXES, _FORMS),
        (JOBS, _FORMS_OF_JOBS),
        (QUEUES, _FORMS_OF_QUEUES),
        (SERVICES, _FORMS_OF_SERVICES),
    )
    for section, forms in of_sections:
        if mapping(made.get(section)):
            items = {
                name: expand(machine, (section, name), problems, forms) if mapping(machine) else machine
                for name, machine in mapping(made[section]).items()
            }
            made[section] = Value(items, made[section].place)
    return Value(made, tree.place)


def expand(machine: Value, path: Path, problems: list[Problem], forms: Forms | None = None) -> Value:
    """A machine, or what other `forms` are of, in long forms; what is in neither form is left for the model to tell."""

    def tell(value: Value, at: Path, say: str) -> None:
        problems.append(Problem(value.place, at, say))

    made: dict[str, Value] = {}
    for key, value in mapping(machine).items():
        form = (forms or _FORMS).get(key)
        made[key] = form(value, (*path, key), tell) if form is not None else value
    return Value(made, machine.place)


def _fields(found: dict[str, Any], value: Value) -> Value:
    return Value({key: Value(part, value.place) for key, part in found.items()}, value.place)


def _each(one: Callable[[Value, Path, Told], Value]) -> Callable[[Value, Path, Told], Value]:
    def form(value: Value, path: Path, tell: Told) -> Value:
        if not isinstance(value.data, list):
            return value
        items = listing(value)
        return Value([one(item, (*path, number), tell) for number, item in enumerate(items)], value.place)

    return form


def _from_text(parse: Callable[[str], dict[str, Any]]) -> Callable[[Value, Path, Told], Value]:
    def form(value: Value, path: Path, tell: Told) -> Value:
        if not isinstance(value.data, str | int) or isinstance(value.data, bool):
            return value
        if TOKEN.search(str(value.data)):
            return value  # of one that stands for several: read when each has its number
        try:
            return _fields(parse(str(value.data)), value)
        except Invalid as error:
            tell(value, path, error.say)
            return Value(None, value.place)

    return form


def _pairs(value: Value, path: Path, tell: Told) -> Value:
    """[KEY=VALUE, …] -> {KEY: VALUE}; numbers and truths as text."""
    if isinstance(value.data, list):
        made: dict[str, Value] = {}
        items = listing(value)
        for number, item in enumerate(items):
            name, equals, text = str(item.data).partition("=")
            if not equals or isinstance(item.data, dict | list):
                tell(item, (*path, number), "give KEY=VALUE")
            made[name] = Value(text, item.place)
        return Value(made, value.place)
    return (
        Value({key: Value(_text(one.data), one.place) for key, one in mapping(value).items()}, value.place)
        if mapping(value)
        else value
    )


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _command(value: Value, path: Path, tell: Told) -> Value:
    """Text is for the shell; a list is the command as it stands."""
    if not isinstance(value.data, str):
        return value
    return Value([Value(part, value.place) for part in ("/bin/sh", "-c", value.data)], value.place)


def _depends_on(value: Value, path: Path, tell: Told) -> Value:
    """[db] or db -> {db: started}; compose's {db: {condition: service_healthy}} too."""
    if isinstance(value.data, str):
        return _fields({value.data: "started"}, value)
    if isinstance(value.data, list):
        return _named(value, path, tell, "started")
    made: dict[str, Value] = {}
    for name, one in mapping(value).items():
        wish = mapping(one).get("condition", one)
        text = wish.data
        if isinstance(text, str):
            text = text.removeprefix("service_").replace("completed_successfully", "completed")
        made[name] = Value(text, one.place)
    return Value(made, value.place) if made else value


def _networks(value: Value, path: Path, tell: Told) -> Value:
    """{backend: 10.77.0.5} or {backend: {address: …}} -> a list; so is a list of NETWORK[:ADDRESS]."""
    if isinstance(value.data, dict):
        made: list[Value] = []
        for name, one in mapping(value).items():
            inside = dict(mapping(one)) if isinstance(one.data, dict) else {"address": one}
            made.append(Value({"name": Value(name, one.place), **inside}, one.place))
        return Value(made, value.place)
    return _each(_from_text(join_from_text))(value, path, tell)


def _services(value: Value, path: Path, tell: Told) -> Value:
    made: dict[str, Value] = {}
    for name, service in mapping(value).items():
        inside = dict(mapping(service))
        if "command" in inside:
            inside["command"] = _command(inside["command"], path, tell)
        if "env" in inside:
            inside["env"] = _pairs(inside["env"], (*path, name, "env"), tell)
        if mapping(inside.get("health")):
            inside["health"] = _health(inside["health"], path, tell)
        made[name] = Value(inside, service.place) if mapping(service) else service
    return Value(made, value.place) if made else value


def _health(value: Value, path: Path, tell: Told) -> Value:
    inside = dict(mapping(value))
    if "command" in inside:
        inside["command"] = _command(inside["command"], path, tell)
    return Value(inside, value.place) if inside else value


def _switch(value: Value, path: Path, tell: Told) -> Value:
    return _fields({"enabled": value.data}, value) if isinstance(value.data, bool) else value


def _step(value: Value, path: Path, tell: Told) -> Value:
    """A line of text is a `run`; `copy: SOURCE:TARGET`, `ansible: PLAYBOOK`."""
    if isinstance(value.data, str):
        return _fields({"run": value.data}, value)
    inside = dict(mapping(value))
    copied, played = inside.get("copy"), inside.get("ansible")
    if copied is not None and isinstance(copied.data, str):
        source, colon, target = copied.data.rpartition(":")
        if not colon:
            tell(copied, (*path, "copy"), "give SOURCE:TARGET, or {source: …, target: …}")
        inside["copy"] = _fields({"source": source, "target": target}, copied)
    if played is not None and isinstance(played.data, str):
        inside["ansible"] = _fields({"playbook": played.data}, played)
    if "env" in inside:
        inside["env"] = _pairs(inside["env"], (*path, "env"), tell)
    return Value(inside, value.place) if inside else value


def _folder(text: str) -> dict[str, Any]:
    source, colon, target = text.partition(":")
    if not colon or not source or not target:
        raise Invalid(f"folder {text!r}: expected SOURCE:TARGET, such as .:/workspace")
    return {"source": source, "target": target}


def _after(value: Value, path: Path, tell: Told) -> Value:
    """[fetch] or fetch -> {fetch: null}: that it has succeeded, or of a sandbox that it has started."""
    if isinstance(value.data, str):
        return _fields({value.data: None}, value)
    return _named(value, path, tell, None) if isinstance(value.data, list) else value


def _named(value: Value, path: Path, tell: Told, meant: str | None) -> Value:
    """A list of names, each with what is `meant` where nothing is said."""
    made: dict[str, Value] = {}
    for number, item in enumerate(listing(value)):
        if isinstance(item.data, str):
            made[item.data] = Value(meant, item.place)
        else:
            tell(item, (*path, number), "give the name of what it waits for, or {NAME: what must be so of it}")
    return Value(made, value.place)


def _retry(value: Value, path: Path, tell: Told) -> Value:
    return _fields({"limit": value.data}, value) if type(value.data) is int else value


def _notify(value: Value, path: Path, tell: Told) -> Value:
    """One is a list of one."""
    return Value([value], value.place) if isinstance(value.data, dict) else value


_FORMS: Forms = {
    "env": _pairs,
    "labels": _pairs,
    "command": _command,
    "depends_on": _depends_on,
    "networks": _networks,
    "network": _switch,
    "ports": _each(_from_text(port_from_text)),
    "mounts": _each(_from_text(mount_from_text)),
    "folders": _each(_from_text(_folder)),
    "secrets": _each(_from_text(use_from_text)),
    "services": _services,
    "health": _health,
    "provision": _each(_step),
}
"""Field of a machine -> how its short forms are read."""
_FORMS_OF_JOBS: Forms = {
    **{field: _FORMS[field] for field in ("env", "labels", "command", "networks", "network", "mounts", "secrets")},
    "depends_on": _after,
    "retry": _retry,
    "notify": _notify,
}
_FORMS_OF_SERVICES: Forms = {
    **{field: _FORMS[field] for field in ("env", "labels", "command", "networks", "network", "mounts", "secrets")},
    "depends_on": _after,
}
_FORMS_OF_QUEUES: Forms = {"labels": _pairs, "preemption": _switch}
