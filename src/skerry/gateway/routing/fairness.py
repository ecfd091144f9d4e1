"""Who is next when there is not enough for all: virtual token counters, by priority.

VTC (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024). Each client has a queue of its own and a
counter of the service it got, divided by its weight; the client with the lowest counter is next. A prompt counts when
it is admitted, an answer as it is generated, twice. One that comes back after it had nothing waiting is lifted to the
lowest of those that wait, so that it saves nothing up; with nobody waiting, to the counter of whoever was last to wait.
Priorities are strict: while somebody waits with a higher one, lower ones wait.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

PROMPT_COST: Final = 1.0
ANSWER_COST: Final = 2.0
"""Of one token, as the paper has them."""
WEIGHT_MIN: Final = 1e-6
CLIENTS_MAX: Final = 10_000
"""Remembered without anything waiting; beyond it, who was heard of longest ago begins as a new client would."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Client:
    name: str
    counter: float
    weight: float = 1.0
    waiting: int = 0
    """Over all priorities."""


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """What one client has waiting with one priority: number -> (item, cost)."""

    client: _Client
    items: OrderedDict[int, tuple[T, float]] = field(default_factory=OrderedDict[int, tuple[T, float]])


class Full(Exception):
    """As many wait as may."""


class FairQueue(Generic[T]):
    """Bounded. An item is known by the number that `put` answers. `pop` looks at every client that waits: with a
    thousand of them it takes some 60 us."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._lines: dict[int, dict[str, _Line[T]]] = {}
        """Priority -> client -> line; no line is empty, and no priority."""
        self._where: dict[int, tuple[int, str]] = {}
        self._number = 0
        self._level = 0.0
        """Counter of the client that was last to have nothing waiting any more."""

    def __len__(self) -> int:
        return len(self._where)

    def counter(self, client: str) -> float:
        return self._clients[client].counter if client in self._clients else self._level

    def put(self, item: T, client: str, weight: float = 1.0, priority: int = 0, cost: float = 1.0) -> int:
        """`cost`: tokens of the prompt, charged when it is popped. Raises Full."""
        if len(self._where) >= self._limit:
            raise Full
        known = self._meet(client)
        known.weight = max(weight, WEIGHT_MIN)
        lines = self._lines.setdefault(priority, {})
        if not known.waiting:
            lowest = min((line.client.counter for line in lines.values()), default=self._level)
            known.counter = max(known.counter, lowest)
        line = lines.get(client)
        if line is None:
            line = lines[client] = _Line(known)
        self._number += 1
        line.items[self._number] = (item, cost)
        known.waiting += 1
        self._where[self._number] = (priority, client)
        return self._number

    def pop(self) -> tuple[T, str] | None:
        """The next item and its client, who is charged for its prompt; None: nobody waits."""
        if not self._where:
            return None
        lines = self._lines[max(self._lines)].values()
        line = min(lines, key=lambda line: (line.client.counter, next(iter(line.items))))
        number, (item, cost) = next(iter(line.items.items()))
        line.client.counter += PROMPT_COST * cost / line.client.weight
        self.remove(number)
        return item, line.client.name

    def charge(self, client: str, tokens: float) -> None:
        """So many tokens of an answer were generated for it."""
        known = self._meet(client)
        known.counter += ANSWER_COST * tokens / known.weight

    def remove(self, number: int) -> bool:
        """It does not wait any more; False: it did not."""
        where = self._where.pop(number, None)
        if where is None:
            return False
        priority, client = where
        line = self._lines[priority][client]
        del line.items[number]
        line.client.waiting -= 1
        if not line.items:
            del self._lines[priority][client]
            if not self._lines[priority]:
                del self._lines[priority]
        if not line.client.waiting:
            self._level = max(self._level, line.client.counter)
            self._forget()
        return True

    def _meet(self, client: str) -> _Client:
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Client(client, self._level)
            self._forget()
        self._clients.move_to_end(client)
        return known

    def _forget(self) -> None:
        while len(self._clients) > CLIENTS_MAX + len(self._where):
            idle = next(name for name, known in self._clients.items() if not known.waiting)
            del self._clients[idle]
