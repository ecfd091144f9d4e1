"""How much there is of something and how much of it is in use, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skerry.cli.output import human_size, part, parts

BAR_CHARACTERS = 20


def bar(used: float, total: float, shown: Callable[[Any], str] = lambda amount: f"{amount:g}") -> str:
    """`[########            ] 4 of 10`; where more is promised than there is, the numbers tell it."""
    filled = min(BAR_CHARACTERS, round(BAR_CHARACTERS * used / total)) if total else 0
    return f"[{'#' * filled:<{BAR_CHARACTERS}}] {shown(used)} of {shown(total)}"


def gpus(node: Mapping[str, Any]) -> int:
    return sum(each["count"] for each in parts(node, "accelerators"))


def of_accelerators(node: Mapping[str, Any]) -> str:
    """`2 x h100 of 80.0GiB, 1 x t4`."""
    return ", ".join(
        f"{each['count']} x {each['kind']}" + (f" of {human_size(each['memory'])}" if each.get("memory") else "")
        for each in parts(node, "accelerators")
    )


def amounts(given: Mapping[str, Any]) -> str:
    """Of a quota or of a total: `8 cpu, 16.0GiB, 2 gpu, 1 h100, 3 license`; empty for nothing."""
    memory = given.get("memory", given.get("memory_bytes"))
    told = [
        f"{given['cpu']:g} cpu" if given.get("cpu") else "",
        human_size(memory) if memory else "",
        f"{given['gpu']:g} gpu" if given.get("gpu") else "",
        *(f"{count:g} {kind}" for kind, count in part(given, "gpu_kinds").items()),
        *(f"{count} {name}" for name, count in part(given, "extras").items()),
    ]
    return ", ".join(filter(None, told))
