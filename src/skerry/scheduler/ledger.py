"""Who uses what: the sum of the placements and nothing else, and whether placements keep every promise made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.present import Present
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Amounts, Node, Placement, Queue, Snapshot

Whose = tuple[str, str | None, str | None]
"""(queue, project, user); None for all of them."""


@dataclass(slots=True)
class Usage:
    cpu_milli: int = 0
    memory_bytes: int = 0
    gpu_milli: int = 0
    sandboxes: int = 0
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    """Thousandths of devices of a kind."""
    extras: dict[str, int] = field(default_factory=dict[str, int])
    works: dict[str, int] = field(default_factory=dict[str, int])
    """Work -> how many of its sandboxes have a place."""

    @property
    def running(self) -> int:
        return len(self.works)

    def count(self, placement: Placement, sums: tuple[int, int, int], kinds: Mapping[str, int], sign: int) -> None:
        self.cpu_milli += sums[0]
        self.memory_bytes += sums[1]
        self.gpu_milli += sums[2]
        self.sandboxes += sign
        for kind, milli in kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + sign * milli
        for name, count in placement.shape.extras:
            self.extras[name] = self.extras.get(name, 0) + sign * count
        left = self.works.get(placement.work, 0) + sign
        if left:
            self.works[placement.work] = left
        else:
            del self.works[placement.work]

    def said(self) -> tuple[object, ...]:
        """To compare by: what is 0 is as if it were not there."""
        named = ({name: count for name, count in each.items() if count} for each in (self.kinds, self.extras))
        return self.cpu_milli, self.memory_bytes, self.gpu_milli, self.sandboxes, *named, self.works


NOTHING = Usage()


class Watch(Protocol):
    """Another sum over the placements of a queue, kept beside these."""

    def count(self, placement: Placement, sign: int) -> None: ...


W = TypeVar("W", bound=Watch)


class Ledger:
    """Kept between passes, or made anew from the placements: both say the same."""

    def __init__(self, nodes: Iterable[Node], placements: Iterable[Placement] = ()) -> None:
        self._kinds = {node.id: tuple(device.kind for device in node.devices) for node in nodes if node.devices}
        self.kinds = frozenset(kind for kinds in self._kinds.values() for kind in kinds)
        """Of accelerators that there are."""
        self._usage: dict[Whose, Usage] = defaultdict(Usage)
        self._placements: dict[str, Placement] = {}
        self._ranks: Counter[int] = Counter()
        self._watches: dict[str, tuple[object, Watch]] = {}
        self._present: Present | None = None
        for placement in placements:
            self.add(placement)

    def add(self, placement: Placement) -> None:
        if placement.id in self._placements:
            self.remove(placement.id)
        self._placements[placement.id] = placement
        self._count(placement, 1)
        if self._present is not None:
            self._present.add(placement)

    def remove(self, sandbox: str) -> None:
        """Of what is not there nothing is removed: being told twice that something ended changes nothing."""
        placement = self._placements.pop(sandbox, None)
        if placement is not None:
            self._count(placement, -1)
            if self._present is not None:
                self._present.remove(placement)

    def present(self, placements: Iterable[Placement]) -> Present:
        """Those who have a place, as `placements` tell of them now; whoever is not among these is as he was."""
        known = self._placements
        for placement in placements:
            if known.get(placement.id) is not placement:
                self.add(placement)
        if self._present is None:
            self._present = Present(known.values())
        return self._present

    def of(self, queue: str, project: str | None = None, user: str | None = None) -> Usage:
        return self._usage.get((queue, project, user), NOTHING)

    def watch(self, queue: str, rule: object, make: Callable[[], W]) -> W:
        """The one that was made by this rule; where there is none it is made and told of all that is there."""
        known = self._watches.get(queue)
        if known is not None and known[0] == rule:
            return cast(W, known[1])
        made = make()
        for placement in self._placements.values():
            if placement.queue == queue:
                made.count(placement, 1)
        self._watches[queue] = (rule, made)
        return made

    def unlike(self, other: Ledger) -> list[str]:
        """Whose use the two say differently. Empty: nobody's."""
        keys = sorted(self._usage.keys() | other._usage.keys(), key=str)
        return [
            f"the use of {'/'.join(each for each in key if each is not None)} is kept as another than it is"
            for key in keys
            if self.of(*key).said() != other.of(*key).said()
        ]

    def lowest_rank(self, none: int) -> int:
        """Of the tiers that anything has that has a place."""
        return min((rank for rank, count in self._ranks.items() if count), default=none)

    def _count(self, placement: Placement, sign: int) -> None:
        kinds = self._kinds_of(placement) if placement.devices else {}
        shape = placement.shape
        sums = (sign * shape.cpu_milli, sign * shape.memory_bytes, sign * shape.gpu_count * shape.gpu_milli)
        queue, project, user = placement.queue, placement.project, placement.user
        usage = self._usage
        usage[queue, None, None].count(placement, sums, kinds, sign)
        usage[queue, project, None].count(placement, sums, kinds, sign)
        usage[queue, project, user].count(placement, sums, kinds, sign)
        self._ranks[placement.tier.rank] += sign
        if queue in self._watches:
            self._watches[queue][1].count(placement, sign)

    def _kinds_of(self, placement: Placement) -> dict[str, int]:
        there = self._kinds.get(placement.node, ())
        found: dict[str, int] = {}
        for index, milli, _ in placement.devices:
            if index < len(there):
                found[there[index]] = found.get(there[index], 0) + milli
        return found


