"""A service as the gateway sees it: its replicas, who is chosen, and the requests that wait for one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from skerry.errors import LimitReached, SkerryError, Unavailable
from skerry.gateway.routing.blocks import of_body, of_text
from skerry.gateway.routing.contract import Ask, Choice, Policy
from skerry.gateway.routing.fairness import PROMPT_COST, FairQueue
from skerry.gateway.services.answer import AnswerHeads
from skerry.gateway.services.body import Body
from skerry.gateway.services.meter import Counts
from skerry.gateway.services.replica import Replica
from skerry.model.service import PolicyName, Role
from skerry.model.traffic import ServiceRoute

RETRY_S = 1.0
SHORT_BYTES = 1024
"""A body that is shorter has a prompt of some two hundred tokens at most, computed anew in the time of one token."""
SHORT_TOKENS = 50
"""What one that is being answered counts for beside the prompts that are to be read: as much as `auto` has it."""
AHEAD = 1.25
"""Times what a replica answers at once, that it is given: what it has begun when another ends need not be fetched. With
none ahead an overload found 0.03 less in its caches and the last first tokens took three times as long."""
WAITING_MAX = 100_000
"""Whatever a service declares."""
_BLIND = frozenset(
    {
        PolicyName.ROUND_ROBIN,
        PolicyName.RANDOM,
        PolicyName.LEAST_LOAD,
        PolicyName.POWER_OF_TWO,
        PolicyName.SESSION,
        PolicyName.LORA,
    }
)
"""They do not look at the prompt."""
_ONLY = Choice(at=0, why="only one")
_SHORT = Choice(at=0, why="a short prompt, least ahead")


class Waiter(Protocol):
    """A request that wants a replica."""

    priority: int
    due_s: float
    """When it has waited too long."""
    seat: int
    """In the queue; 0: none."""
    waited: bool
    takes_slot: bool
    """It is answered by the model: a replica has room for so many, also where no limit is declared."""
    is_short: bool
    """Its prompt, of no adapter: no cache makes a difference."""
    client: str
    weight: float
    prompt_tokens: int

    def ask(self) -> Ask: ...
    def go(self, replica: Replica, choice: Choice, prefill: Replica | None) -> None: ...
    def give_up(self, error: SkerryError, status: int) -> None: ...


class Service:
    def __init__(
        self,
        route: ServiceRoute,
        policy: Policy,
        heads: AnswerHeads,
        streams_socket: str,
        share: Callable[[int], int] = int,
    ) -> None:
        """`share`: what this gateway has of a limit that is for all of this machine."""
        self.route = route
        self.policy = policy
        self.replicas: dict[str, Replica] = {}
        self.wanted = False
        """Somebody waits, and there is nobody to serve."""
        self.on_wanted: Callable[[Service], None] = lambda _: None
        self.counts = Counts()
        self.ejections = 0
        self.in_flight = 0
        self._heads = heads
        self._share = share
        self._streams_socket = streams_socket
        self._open: list[Replica] = []
        """Those that may be chosen."""
        self._leaving: list[Replica] = []
        """No longer in the routes, and not done: control stops nobody who has something to do."""
        self._queue: FairQueue[Waiter] = FairQueue(WAITING_MAX)
        self._seats: dict[int, Waiter] = {}
        self._auto = route.routing.policy is PolicyName.AUTO
        self._turn = 0
        self._blind = route.routing.policy in _BLIND
        self._had = False
        """There were replicas: those that are lost are replaced, which whoever comes waits for."""
        self._loop = asyncio.get_running_loop()
        self.learn(route)

    @property
    def waiting(self) -> int:
        return len(self._seats)

    def at_replicas(self) -> dict[str, int]:
        """How many requests are at each, those that are leaving included."""
        self._leaving = [each for each in self._leaving if each.candidate.in_flight]
        found: dict[str, int] = {}
        for replica in [*self.replicas.values(), *self._leaving]:
            found[replica.id] = found.get(replica.id, 0) + replica.candidate.in_flight
        return found

    def seen(self) -> dict[str, float]:
        """What is watched, over all replicas: those whose engines do not tell are taken to be like those that do."""
        found: dict[str, float] = {}
        for key in self.route.watched:
            told = [each.seen[key] for each in self.replicas.values() if key in each.seen]
            if told:
                found[key] = sum(told) / len(told) * len(self.replicas)
        return found

    def cache_use(self) -> float | None:
        told = [each.cache_use for each in self.replicas.values() if each.cache_use is not None]
        return sum(told) / len(told) if told else None

    # What control says

    def learn(self, route: ServiceRoute) -> None:
        self.route = route
        self.names = frozenset({route.name, *route.models, *route.adapters})
        """What `model` may be."""
        per_replica = route.routing.holding.per_replica
        self._per_replica = self._share(per_replica) if per_replica else 0
        """Declared: nobody gets more, and who waits too long is refused."""
        self._slots = self._per_replica or (self._share(math.ceil(route.slots * AHEAD)) if route.slots else 0)
        """Above which models' requests wait here, where the queue is fair, rather than in the engine's."""
        self._holds_max = self._share(min(route.routing.holding.limit, WAITING_MAX))
        told = {each.id: each for each in route.replicas}
        for gone, replica in list(self.replicas.items()):
            if gone in told and told[gone].url == replica.route.url:
                continue
            self.replicas.pop(gone).close()
            self.policy.gone(gone)
            if replica.candidate.in_flight:
                self._leaving.append(replica)
        for replica_id, each in told.items():
            replica = self.replicas.get(replica_id)
            if replica is None:
                self.replicas[replica_id] = Replica(each, self._heads, self._streams_socket)
            else:
                replica.route = each
                replica.candidate.weight = each.weight
                replica.candidate.role = each.role.value
        self._had = self._had or bool(self.replicas)
        self._reopen()
        if route.off:
            for waiter in self._take_all():
                waiter.give_up(self._is_off(), 503)

    def adopt(self, before: Service) -> None:
        """Who waited there waits here, and what was counted goes on: only the policy is another."""
        self.counts, self.ejections = before.counts, before.ejections
        self._leaving = [*before._leaving, *before.replicas.values()]
        for waiter in before._take_all():
            self.enter(waiter)
        for replica in before.replicas.values():
            replica.close()

    def close(self) -> None:
        for replica in self.replicas.values():
            replica.close()
        for waiter in self._take_all():
            waiter.give_up(Unavailable(f"service {self.route.name} was deleted"), 503)

    def _reopen(self) -> None:
        apart = self.route.routing.policy is PolicyName.DISAGGREGATED
        self._open = [
            each
            for each in self.replicas.values()
            if not each.ejected_until_s and each.route.weight > 0 and (apart or each.route.role is not Role.PREFILL)
        ]
        self._is_even = len({each.route.weight for each in self._open}) <= 1
        self.serve()

    # Who is chosen

    def enter(self, waiter: Waiter) -> None:
        """It is given a replica now, or later, or told why not."""
        limit = self._slots if waiter.takes_slot else self._per_replica
        if not (self._seats and limit) and self._choose(waiter, (), limit):
            return
        self._hold(waiter)

    def again(self, waiter: Waiter, but: Sequence[Replica]) -> bool:
        """Another than those, now; False: there is none."""
        return self._choose(waiter, but, self._per_replica)

    def _free(self, limit: int, but: Sequence[Replica] = ()) -> list[Replica]:
        return [each for each in self._open if each.is_free(limit) and each not in but]

    def _choose(self, waiter: Waiter, but: Sequence[Replica], limit: int) -> bool:
        free = self._free(limit, but)
        if not free:
            return False
        if len(free) == 1:
            replica, choice = free[0], _ONLY
        elif self._auto and waiter.is_short and self._is_even:
            replica, choice = self._least_ahead(free), _SHORT
        else:
            choice = self.policy.pick(waiter.ask(), [each.candidate for each in free], self._loop.time())
            replica = free[choice.at]
        self._enter_at(replica)
        prefill = free[choice.prefill_at] if choice.prefill_at >= 0 else None
        if prefill is replica:
            prefill = None
        if prefill is not None:
            self._enter_at(prefill)
        waiter.go(replica, choice, prefill)
        return True

    def _least_ahead(self, free: list[Replica]) -> Replica:
        """Where `auto` sends a prompt too short for a cache to matter: of its costs only what is ahead is left, and
        asking it would take as long as all the rest of a short request."""
        self._turn += 1
        turn, count = self._turn, len(free)
        best, least = free[turn % count], float("inf")
        for at in range(count):
            replica = free[(turn + at) % count]
            candidate = replica.candidate
            ahead = candidate.prefill_tokens + SHORT_TOKENS * max(
                candidate.in_flight, candidate.waiting + candidate.running
            )
            if ahead < least:
                best, least = replica, ahead
        return best

    def second(self, waiter: Waiter, first: Replica) -> Replica | None:
        """Another for the same request at once, if there is one that has room."""
        free = self._free(self._slots, (first,))
        if not free:
            return None
        replica = free[self.policy.pick(waiter.ask(), [each.candidate for each in free], self._loop.time()).at]
        self._enter_at(replica)
        return replica

    def _enter_at(self, replica: Replica) -> None:
        replica.candidate.in_flight += 1
        self.in_flight += 1

    def leave(self, replica: Replica) -> None:
        """A request is over there."""
        replica.candidate.in_flight -= 1
        self.in_flight -= 1
        if self._seats:
            self.serve()

    # Who waits

    def _hold(self, waiter: Waiter) -> None:
        holding = self.route.routing.holding
        name = self.route.name
        if self.route.off:
            waiter.give_up(self._is_off(), 503)
            return
        if not self.replicas and not self.route.wakes and not self._had:
            say = f"service {name} has no replica that can serve; try again"
            waiter.give_up(Unavailable(say, retry_after_s=RETRY_S), 503)
            return
        if len(self._seats) >= self._holds_max:
            if self._choose(waiter, (), self._per_replica):
                return  # nobody is refused because of what an engine's options say: it has a queue of its own
            say = f"service {name} is full, and {holding.limit} requests wait already; try again"
            waiter.give_up(LimitReached(say, retry_after_s=RETRY_S), 429)
            return
        waiter.due_s = self._loop.time() + holding.wait
        client = waiter.client
        weight = self.route.routing.weights.get(client, waiter.weight)
        waiter.seat = self._queue.put(waiter, client, weight, waiter.priority, waiter.prompt_tokens)
        self._seats[waiter.seat] = waiter
        if not self.replicas and not self.wanted:
            self.wanted = True
            self.on_wanted(self)

    def _is_off(self) -> Unavailable:
        name = self.route.name
        return Unavailable(
            f"service {name} is scaled to 0; whoever runs it starts it with: skerry service scale {name} 1"
        )

    def serve(self) -> None:
        """Those who wait, as far as there is room: by priority, then whoever got least."""
        while self._seats and self._free(self._slots):
            popped = self._queue.pop()
            if popped is None:
                break
            waiter, _ = popped
            del self._seats[waiter.seat]
            waiter.seat = 0
            waiter.waited = True
            self._choose(waiter, (), self._slots)
        self.wanted = bool(self._seats) and not self.replicas

    def used(self, client: str, prompt_tokens: int, tokens: int, *, waited: bool) -> None:
        """What it got counts for who is next; the prompt of one that waited has been counted."""
        if self._slots or self._seats:
            self._queue.charge(client, tokens if waited else tokens + prompt_tokens * PROMPT_COST / 2)

    def forget(self, waiter: Waiter) -> None:
        """It does not wait any more."""
        if self._seats.pop(waiter.seat, None) is not None:
            self._queue.remove(waiter.seat)
            waiter.seat = 0

    def _take_all(self) -> list[Waiter]:
        waiting = list(self._seats.values())
        for waiter in waiting:
            self.forget(waiter)
        return waiting

    def look(self, now_s: float) -> None:
        """Called often: who has waited too long is told, who was left out comes back."""
        for waiter in [each for each in self._seats.values() if each.due_s <= now_s]:
            self.forget(waiter)
            if self._choose(waiter, (), self._per_replica):
                continue
            wait_s = self.route.routing.holding.wait
            say = f"no replica of service {self.route.name} was free in {wait_s:g} s; try again"
            waiter.give_up(Unavailable(say, retry_after_s=RETRY_S), 503)
        back = [each for each in self.replicas.values() if 0 < each.ejected_until_s <= now_s]
        for replica in back:
            replica.ejected_until_s = 0.0
            replica.half_open = True
        if back:
            self._reopen()

    # What policies are told

    def routed(self, ask: Ask, replica: Replica, now_s: float) -> None:
        self.policy.routed(ask, replica.id, now_s)
        if replica.told is not None:
            replica.told.sent(ask)

    def ended(
        self, ask: Ask, replica: Replica, ok: bool, ttft_s: float | None, prompt_tokens: int, now_s: float
    ) -> None:
        """`prompt_tokens`: as the engine counted; 0: not known."""
        self.policy.ended(ask, replica.id, ok, ttft_s, now_s)
        if replica.told is not None and replica.told.ended(ask, prompt_tokens) and not replica.gone:
            self.policy.stored(replica.id, ask)

    # How replicas do

    @property
    def looks_at_prompts(self) -> bool:
        return not self._blind

    def blocks(self, body: Body) -> Sequence[int]:
        """Of the prompt, for policies that look at it, and where it is long enough to be worth looking for."""
        if self._blind or len(body.data) < SHORT_BYTES:
            return ()
        return of_text(of_body(body.fields), body.model)

    def is_short(self, body: Body) -> bool:
        return len(body.data) < SHORT_BYTES and body.model not in self.route.adapters

    def failed(self, replica: Replica) -> None:
        ejection = self.route.routing.ejection
        if replica.gone or replica.ejected_until_s:
            return
        if replica.failed(ejection, self._loop.time(), self._one_more_may_go):
            self.ejections += 1
            self._reopen()

    def _one_more_may_go(self) -> bool:
        out = sum(1 for each in self.replicas.values() if each.ejected_until_s)
        return out + 1 <= self.route.routing.ejection.share_max * len(self.replicas)
