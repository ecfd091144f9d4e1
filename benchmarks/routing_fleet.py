"""Simulated replicas behind one policy: the engine of `simulator`, and the books that the gateway keeps of replicas."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from routing_traces import BLOCK_TOKENS, Session, Turn

from skerry.engines.simulator.core import NEVER, Engine
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.work import Work
from skerry.gateway.routing.contract import Ask, Candidate, Choice, Policy
from skerry.gateway.routing.fairness import FairQueue
from skerry.gateway.routing.spans import thinned, tokens_of

HELD_MAX: Final = 1_000_000
KEPT: Final = 0.9
"""Of the time for each token of answers, as it was observed, from one answer to the next."""


class Result(NamedTuple):
    hit_ratio: float
    ttft_p50_s: float
    ttft_p99_s: float
    imbalance: float
    """Requests of the busiest replica beside the mean."""
    latency_s: float
    """Mean, to the last token."""
    requests: int
    pick_us: float
    """Real time of `pick` and `routed` together, on average."""


class _Coming(NamedTuple):
    session: int
    name: str
    number: int
    turn: Turn
    came_s: float


@dataclass(slots=True)
class _Flight:
    came_s: float
    ask: Ask
    choice: Choice
    replica: int
    session: int
    turn: int
    sent_s: float
    first_s: float = 0.0


@dataclass
class Fleet:
    """`known`: whether the sizes of replicas' caches are, as from an engine's metrics. `fine`: a peer's policy, which
    sees all of an engine's blocks."""

    policy: Policy
    replicas: int
    profile: Profile
    known: bool = True
    fine: bool = False
    speeds: Sequence[float] = ()
    """Slowness of each replica; empty: alike."""
    per_replica: int = 0
    """Requests that each is given at once; more are held as the gateway holds them. 0: no limit."""
    _engines: list[Engine] = field(default_factory=list[Engine])
    _flights: dict[str, _Flight] = field(default_factory=dict[str, _Flight])

    def run(self, sessions: Sequence[Session]) -> Result:
        profile = self.profile
        self._engines = [Engine(profile) for _ in range(self.replicas)]
        for engine, slowness in zip(self._engines, self.speeds, strict=False):
            engine.slowness = slowness
        blocks = profile.blocks if self.known else 0
        self._shown = [Candidate(f"r{at}", cache_blocks=blocks) for at in range(self.replicas)]
        self._held = FairQueue[_Coming](HELD_MAX)
        self.ttfts_of: dict[str, list[float]] = {}
        self._ttfts: list[float] = []
        self._latencies: list[float] = []
        self._counts = [0] * self.replicas
        self._pick_s = 0.0
        events: list[tuple[float, int, int]] = []
        """(when, session or -1 for an engine, turn or which engine)."""
        for number, session in enumerate(sessions):
            heapq.heappush(events, (session.at_s, number, 0))
        due = [NEVER] * self.replicas
        while events:
            now_s, session, number = heapq.heappop(events)
            if session >= 0:
                name, turn = sessions[session].name, sessions[session].turns[number]
                self._held.put(_Coming(session, name, number, turn, now_s), name, cost=turn.prompt)
                touched = self._serve(now_s)
            elif due[number] == now_s:
                due[number] = NEVER
                touched = [number]
            else:
                continue  # it has been asked since
            for at in touched:  # who ends makes room for others, so that more are touched
                for ended, then in self._settle(at, now_s):
                    turns = sessions[ended.session].turns
                    if then < len(turns):
                        heapq.heappush(events, (now_s + turns[then - 1].then_s, ended.session, then))
                touched += self._serve(now_s)
            for at in set(touched):
                next_s = self._engines[at].next_event()
                if next_s < NEVER and next_s != due[at]:
                    due[at] = next_s
                    heapq.heappush(events, (next_s, -1, at))
        return self._result()

    def _serve(self, now_s: float) -> list[int]:
        """Those who wait, as far as there is room; where they went."""
        touched: list[int] = []
        while (free := self._free()) and (popped := self._held.pop()) is not None:
            touched.append(self._send(popped[0], free, now_s))
        return touched

    def _free(self) -> list[int]:
        limit = self.per_replica
        return [at for at, each in enumerate(self._shown) if not limit or each.in_flight < limit]

    def _send(self, coming: _Coming, free: Sequence[int], now_s: float) -> int:
        session, name, number, turn, came_s = coming
        blocks = turn.prompt_blocks
        ask = Ask(blocks if self.fine else thinned(blocks), turn.prompt, turn.answer, session=name, client=name)
        began = time.thread_time()
        choice = self.policy.pick(ask, [self._shown[at] for at in free], now_s)
        choice = replace(choice, at=free[choice.at])
        self.policy.routed(ask, self._shown[choice.at].id, now_s)
        self._pick_s += time.thread_time() - began
        shown = self._shown[choice.at]
        shown.in_flight += 1
        shown.prefill_tokens += turn.prompt - self._matched_tokens(choice)
        self._counts[choice.at] += 1
        known = f"{session}-{number}"
        self._flights[known] = _Flight(came_s, ask, choice, choice.at, session, number, now_s)
        self._engines[choice.at].submit(Work(known, turn.prompt, turn.answer, turn.blocks), now_s)
        return choice.at

    def _matched_tokens(self, choice: Choice) -> int:
        return BLOCK_TOKENS * choice.matched_blocks if self.fine else tokens_of(choice.matched_blocks)

    def _settle(self, at: int, now_s: float) -> list[tuple[_Flight, int]]:
        """Books of what the engine tells; those that ended, each with the number of the turn after it."""
        done: list[tuple[_Flight, int]] = []
        shown = self._shown[at]
        for output in self._engines[at].advance(now_s):
            flight = self._flights[output.work.id]
            prompt = flight.ask.prompt_tokens
            if not flight.first_s:
                flight.first_s = output.at_s
                self._ttfts.append(output.at_s - flight.came_s)
                self.ttfts_of.setdefault(flight.ask.client, []).append(output.at_s - flight.came_s)
                shown.prefill_tokens -= prompt - self._matched_tokens(flight.choice)
                shown.decode_tokens += prompt
                self.policy.began(flight.ask, shown.id, output.at_s - flight.sent_s, now_s)
            if output.ended:
                del self._flights[output.work.id]
                shown.in_flight -= 1
                shown.decode_tokens -= prompt
                self._latencies.append(output.at_s - flight.came_s)
                self._held.charge(flight.ask.client, flight.ask.answer_tokens)
                if output.work.tpot_s:
                    before = shown.decode_s_per_token or output.work.tpot_s
                    shown.decode_s_per_token = before * KEPT + output.work.tpot_s * (1 - KEPT)
                self.policy.ended(flight.ask, shown.id, True, flight.first_s - flight.sent_s, now_s)
                done.append((flight, flight.turn + 1))
        return done

    def _result(self) -> Result:
        assert not self._flights
        ordered = sorted(self._ttfts)
        hits = sum(engine.counters.hit_tokens for engine in self._engines)
        queried = sum(engine.counters.queried_tokens for engine in self._engines)
        count = len(ordered)
        return Result(
            hits / queried,
            ordered[count // 2],
            ordered[min(count - 1, int(count * 0.99))],
            max(self._counts) * self.replicas / count,
            sum(self._latencies) / count,
            count,
            self._pick_s / count * 1e6,
        )
