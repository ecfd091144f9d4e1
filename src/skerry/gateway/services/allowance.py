"""How much whoever shows a token may still ask for. Control has the whole of it and gives gateways parts, which they
spend by themselves, so that the limits hold over all of them; a part that is not there is never spent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from skerry.errors import LimitReached, SkerryError, Unavailable
from skerry.model.token import Limits
from skerry.model.traffic import Access, Take, Taken

ANSWER_TOKENS = 512
"""Set aside for an answer that says no most; what it really took is settled at its end."""
SPARE_SHARE = 60
"""A part is a second's worth of what a minute has, or as much as is needed now."""
MINUTE_S = 60.0
KEPT_S = 30.0
"""Half as long as control keeps a part of a budget for who does not say that it is still there."""
ALLOWANCES_MAX = 10_000


class Asker(Protocol):
    """A request that needs some."""

    over: bool
    reserved: int
    """Tokens set aside for it."""

    @property
    def tokens_expected(self) -> int: ...
    def allowed(self) -> None: ...
    def refused(self, error: SkerryError) -> None: ...


class Control(Protocol):
    async def take(self, take: Take) -> Taken: ...


class Allowance:
    """Of one token."""

    def __init__(self, access: Access, gateway: str, control: Control, now_s: Callable[[], float]) -> None:
        self.learn(access.limits)
        self._id = access.id
        self._gateway = gateway
        self._control = control
        self._now_s = now_s
        self._requests = self._tokens = 0
        self._void_s = self._held_until_s = 0.0
        """When what is left of a part is void, and when control takes back what we hold of the concurrency."""
        self._concurrency = self._running = 0
        self._reserved = self._untold = 0
        """Tokens set aside for requests under way, and used ones that control does not know of yet."""
        self._told_aside = 0
        self._told_aside_s = 0.0
        """What control keeps of the budget for us, and since when."""
        self._told = Taken(requests=0, tokens=0, concurrency=0, for_s=0)
        self._told_s = -MINUTE_S
        self._share_from_s = 0.0
        """When a minute begins of which we take our share, while control is down."""
        self._waiting: deque[Asker] = deque()
        self._asking: asyncio.Task[None] | None = None

    def learn(self, limits: Limits) -> None:
        self.limits = limits
        self.counts_requests = limits.requests_per_minute is not None or limits.concurrency is not None
        self.counts_tokens = limits.tokens_per_minute is not None or limits.budget_tokens is not None

    # Asked by requests

    def enter(self, asker: Asker) -> None:
        """`allowed` or `refused` is called now, or when control has answered."""
        if not self._waiting and self._spend(asker):
            asker.allowed()
            return
        self._waiting.append(asker)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    def leave(self, asker: Asker, tokens: int) -> None:
        """It is over, and took so many tokens."""
        self._running -= 1
        if self.counts_tokens:
            self._tokens += asker.reserved - tokens
            self._reserved -= asker.reserved
            self._untold += tokens

    def heard(self, tokens: int) -> None:
        """Control knows of so many that were used."""
        self._untold = max(0, self._untold - tokens)

    def headers(self) -> bytes:
        """As OpenAI names them."""
        limits, told = self.limits, self._told
        resets = b"%ds" % max(0, round(told.resets_s - (self._now_s() - self._told_s)))
        lines = b""
        for name, limit, left in (
            (b"requests", limits.requests_per_minute, self._requests + told.requests_left),
            (b"tokens", limits.tokens_per_minute, self._tokens + told.tokens_left),
        ):
            if limit is not None:
                lines += b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
                    *(name, limit, name, max(0, left), name, resets),
                )
        return lines

    # Parts

    def _spend(self, asker: Asker) -> bool:
        limits = self.limits
        if self._now_s() >= self._void_s:
            self._requests, self._tokens = 0, min(0, self._tokens)
        if self._now_s() >= self._held_until_s:
            self._concurrency = 0
        tokens = asker.tokens_expected if self.counts_tokens else 0
        if limits.requests_per_minute is not None and self._requests < 1:
            return False
        if tokens and self._tokens < tokens:
            return False
        if limits.concurrency is not None and self._running >= self._concurrency:
            return False
        self._requests -= 1
        self._tokens -= tokens
        self._running += 1
        self._reserved += tokens
        asker.reserved = tokens
        return True

    def _aside(self) -> int:
        """What nobody else may have of the budget."""
        if self.limits.budget_tokens is None:
            return 0
        unspent = max(0, self._tokens) if self._now_s() < self._void_s else 0
        return self._reserved + self._untold + unspent

    def _is_kept(self, aside: int) -> None:
        self._told_aside, self._told_aside_s = aside, self._now_s()

    async def _ask(self) -> None:
        down: SkerryError | None = None
        try:
            wish = self._wish()
            taken = await self._control.take(wish)
            self._is_kept(wish.set_aside + taken.tokens)
            self._learn(taken)
        except Unavailable as error:
            down = error
            self._share()
        finally:
            self._asking = None
        waiting, self._waiting = self._waiting, deque()
        for asker in waiting:
            if asker.over:
                continue
            if self._spend(asker):
                asker.allowed()
            else:
                asker.refused(self._why(asker, down))

    def _wish(self) -> Take:
        limits = self.limits
        count = len(self._waiting)
        needed = sum(each.tokens_expected for each in self._waiting) - min(0, self._tokens)
        wants_requests = limits.requests_per_minute is not None
        per_minute = limits.tokens_per_minute or 0
        return Take(
            gateway=self._gateway,
            client=self._id,
            requests=max(count, (limits.requests_per_minute or 0) // SPARE_SHARE) if wants_requests else 0,
            tokens=max(needed, per_minute // SPARE_SHARE) if self.counts_tokens else 0,
            concurrency=self._running + count if limits.concurrency is not None else 0,
            set_aside=self._aside(),
        )

    def _learn(self, taken: Taken) -> None:
        now_s = self._now_s()
        if now_s >= self._void_s:
            self._requests, self._tokens = 0, min(0, self._tokens)
        self._told, self._told_s = taken, now_s
        self._requests += taken.requests
        self._tokens += taken.tokens
        self._concurrency = taken.concurrency
        self._void_s = self._held_until_s = now_s + taken.for_s
        self._share_from_s = now_s + max(taken.for_s, taken.resets_s)

    def _share(self) -> None:
        """Control is down: from the next minute on we have our part of what all have, and of a budget nothing more."""
        now_s = self._now_s()
        limits, gateways = self.limits, max(1, self._told.gateways)
        if limits.concurrency is not None:
            self._concurrency = max(self._concurrency, limits.concurrency // gateways)
            self._held_until_s = now_s + MINUTE_S
        if now_s < self._share_from_s:
            return
        self._share_from_s = self._void_s = now_s + MINUTE_S
        self._requests = (limits.requests_per_minute or 0) // gateways
        if limits.budget_tokens is None:
            self._tokens = (limits.tokens_per_minute or 0) // gateways + min(0, self._tokens)

    def _why(self, asker: Asker, down: SkerryError | None) -> SkerryError:
        limits, told = self.limits, self._told
        if down is not None:
            return down
        spent = LimitReached("the budget of this token is spent; ask its owner for more", field="budget")
        if told.spent and asker.tokens_expected:
            return spent
        if told.budget_left is not None and told.budget_left + max(0, self._tokens) < asker.tokens_expected:
            say = (
                "less is left of this token's budget than this request may use; lower max_tokens, or ask for more of it"
            )
            return LimitReached(say, field="budget")
        wait_s = max(1.0, told.resets_s)
        if limits.concurrency is not None and self._running >= self._concurrency:
            say = f"this token may have {limits.concurrency} requests at once, and has as many; try again"
            return LimitReached(say, retry_after_s=1.0)
        if limits.requests_per_minute is not None and self._requests < 1:
            say = (
                f"this token may ask {limits.requests_per_minute} times a minute, and has; try again in {wait_s:.0f} s"
            )
            return LimitReached(say, retry_after_s=wait_s)
        if limits.tokens_per_minute is None:
            return spent
        say = f"this token may use {limits.tokens_per_minute} tokens a minute; try again in {wait_s:.0f} s"
        return LimitReached(say, retry_after_s=wait_s)

    def look(self) -> None:
        """Give back what is held of the concurrency or of the budget and not used, so that other gateways may have it,
        and say that the rest is still held before control forgets it."""
        limits, aside = self.limits, self._aside()
        if self._asking is not None or (limits.concurrency is None and limits.budget_tokens is None):
            return
        is_late = self._running > 0 and self._now_s() > self._held_until_s - self._told.for_s / 2
        holds_more = limits.concurrency is not None and (self._concurrency > self._running or is_late)
        keeps_more = self._told_aside > aside or (aside > 0 and self._now_s() > self._told_aside_s + KEPT_S)
        if holds_more or keeps_more:
            self._asking = asyncio.get_running_loop().create_task(self._hold_less())

    async def _hold_less(self) -> None:
        self._concurrency = min(self._concurrency, self._running)
        take = Take(gateway=self._gateway, client=self._id, concurrency=self._running, set_aside=self._aside())
        try:
            taken = await self._control.take(take)
            self._is_kept(take.set_aside)
            self._concurrency = taken.concurrency
            self._held_until_s = self._now_s() + taken.for_s
        except Unavailable:
            pass
        finally:
            self._asking = None
        if self._waiting:
            self._asking = asyncio.get_running_loop().create_task(self._ask())


class Allowances:
    def __init__(self, gateway: str, control: Control, now_s: Callable[[], float]) -> None:
        self._gateway = gateway
        self._control = control
        self._now_s = now_s
        self._by_id: dict[str, tuple[Access, Allowance | None]] = {}

    def heard(self, spent: dict[str, int]) -> None:
        """Control knows of these tokens, by id of whose they are."""
        for client, tokens in spent.items():
            allowance = self._by_id.get(client, (None, None))[1]
            if allowance is not None:
                allowance.heard(tokens)

    def of(self, access: Access) -> Allowance | None:
        """None: there is no limit."""
        known = self._by_id.get(access.id)
        if known is not None and known[0] is access:
            return known[1]
        allowance = None if known is None else known[1]
        if access.limits == _NONE:
            allowance = None
        elif allowance is None:
            allowance = Allowance(access, self._gateway, self._control, self._now_s)
        else:
            allowance.learn(access.limits)
        if known is None and len(self._by_id) >= ALLOWANCES_MAX:
            del self._by_id[next(iter(self._by_id))]
        self._by_id[access.id] = (access, allowance)
        return allowance

    def look(self) -> None:
        for _, allowance in self._by_id.values():
            if allowance is not None:
                allowance.look()


_NONE = Limits()
