"""What a queue's quotas allow, guarantee and weigh, by what the ledger says is used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry.scheduler.ledger import Ledger, Usage, exceeds
from skerry.scheduler.plan import Because
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Amounts, Placement, Queue, Quota, Work

NONE = Amounts()


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a queue's nodes."""

    cpu_milli: int
    memory_bytes: int
    gpu_milli: int

    def dominant(self, cpu_milli: int, memory_bytes: int, gpu_milli: int) -> float:
        """The largest part of anything."""
        share = 0.0
        if cpu_milli and self.cpu_milli:
            share = cpu_milli / self.cpu_milli
        if memory_bytes and self.memory_bytes:
            share = max(share, memory_bytes / self.memory_bytes)
        if gpu_milli and self.gpu_milli:
            share = max(share, gpu_milli / self.gpu_milli)
        return share


@dataclass(frozen=True, slots=True)
class Barred:
    because: Because
    say: str


class Quotas:
    def __init__(
        self, queue: Queue, ledger: Ledger, totals: Totals, history: Mapping[tuple[str, str, str], float]
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._totals = totals
        self._quotas: dict[tuple[str, str | None], Quota] = {(each.project, each.user): each for each in queue.quotas}
        self._past: dict[tuple[str, str | None], float] = defaultdict(float)
        for (name, project, user), used in history.items():
            if name == queue.name:
                self._past[project, user] += used
                self._past[project, None] += used
        self._awaited: dict[tuple[str, str | None], Counter[Shape]] = defaultdict(Counter)
        self.limits = bool(queue.quotas) or queue.running_max is not None
        self.kinds_limited = any(each.limit.kinds for each in queue.quotas)
        self.changes = 0
        self.guarantees = any(each.guaranteed != NONE for each in queue.quotas)

    # Shares

    def of_project(self, project: str) -> float:
        return self._share(project, None)

    def of_user(self, project: str, user: str) -> float:
        return self._share(project, user)

    def _share(self, project: str, user: str | None) -> float:
        usage = self._ledger.of(self._queue.name, project, user)
        quota = self._quotas.get((project, user))
        now = self._totals.dominant(usage.cpu_milli, usage.memory_bytes, usage.gpu_milli)
        return (now + self._past.get((project, user), 0.0)) / (quota.weight if quota else 1.0)

    # Limits

    def barred(self, work: Work, members: int) -> Barred | None:
        """Why so many of its members may not run, whatever room there is."""
        usage = self._ledger.of(self._queue.name)
        most = self._queue.running_max
        if most is not None and usage.running >= most and work.id not in usage.works:
            return Barred(
                Because.RUNNING_MAX, f"queue {self._queue.name} runs {usage.running} at once, as many as it may"
            )
        for quota in self._over(work):
            usage = self._ledger.of(self._queue.name, quota.project, quota.user)
            most = quota.running_max
            if most is not None and usage.running >= most and work.id not in usage.works:
                return Barred(Because.RUNNING_MAX, f"{_whose(quota)} runs {usage.running} at once, as many as it may")
            if resource := exceeds(usage, quota.limit, counted(work, members)):
                return Barred(Because.QUOTA, f"with it {_whose(quota)} would have more {resource} than its limit")
        return None

    def runs(self, work: Work) -> bool:
        """Some of it does already."""
        return work.id in self._ledger.of(self._queue.name).works

    def allowed(self, work: Work, least: int) -> tuple[int, Barred | None]:
        """How many of its members may run, the first ones; 0 and why if not even `least`."""
        most = len(work.members)
        if not self.limits or self.barred(work, most) is None:
            return most, None
        if barred := self.barred(work, least):
            return 0, barred
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self.barred(work, middle) is None else (least, middle)
        return least, None

    def kinds_left(self, work: Work, shape: Shape, members: int) -> frozenset[str] | None:
        """Kinds of accelerators that it may have, where a limit takes one of several away; None: those it asks."""
        if not shape.gpu_count or len(shape.gpu_kinds) == 1:
            return None
        gone = {
            kind
            for quota in self._over(work)
            for kind, most in quota.limit.kinds
            if self._ledger.of(self._queue.name, quota.project, quota.user).kinds.get(kind, 0)
            + shape.gpu_count * shape.gpu_milli * members
            > most
        }
        return (shape.gpu_kinds or self._ledger.kinds) - gone if gone else None

    # Guarantees

    def entitled(self, work: Work) -> bool:
        """Whether all of it is within what is guaranteed to its project, or to its user."""
        shapes = counted(work, len(work.members))
        return any(covers(quota.guaranteed, shapes) and self._within(quota, shapes) for quota in self._over(work))

    def _within(self, quota: Quota, shapes: Counter[Shape]) -> bool:
        usage = self._ledger.of(self._queue.name, quota.project, quota.user)
        awaited = self._awaited.get((quota.project, quota.user))
        return exceeds(usage, quota.guaranteed, shapes + awaited if awaited else shapes) is None

    def awaits(self, work: Work) -> None:
        """Room is being made for it."""
        for user in (None, work.user):
            self._awaited[work.project, user] += counted(work, len(work.members))

    def borrowed(self, placement: Placement, gone: Iterable[Placement]) -> bool:
        """Whether its project has it beyond what is guaranteed, also once those of the project in `gone` are."""
        for whose in ((placement.project, placement.user), (placement.project, None)):
            quota = self._quotas.get(whose)
            if quota is None or quota.guaranteed == NONE:
                continue
            usage = self._ledger.of(self._queue.name, *whose)
            also = [each for each in gone if whose[1] in (None, each.user)]
            if not _beyond(_less(usage, [*also, placement]), placement.shape, quota.guaranteed):
                return False
        return True

    def _over(self, work: Work) -> list[Quota]:
        found = (self._quotas.get((work.project, None)), self._quotas.get((work.project, work.user)))
        return [quota for quota in found if quota is not None]


def counted(work: Work, members: int) -> Counter[Shape]:
    return Counter(shape for _, shape in work.members[:members])


def covers(guaranteed: Amounts, shapes: Mapping[Shape, int]) -> bool:
    """Whether it says anything of what they ask. Accelerators are only guaranteed by name."""
    if guaranteed == NONE:
        return False
    wants_gpu = any(shape.gpu_count for shape in shapes)
    return not wants_gpu or guaranteed.gpu_milli is not None or bool(guaranteed.kinds)


def _less(usage: Usage, gone: list[Placement]) -> Usage:
    return Usage(
        usage.cpu_milli - sum(each.shape.cpu_milli for each in gone),
        usage.memory_bytes - sum(each.shape.memory_bytes for each in gone),
        usage.gpu_milli - sum(each.shape.gpu_count * each.shape.gpu_milli for each in gone),
    )


def _beyond(left: Usage, shape: Shape, guaranteed: Amounts) -> bool:
    """Whether without this shape all that is guaranteed is still used of something that it has.

    Of kinds only all together are looked at: what is taken back is then rather less than more.
    """
    gpu = shape.gpu_count * shape.gpu_milli
    pairs = (
        (shape.cpu_milli, left.cpu_milli, guaranteed.cpu_milli),
        (shape.memory_bytes, left.memory_bytes, guaranteed.memory_bytes),
        (gpu, left.gpu_milli, guaranteed.gpu_milli or sum(milli for _, milli in guaranteed.kinds)),
    )
    return any(has and most is not None and used >= most for has, used, most in pairs)


def _whose(quota: Quota) -> str:
    return f"project {quota.project}" if quota.user is None else f"user {quota.user} of project {quota.project}"


def amounts(shapes: Mapping[Shape, int]) -> tuple[int, int, int]:
    """Cores, memory and accelerators that these ask together."""
    return (
        sum(shape.cpu_milli * count for shape, count in shapes.items()),
        sum(shape.memory_bytes * count for shape, count in shapes.items()),
        sum(shape.gpu_count * shape.gpu_milli * count for shape, count in shapes.items()),
    )
