"""Why each of those who wait does, put into words when somebody asks: most are never asked about.

What costs is done once per class of request: how many nodes each filter took out, and what the nearest lack. It is read
from the cell, so a kept cell is to be asked before it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

from skerry.model.amounts import amount_of
from skerry.scheduler.cell import Cell
from skerry.scheduler.decide.fate import Fate
from skerry.scheduler.decide.refusal import refusal
from skerry.scheduler.decide.seating import Ask, Seating
from skerry.scheduler.plan import Because, Fallen, Near, Waiting
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node, Work

AHEAD_MAX = 3
Why = tuple[Because, str, tuple[Fallen, ...], tuple[Near, ...]]


class Waits(Mapping[str, Waiting]):
    def __init__(
        self,
        cell: Cell,
        nodes: tuple[Node, ...],
        lines: Mapping[str, list[tuple[Work, Fate]]],
        forecast: Callable[[list[tuple[Work, Fate]]], dict[str, float]],
    ) -> None:
        self._cell = cell
        self._nodes = nodes
        self._lines = lines
        """Queue -> who waits in it, in order."""
        self._forecast = forecast
        self._times: dict[str, dict[str, float]] = {}
        self._why: dict[int, Why] = {}
        """By the identity of the note, which `lines` keep."""
        self._said: dict[str, Waiting] = {}

    @cached_property
    def _at(self) -> dict[str, tuple[str, int]]:
        return {work.id: (name, at) for name, line in self._lines.items() for at, (work, _) in enumerate(line)}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __contains__(self, work: object) -> bool:
        return work in self._at

    def __getitem__(self, work: str) -> Waiting:
        if work not in self._said:
            name, at = self._at[work]
            self._said[work] = self._say(name, at)
        return self._said[work]

    def _say(self, name: str, at: int) -> Waiting:
        line = self._lines[name]
        work, fate = line[at]
        if name not in self._times:
            self._times[name] = self._forecast(line)
        if id(fate) not in self._why:
            self._why[id(fate)] = self._read(fate)
        because, say, fallen, near = self._why[id(fate)]
        return Waiting(
            because,
            say,
            position=at + 1,
            ahead=tuple(each.id for each, _ in line[: min(at, AHEAD_MAX)]),
            fallen=fallen,
            near=near,
            starts_s=self._times[name].get(work.id),
        )

    def _read(self, fate: Fate) -> Why:
        """Once for all of a class."""
        if not fate.no_room:
            return fate.because, fate.say, (), ()
        ask = fate.ask
        shape = self._worst(ask)
        fallen, near = self._cell.why_not(shape, ask.pool)
        if self._never(ask):
            return Because.NEVER, self._say_never(shape, ask), fallen, near
        if fate.because is Because.GANG:
            return fate.because, _gang(ask, fate.most), fallen, near
        return fate.because, _lacks(fallen, near), fallen, near

    def _worst(self, ask: Ask) -> Shape:
        """Of its members' shapes, one that fits nowhere now; where there is none, the first."""
        shapes = list(Counter(shape for _, shape in ask.members))
        if len(shapes) == 1:
            return shapes[0]
        return next((shape for shape in shapes if not self._cell.fits(shape, ask.pool)), shapes[0])

    def _say_never(self, shape: Shape, ask: Ask) -> str:
        found = refusal(shape, self._cell.nodes_of(ask.pool))
        return _never_together(ask) if found is None else f"no machine could ever have it: {found}"

    def _never(self, ask: Ask) -> bool:
        if any(not self._cell.could_ever(shape, ask.pool) for shape in {shape for _, shape in ask.members}):
            return True
        if not ask.gang and not ask.work.together:
            return False
        empty = Cell([_accepting(node) for node in self._nodes])
        pool = empty.pool(ask.terms)
        alone = Ask(ask.work, ask.members, ask.minimum, pool, ask.terms, ask.strategy)
        return Seating(empty, self._nodes).seat(alone) is None


def _accepting(node: Node) -> Node:
    return node if node.accepts else replace(node, accepts=True)


def _lacks(fallen: tuple[Fallen, ...], near: tuple[Near, ...]) -> str:
    reasons = ", ".join(f"{each.nodes} by {each.filter}" for each in fallen if each.nodes)
    say = f"none of {sum(each.nodes for each in fallen)} nodes has room for it now ({reasons})"
    if near and near[0].missing:
        say += f"; the nearest, {near[0].node}, lacks " + ", ".join(amount_of(*each) for each in near[0].missing)
    return say


def _gang(ask: Ask, most: int) -> str:
    where = f" in one {ask.work.together}" if ask.work.together else ""
    return f"{most} of its {len(ask.members)} members have room{where} now, and it starts with {ask.minimum} at least"


def _never_together(ask: Ask) -> str:
    where = f" in one {ask.work.together}" if ask.work.together else ""
    return f"{ask.minimum} members of it would not have room{where} even if all the nodes were empty"
