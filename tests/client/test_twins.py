"""The blocking and the asyncio SDK are one SDK: same classes, same methods, same parameters, same words."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

MODULES = (
    "client",
    "sandbox",
    "commands",
    "files",
    "guest_services",
    "cloud",
    "jobs",
    "feed",
    "policy",
    "networks",
    "nodes",
    "queues",
    "services",
    "volumes",
    "models",
    "exec_socket",
    "port_socket",
    "forward",
    "transport",
)
OWN = {"give_back", "connect_to", "leave"}
"""What one side has for itself: our pool of connections, aiohttp's session, a way to end a loop from another thread."""


def faces(module: str) -> dict[str, type]:
    found = import_module(f"skerry.client.{module}")
    return {
        name.removeprefix("Async"): value
        for name, value in vars(found).items()
        if inspect.isclass(value) and value.__module__ == found.__name__ and not name.startswith("_")
    }


def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    found: dict[str, list[tuple[str, object, object]]] = {}
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        found[name] = [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
        ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_twins(module: str) -> None:
    blocking, waiting = faces(module), faces(f"{module}_async")
    assert sorted(blocking) == sorted(waiting)
    for name, kind in blocking.items():
        ours, theirs = methods(kind), methods(waiting[name])
        assert ours.keys() - OWN == theirs.keys() - OWN, name
        for method in theirs.keys() - OWN:
            assert theirs[method] == ours[method], f"{name}.{method}"
