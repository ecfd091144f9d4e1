"""Which process takes the place of which, while gateways are replaced without a pause. No clock, no processes: told and
asked, as programs are."""

from __future__ import annotations

from skerry.serve.programs import Program

READY_S_MAX = 60.0
"""A successor that does not serve after so long never will: the one before it goes on."""
LEAVING_S_MAX = 605.0
"""For one that was succeeded, which lets what it has begun come to its end in less."""
LEAVING_MAX = 8
"""That end what they have begun at one time: beyond it the oldest is told to hurry."""


class Succession:
    def __init__(self) -> None:
        self.wanted = 0
        """How often somebody wanted others in place of those that ran."""
        self.by_predecessor: dict[Program, Program] = {}
        self.leaving: list[tuple[Program, float]] = []
        """Succeeded, oldest first, with when they are killed."""

    def all(self) -> list[Program]:
        return [*self.by_predecessor.values(), *(program for program, _ in self.leaving)]

    def is_due(self, program: Program) -> bool:
        """It was started before others were wanted, and serves, so that one can be started beside it."""
        is_old = program.listening is not None and program.turn < self.wanted
        return is_old and program.ready and program not in self.by_predecessor

    def begin(self, predecessor: Program) -> Program:
        predecessor.turn = self.wanted  # should its successor fail, it stays until somebody asks again
        successor = Program(predecessor.name, predecessor.listening)
        self.by_predecessor[predecessor] = successor
        return successor

    def left_behind(self, predecessor: Program, now_s: float) -> None:
        """Its successor serves in its place."""
        del self.by_predecessor[predecessor]
        self.leaving.append((predecessor, now_s + LEAVING_S_MAX))

    def inherits(self, dead: Program) -> Program | None:
        """Whoever was to succeed it does so now."""
        return self.by_predecessor.pop(dead, None)

    def ended(self, program: Program) -> bool:
        """Whether it had been left behind."""
        for predecessor, successor in list(self.by_predecessor.items()):
            if successor is program:
                del self.by_predecessor[predecessor]
        kept = [(each, until_s) for each, until_s in self.leaving if each is not program]
        was_leaving, self.leaving = len(kept) < len(self.leaving), kept
        return was_leaving

    def overdue(self, now_s: float) -> list[Program]:
        late = [each for each in self.by_predecessor.values() if each.pid and each.up_s(now_s) >= READY_S_MAX]
        return late + [each for each, until_s in self.leaving if until_s <= now_s]

    def due_s(self, now_s: float) -> list[float]:
        """Seconds until one of them is looked at."""
        return [until_s - now_s for _, until_s in self.leaving]
