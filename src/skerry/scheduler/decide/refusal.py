"""What no node could ever have, however empty, is refused when it is asked for, with the largest node there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from skerry.model.amounts import amount_of, format_size
from skerry.scheduler.request import term_passes, tolerates
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node


class Refusal(NamedTuple):
    field: str
    """Path of what there is too little of, as a sandbox or a job names it."""
    say: str

    def __str__(self) -> str:
        return f"{self.field}: {self.say}"


def refusal(shape: Shape, nodes: Sequence[Node]) -> Refusal | None:
    """By the first filter that leaves none. None where some node could have it, were it empty and accepting; and
    without nodes, which may still come. Node by node: `Cell.could_ever` tells as much of all of them at once."""
    left = list(nodes)
    for field, passes, say in _FILTERS:
        remaining = [node for node in left if passes(node, shape)]
        if left and not remaining:
            return Refusal(field, say(left, shape, _whose(shape, len(left) < len(nodes))))
        left = remaining
    return None


def _whose(shape: Shape, narrowed: bool) -> str:
    if shape.node:
        return "the machine where its disk is"
    return "the largest machine that it may run on" if narrowed else "the largest machine"


def _devices(node: Node, shape: Shape) -> int:
    """How many of its devices would do."""
    least = shape.gpu_memory_bytes
    return sum(
        (not shape.gpu_kinds or each.kind in shape.gpu_kinds)
        and (not least or not each.memory_bytes or each.memory_bytes >= least)
        for each in node.devices
    )


def _has_extras(node: Node, shape: Shape) -> bool:
    has = dict(node.extras)
    return all(has.get(name, 0) >= count for name, count in shape.extras)


def _labels_pass(node: Node, shape: Shape) -> bool:
    labels = dict(node.labels)
    return all(term_passes(term, labels.get(term.key)) for term in shape.terms)


def _say_node(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    return f"{whose} has gone"


def _say_labels(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    names = ", ".join(sorted({term.key for term in shape.terms}))
    return f"no machine has labels {names} as they are wanted"


def _say_arch(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    there = ", ".join(sorted({node.arch or "an unknown one" for node in nodes}))
    return f"{shape.arch} is not allowed; there are machines of {there}"


def _say_taints(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    nearest = min((sorted(_untolerated(node, shape)) for node in nodes), key=lambda taints: (len(taints), taints))
    return f"every machine that it may run on has taints that it does not tolerate; add {', '.join(nearest)}"


def _untolerated(node: Node, shape: Shape) -> set[str]:
    return {taint for taint in node.taints if not tolerates(shape.tolerations, frozenset({taint}))}


def _say_cpu(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    most = max(node.cpu_milli for node in nodes)
    return f"{shape.cpu_milli / 1000:g} is not allowed; {whose} has {most / 1000:g}"


def _say_memory(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    most = max(node.memory_bytes for node in nodes)
    return f"{format_size(shape.memory_bytes)} is not allowed; {whose} has {format_size(most)}"


def _say_gpu(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    largest = max(nodes, key=lambda node: (_devices(node, shape), node.cpu_milli, node.id))
    asked = f"{shape.gpu_count * shape.gpu_milli / 1000:g}"
    if shape.gpu_kinds:
        asked += f" of {' or '.join(sorted(shape.gpu_kinds))}"
    if shape.gpu_memory_bytes:
        asked += f" with {format_size(shape.gpu_memory_bytes)} each"
    if not _devices(largest, shape):
        return f"{asked} is not allowed; no machine that could have the rest has such an accelerator"
    has = _devices(largest, shape)
    return f"{asked} with what else is asked is not allowed; the largest machine, {largest.id}, has {has}"


def _say_extras(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    most = {name: max(dict(node.extras).get(name, 0) for node in nodes) for name, _ in shape.extras}
    has = ", ".join(f"{count} {name}" for name, count in most.items())
    return f"no machine has all of these; the most that one has is {has}"


def _say_disk(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    return f"no machine that could have the rest has {amount_of('disk', shape.disk_bytes)} left"


def _say_sandboxes(nodes: Sequence[Node], shape: Shape, whose: str) -> str:
    return "every machine that could have the rest is full of sandboxes that are stopped"


_FILTERS: tuple[tuple[str, Callable[[Node, Shape], bool], Callable[[Sequence[Node], Shape, str], str]], ...] = (
    ("node", lambda node, shape: not shape.node or node.id == shape.node, _say_node),
    ("placement.nodes", _labels_pass, _say_labels),
    ("placement.arch", lambda node, shape: not shape.arch or node.arch == shape.arch, _say_arch),
    ("placement.tolerations", lambda node, shape: tolerates(shape.tolerations, node.taints), _say_taints),
    ("cpu", lambda node, shape: shape.cpu_milli <= node.cpu_milli, _say_cpu),
    ("memory", lambda node, shape: shape.memory_bytes <= node.memory_bytes, _say_memory),
    ("gpu", lambda node, shape: _devices(node, shape) >= shape.gpu_count, _say_gpu),
    ("extras", _has_extras, _say_extras),
    ("disk", lambda node, shape: shape.disk_bytes <= node.disk_bytes, _say_disk),
    ("sandboxes", lambda node, shape: node.sandboxes_max > 0, _say_sandboxes),
)
"""(field, whether the node, were it empty, passes, what to say where none does), in the order in which they are told.
The last two are of what comes back."""
