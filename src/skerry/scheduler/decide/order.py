"""Whose turn it is in a queue, among work of one tier: first come, by priority, or whoever has least of what is theirs.

Fair shares are weighted dominant shares (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011) on two levels,
projects and then their users, each level a heap, so that a pick costs the logarithm of how many there are. What was
used before counts too, decayed: a share that forgets is won by whoever comes last and largest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heapreplace
from operator import attrgetter
from typing import Protocol

from skerry.model.queue import Policy
from skerry.scheduler.snapshot import Queue, Work


class Shares(Protocol):
    """Weighted; they grow while work is started."""

    changes: int
    """How often one has changed."""

    def of_project(self, project: str) -> float: ...
    def of_user(self, project: str, user: str) -> float: ...


def sequence(works: list[Work], queue: Queue) -> list[Work]:
    """In the queue's order as far as it does not depend on what is used."""
    works.sort(key=attrgetter("id"))  # one key after the other: comparing pairs takes several times as long
    works.sort(key=attrgetter("submitted_s"))
    if queue.policy is not Policy.FIFO:
        works.sort(key=_urgency(queue.aging_s))
    return works


def _urgency(aging_s: float | None) -> Callable[[Work], float]:
    """All priorities grow alike with time, so that who is before whom does not depend on when it is asked."""
    if aging_s is None:
        return lambda work: -work.priority
    return lambda work: work.submitted_s / aging_s - work.priority


def turns(works: list[Work], queue: Queue, shares: Shares) -> Iterator[Work]:
    """`works` in sequence. What is started between two turns changes the shares, and with them who is next."""
    if queue.policy is not Policy.FAIR_SHARE:
        yield from works
        return
    owners: dict[tuple[str, str], list[Work]] = defaultdict(list)
    for work in works:
        owners[work.project, work.user].append(work)
    projects: dict[str, dict[str, list[Work]]] = defaultdict(dict)
    for (project, user), theirs in owners.items():
        projects[project][user] = theirs
    tops = [(shares.of_project(name), name, _Project(name, users, shares)) for name, users in projects.items()]
    heapify(tops)
    while tops:
        _, name, project = tops[0]
        seen = shares.changes
        for work in project.turns():
            yield work
            if shares.changes != seen:
                heapreplace(tops, (shares.of_project(name), name, project))
                break
        else:
            heappop(tops)


class _Project:
    """One project's work, its users by their shares."""

    def __init__(self, name: str, users: dict[str, list[Work]], shares: Shares) -> None:
        self._name = name
        self._shares = shares
        self._tops = [(shares.of_user(name, user), user, iter(works)) for user, works in users.items()]
        heapify(self._tops)

    def turns(self) -> Iterator[Work]:
        """Until a share has changed, after which it is begun again, or nothing is left."""
        while self._tops:
            share, user, works = self._tops[0]
            if (now := self._shares.of_user(self._name, user)) != share:
                heapreplace(self._tops, (now, user, works))
                continue
            yield from works
            heappop(self._tops)
