"""One request to a service: who asks, which service, which replica, the answer passed on, what it used.

A state machine of callbacks, without a task of its own: a task costs as much as all the rest of a short request. It
goes: begun -> its body is whole -> admitted -> chosen -> sent -> answered, and back to chosen while nothing of an
answer has been written to the caller.
"""

from __future__ import annotations

import asyncio

from skerry.errors import (
    DeadlineExceeded,
    SkerryError,
    Unavailable,
)
from skerry.gateway.routing.contract import Ask, Choice
from skerry.gateway.routing.spans import tokens_of
from skerry.gateway.services.admission import Admission, Place
from skerry.gateway.services.answer import UNTIL_CLOSED, AnswerHead
from skerry.gateway.services.chunks import wrapped
from skerry.gateway.services.head import Head
from skerry.gateway.services.hedge import Hedge
from skerry.gateway.services.incoming import Line
from skerry.gateway.services.prefill import Prefill
from skerry.gateway.services.replica import Replica
from skerry.gateway.services.service import Service
from skerry.gateway.services.upstream import Upstream
from skerry.gateway.services.usage import Used, read_usage

LAST_KEPT = 8
"""Parts of an answer looked at for what it used."""
AGAIN = frozenset({500, 502, 503, 504})
"""Answers after which another replica is asked: nothing has been written to the caller yet."""
AGAIN_S = 0.25
"""Between two tries where nobody takes a connection."""
_HEDGED = Choice(at=0, why="began to answer before the first that was asked")
_NOTHING = Used(0, 0, 0, True)