def exceeds(usage: Usage, limit: Amounts, shapes: Mapping[Shape, int] | None = None) -> str | None:
    """The first resource of `limit` that would be passed with so many of these shapes more, of those that they ask for;
    None: all are kept. Without shapes: that is passed.

    Kinds of accelerators are known of what has a place; of what has none only if it takes a single kind.
    """
    return next((name for name, used, more, most in _sums(usage, limit, shapes) if used + more > most), None)


def _sums(usage: Usage, limit: Amounts, shapes: Mapping[Shape, int] | None) -> Iterator[tuple[str, int, int, int]]:
    """(resource, what is used of it, what is asked, the most), of those that are asked for."""
    more = shapes or {}
    gpu = {shape: shape.gpu_count * shape.gpu_milli * count for shape, count in more.items()} if more else {}
    named = (
        ("cpu", usage.cpu_milli, _sum(more, "cpu_milli"), limit.cpu_milli),
        ("memory", usage.memory_bytes, _sum(more, "memory_bytes"), limit.memory_bytes),
        ("gpu", usage.gpu_milli, sum(gpu.values()), limit.gpu_milli),
    )
    for name, used, asked, most in named:
        if most is not None and (asked or shapes is None):
            yield name, used, asked, most
    for kind, most in limit.kinds:
        asked = sum(milli for shape, milli in gpu.items() if shape.gpu_kinds == frozenset({kind}))
        if asked or shapes is None:
            yield kind, usage.kinds.get(kind, 0), asked, most
    for name, most in limit.extras:
        asked = sum(dict(shape.extras).get(name, 0) * count for shape, count in more.items())
        if asked or shapes is None:
            yield name, usage.extras.get(name, 0), asked, most


def _sum(shapes: Mapping[Shape, int], name: str) -> int:
    return sum(getattr(shape, name) * count for shape, count in shapes.items())


def check(snapshot: Snapshot, ending: Collection[str] = ()) -> list[str]:
    """Every promise that the placements break, in sentences. Empty: all is well. `ending`: gangs some of whose members
    have ended or are about to; whether they began together is not to be seen any more."""
    nodes = {node.id: node for node in snapshot.nodes}
    broken = [
        f"sandbox {sandbox} has {count} places"
        for sandbox, count in Counter(placement.id for placement in snapshot.placements).items()
        if count > 1
    ]
    on_node: dict[str, list[Placement]] = defaultdict(list)
    for placement in snapshot.placements:
        if placement.node in nodes:
            on_node[placement.node].append(placement)
        else:
            broken.append(f"sandbox {placement.id} is on node {placement.node}, which is not known")
    for node, there in on_node.items():
        broken += _node_breaks(nodes[node], there)
    broken += _gang_breaks([each for each in snapshot.placements if each.work not in ending])
    ledger = Ledger(snapshot.nodes, snapshot.placements)
    for queue in snapshot.queues:
        broken += _quota_breaks(queue, ledger)
    return sorted(broken)


def _node_breaks(node: Node, there: list[Placement]) -> list[str]:
    broken: list[str] = []
    # What each was promised by: the most generous promise that anybody there was given bounds all of them together.
    cpu = max(each.shape.cpu_overcommit for each in there)
    memory = max(each.shape.memory_overcommit for each in there)
    sums = {
        "cpu": (sum(each.shape.cpu_milli for each in there), node.cpu_milli * cpu),
        "memory": (sum(each.shape.memory_bytes for each in there), node.memory_bytes * memory),
        "disk": (sum(each.shape.disk_bytes for each in there), node.disk_bytes),
        "sandboxes": (len(there), node.sandboxes_max),
    }
    extras: Counter[str] = Counter()
    for each in there:
        extras.update(dict(each.shape.extras))
    sums |= {name: (count, dict(node.extras).get(name, 0)) for name, count in extras.items()}
    broken += [
        f"node {node.id} has promised {used} of {name}, more than {most:.0f}"
        for name, (used, most) in sums.items()
        if used > most
    ]
    milli: Counter[int] = Counter()
    memory_used: Counter[int] = Counter()
    for each in there:
        if sum(part for _, part, _ in each.devices) != each.shape.gpu_count * each.shape.gpu_milli:
            broken.append(f"sandbox {each.id} has not the devices that it asked for")
        for index, part, memory_bytes in each.devices:
            milli[index] += part
            memory_used[index] += memory_bytes
    for index, part in milli.items():
        if index >= len(node.devices):
            broken.append(f"node {node.id} has no device {index}")
        elif part > GPU_MILLI:
            broken.append(f"node {node.id} has promised {part} thousandths of device {index}")
        elif 0 < node.devices[index].memory_bytes < memory_used[index]:
            broken.append(f"node {node.id} has promised {memory_used[index]} bytes of device {index}")
    return broken


def _gang_breaks(placements: Sequence[Placement]) -> list[str]:
    members: Counter[str] = Counter(placement.work for placement in placements if not placement.leaving)
    least = {placement.work: placement.minimum for placement in placements}
    return [
        f"{work} has {count} members with a place, and starts with {least[work]} at least"
        for work, count in members.items()
        if count < least[work]
    ]


def _quota_breaks(queue: Queue, ledger: Ledger) -> list[str]:
    broken: list[str] = []
    running = ledger.of(queue.name).running
    if queue.running_max is not None and running > queue.running_max:
        broken.append(f"queue {queue.name} runs {running}, more than {queue.running_max}")
    for quota in queue.quotas:
        usage = ledger.of(queue.name, quota.project, quota.user)
        whose = f"{quota.project}{f'/{quota.user}' if quota.user is not None else ''} in queue {queue.name}"
        if resource := exceeds(usage, quota.limit):
            broken.append(f"{whose} has more {resource} than its limit")
        if quota.running_max is not None and usage.running > quota.running_max:
            broken.append(f"{whose} runs {usage.running}, more than {quota.running_max}")
    return broken