class Call(Admission):
    __slots__ = (
        "_connecting",
        "_data",
        "_events",
        "_full",
        "_last",
        "_later",
        "_other",
        "_owed",
        "_retried",
        "_routed_s",
        "_tried",
        "_upstream",
        "_wrap",
        "asked",
        "chosen",
        "due_s",
        "first_s",
        "is_short",
        "plain",
        "replica",
        "seat",
        "streamed",
        "waited",
    )

    takes_slot = True

    def __init__(self, place: Place, line: Line, head: Head) -> None:
        super().__init__(place, line, head)
        self.plain = not head.v1_1
        self.seat = 0
        self.asked: Ask | None = None
        self.streamed = self.waited = self.is_short = False
        self.due_s = 0.0
        self.replica: Replica | None = None
        self.chosen: Choice | None = None
        self.first_s = 0.0
        self._wrap = self._full = False
        self._data = b""
        self._later: asyncio.TimerHandle | None = None
        self._other: Prefill | Hedge | None = None
        self._tried: list[Replica] | None = None
        self._retried = 0
        self._owed = 0
        """Tokens of its prompt that its replica was to compute, as far as the policy knew."""
        self._routed_s = 0.0
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._events = 0
        self._last: list[bytes] = []

    # Told by the caller's connection

    def on_caller_full(self, full: bool) -> None:
        self._full = full
        if self._upstream is not None:
            (self._upstream.pause if full else self._upstream.resume)()

    def cancel(self) -> None:
        """The caller has left: what is done for it is ended at once."""
        if self.over:
            return
        self.keeps = False
        self.status = 499
        if self.service is not None and self.seat:
            self.service.forget(self)
        self._done(ok=None)

    # A replica for it

    def ask(self) -> Ask:
        """The same object each time, by which policies know it again."""
        if self.asked is not None:
            return self.asked
        body, service = self.body, self.service
        assert body is not None
        assert service is not None
        asked = self.asked = Ask(
            blocks=service.blocks(body),
            prompt_tokens=body.prompt_tokens,
            answer_tokens=body.answer_tokens,
            session=self.head.session or body.user,
            adapter=body.model if body.model in service.route.adapters else "",
            client=self.client,
            ttft_s=service.route.routing.ttft or 0.0,
        )
        return asked

    def _enter(self, service: Service) -> None:
        assert self.body is not None
        self.is_short = service.is_short(self.body)
        service.enter(self)

    def _route(self, service: Service, replica: Replica, owed: int) -> None:
        """Counted at the replica, and told to the policy."""
        self._owed = owed
        self._routed_s = self._place.now_s()
        replica.candidate.prefill_tokens += owed
        if self.asked is not None:
            service.routed(self.asked, replica, self._routed_s)

    def go(self, replica: Replica, choice: Choice, prefill: Replica | None) -> None:
        service, body = self.service, self.body
        assert service is not None
        assert body is not None
        self.replica = replica
        self.chosen = choice
        if self.trace is not None:
            self.trace.tries(replica.id, choice.why, self._place.now_s())
        self._data = body.data
        owed = max(0, self.prompt_tokens - tokens_of(choice.matched_blocks))
        if prefill is not None:
            self._route(service, replica, 0)
            self._other = Prefill(self, prefill, owed, body.fields, service.route.routing.timeouts.connect)
        else:
            self._route(service, replica, owed)
            self._reach(replica)

    def prefilled(self, body: bytes | None) -> None:
        other, self._other = self._other, None
        if self.over or other is None or self.service is None or self.replica is None:
            return
        self._leave_other(self.service, other)
        if body is not None:
            self._data = body
        else:
            self._owed = other.owed
            self.replica.candidate.prefill_tokens += other.owed
        self._reach(self.replica)

    def _reach(self, replica: Replica) -> None:
        upstream = replica.take()
        if upstream is not None:
            self._send(upstream)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(replica))

    async def _connect(self, replica: Replica) -> None:
        assert self.service is not None
        try:
            upstream = await replica.connect(self.service.route.routing.timeouts.connect)
        except (OSError, TimeoutError, SkerryError) as error:
            self._connecting = None
            self._unreachable(f"cannot connect: {error!r}")
            return
        self._connecting = None
        if self.over:
            replica.back(upstream)
        else:
            self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        service = self.service
        assert service is not None
        routing = service.route.routing
        self._upstream = upstream
        self.quiet_s = self._place.now_s() + routing.timeouts.first
        upstream.send(self, self.sent(self._data))
        if routing.hedge is not None and self._other is None and not self.over:
            self._later = asyncio.get_running_loop().call_later(routing.hedge, self._hedge)

    def sent(self, data: bytes) -> bytes:
        """The request with this body, as a replica gets it."""
        passed = self.head.passed if self.trace is None else self.trace.told(self.head.passed)
        return b"%bX-Request-Id: %b\r\nX-Forwarded-For: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            *(passed, self.request_id, self._line.client.encode(), len(data), data),
        )

    def _unreachable(self, because: str) -> None:
        """Nobody took the connection, so nobody has begun: it may be tried for as long as a request may wait."""
        replica, service = self.replica, self.service
        assert replica is not None
        assert service is not None
        service.failed(replica)
        if self._another(because):
            return
        if self._place.now_s() - self.began_s >= service.route.routing.holding.wait:
            self._none_could(service, because)
            return
        self.replica = None
        self._leave(service, replica, self._owed)
        self._tried = None
        self._later = asyncio.get_running_loop().call_later(AGAIN_S, service.enter, self)

    def _none_could(self, service: Service, because: str) -> None:
        say = f"no replica of service {service.route.name} could answer; try again"
        self._refuse(Unavailable(say, because=because, retry_after_s=1), 502)

    # The same to a second one

    def _hedge(self) -> None:
        service = self.service
        self._later = None
        if self.over or self.first_s or service is None or self.replica is None:
            return
        second = service.second(self, self.replica)
        if second is not None:
            self._other = Hedge(self, second, self.sent(self._data), service.route.routing.timeouts.connect)

    def hedge_lost(self, hedge: Hedge) -> None:
        if self._other is hedge and self.service is not None:
            self._other = None
            self._leave_other(self.service, hedge)

    def hedge_won(self, hedge: Hedge, head: AnswerHead, data: bytes, over: bool) -> None:
        service, replica = self.service, self.replica
        assert service is not None
        self._other = None
        upstream, self._upstream = self._upstream, hedge.upstream
        if upstream is not None:
            upstream.abort()
        self._stop_trying()
        if self.trace is not None:
            self.trace.failed("slower than the second that was asked", self._place.now_s())
            self.trace.tries(hedge.replica.id, _HEDGED.why, hedge.began_s)
        if replica is not None:
            self._leave(service, replica, self._owed)
        elif self.seat:
            service.forget(self)
        self.replica = hedge.replica
        self.chosen = _HEDGED
        self._route(service, hedge.replica, self.prompt_tokens)
        if hedge.upstream is not None:
            hedge.upstream.hand_over(self)
        self.on_head(head, data, over)

    def _stop_trying(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def give_up(self, error: SkerryError, status: int) -> None:
        """Told by the queue."""
        self._refuse(error, status)

    # Told by the replica's connection

    def on_head(self, head: AnswerHead, data: bytes, over: bool) -> None:
        replica, service = self.replica, self.service
        assert replica is not None
        assert service is not None
        if over:
            self._upstream = None
        status = self.status = head.status
        if status in AGAIN:
            service.failed(replica)
            if self._another(f"it answered {status}"):
                return
        else:
            replica.worked()
        if self._later is not None or self._other is not None:
            self._stop_trying()
            self._drop_other()
        self.first_s = self._place.now_s()
        candidate = replica.candidate
        candidate.prefill_tokens -= self._owed
        candidate.decode_tokens += self.prompt_tokens
        if self.asked is not None:
            service.policy.began(self.asked, replica.id, self.first_s - self._routed_s, self.first_s)
        line = self._line
        length = head.length
        if length < 0 and self.plain:
            self.keeps = False  # its end is told by closing
        elif length == UNTIL_CLOSED:
            self._wrap = True
            data = wrapped(data)
        more = head.framing(plain=self.plain)
        if not self.keeps or line.is_draining:
            self.keeps = False
            more += b"Connection: close\r\n"
        if self._allowance is not None:
            more += self._allowance.headers()
        assert self.chosen is not None
        self._head_written = True
        line.write(
            b"%b%bX-Skerry-Replica: %b\r\nX-Skerry-Why: %b\r\nX-Request-Id: %b\r\n\r\n%b"
            % (head.lines, more, replica.name, self.chosen.why.encode("latin-1", "replace"), self.request_id, data)
        )
        self._last.append(data)
        if over:
            self._done(ok=True)
        else:
            self.streamed = head.is_stream
            if head.is_stream:
                self._events = data.count(b"data:")
            self.quiet_s = self.first_s + service.route.routing.timeouts.between
            if self._full and self._upstream is not None:
                self._upstream.pause()

    def on_part(self, data: bytes, over: bool) -> None:
        if over:
            self._upstream = None
        if self._wrap:
            data = wrapped(data) + (b"0\r\n\r\n" if over else b"")
        self._line.write(data)
        self._events += data.count(b"data:")
        last = self._last
        last.append(data)
        if len(last) > LAST_KEPT:
            del last[0]
        if over:
            self._done(ok=True)
        else:
            self.quiet_s = 0.0

    def on_broken(self, because: str) -> None:
        upstream, self._upstream = self._upstream, None
        replica, service = self.replica, self.service
        if self.over or replica is None or service is None:
            return
        if self._head_written:
            # Never tried again after the first byte: the caller would see tokens twice. Half an answer must not look
            # like a whole one.
            service.failed(replica)
            self.keeps = False
            self.status = 502
            self._done(ok=False)
            self._line.abort()
            return
        if upstream is not None and upstream.used > 1:
            # A kept connection that the other side had just closed: that is nobody's failure.
            self._reach(replica)
            return
        service.failed(replica)
        if not self._another(because):
            self._none_could(service, because)

    def on_full(self, full: bool) -> None:
        """The replica reads slowly. All of the body has been given to the connection: nothing to hold back."""

    def late(self, now_s: float) -> None:
        service = self.service
        assert service is not None
        if self.quiet_s == 0.0:
            self.quiet_s = now_s + service.route.routing.timeouts.between
            return
        if self._upstream is None:
            return
        upstream, self._upstream = self._upstream, None
        upstream.abort()
        if self._head_written:
            self.on_broken("silent for too long between two parts")
            return
        assert self.replica is not None
        service.failed(self.replica)
        first_s = service.route.routing.timeouts.first
        say = f"service {service.route.name} did not begin to answer in {first_s:g} s"
        self._refuse(DeadlineExceeded(say, because="first byte"), None)

    def _another(self, because: str) -> bool:
        """Ask another replica; False: no more."""
        replica, service = self.replica, self.service
        assert replica is not None
        assert service is not None
        if self.trace is not None:
            self.trace.failed(because, self._place.now_s())
        if self._retried >= service.route.routing.retries:
            return False
        if self._tried is None:
            self._tried = []
        self._tried.append(replica)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        self._retried += 1
        owed = self._owed
        if service.again(self, self._tried):
            service.counts.retries += 1
            self._leave(service, replica, owed)
            return True
        if service.route.replicas and self.status not in AGAIN:
            # Nobody else is there or free: wait for whoever comes, this one included.
            self.replica = None
            service.counts.retries += 1
            self._leave(service, replica, owed)
            service.enter(self)
            return True
        self._retried -= 1
        return False

    # Its end

    def _done(self, ok: bool | None) -> None:
        self.over = True
        self._let_go()
        service, replica = self.service, self.replica
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        if self._later is not None or self._connecting is not None or self._other is not None:
            self._stop_trying()
            self._drop_other()
        if service is not None:
            prompt_tokens = self._settle(service, ok)
            if replica is not None:
                self._leave(service, replica, self._owed, bool(ok), prompt_tokens)
        self._last.clear()
        self._line.ended(self)

    def _drop_other(self) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.cancel()
            if self.service is not None:
                self._leave_other(self.service, other)

    def _leave_other(self, service: Service, other: Prefill | Hedge) -> None:
        other.replica.candidate.prefill_tokens -= other.owed
        service.leave(other.replica)

    def _settle(self, service: Service, ok: bool | None) -> int:
        """How many tokens its prompt had, where the engine says it."""
        place = self._place
        place.left(self)
        now_s = place.now_s()
        used = read_usage(self._last, self.prompt_tokens, self._events) if self.first_s else _NOTHING
        place.meter.ended(self, service, used, now_s)
        place.journal.ended(self, service, used, now_s)
        if self.trace is not None and place.tracer is not None:
            place.tracer.ended(self, self.trace, service, used, now_s)
        service.used(self.client, used.prompt, used.completion, waited=self.waited)
        if self._is_allowed and self._allowance is not None:
            self._allowance.leave(self, used.prompt + used.completion)
        return used.prompt if used.exact else 0

    def _leave(self, service: Service, replica: Replica, owed: int, ok: bool = False, prompt_tokens: int = 0) -> None:
        """`owed`: what it was to compute there."""
        if self.first_s:
            replica.candidate.decode_tokens -= self.prompt_tokens
        else:
            replica.candidate.prefill_tokens -= owed
        if self.asked is not None:
            ttft_s = self.first_s - self._routed_s if self.first_s else None
            service.ended(self.asked, replica, ok, ttft_s, prompt_tokens, self._place.now_s())
        service.leave(replica)

    @property
    def model(self) -> str:
        """As it is declared. Where the host says which service is meant a body may say anything, which is neither
        logged nor counted."""
        service, body = self.service, self.body
        if service is None or body is None:
            return ""
        return body.model if body.model in service.names else service.route.name
