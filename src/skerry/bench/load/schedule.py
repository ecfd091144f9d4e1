"""The schedule of a run: conversations begin by the clock or as others end, and go on turn by turn."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from skerry.bench.contract import Record, Request
from skerry.bench.data.bodies import Form
from skerry.bench.data.contract import Conversation

AHEAD = 64
"""Conversations made ready before they begin: to write a long prompt takes longer than being on time allows."""


class Talk:
    """A conversation under way."""

    __slots__ = ("answers", "at", "conversation", "first", "session", "slot")

    def __init__(self, conversation: Conversation, first: bytes, session: int, slot: bool) -> None:
        self.conversation = conversation
        self.first = first
        """The body of its first turn."""
        self.session = session
        self.slot = slot
        """It is one of the users of a closed loop: when it ends the next begins."""
        self.at = 0
        self.answers: list[str] = []


class Load:
    """`starts_s`: when conversations begin, ascending; None: as soon as fewer than `users` go on. `traced`: when their
    first turns say; a conversation that says none begins with the one before it. `in_flight_max`:
    requests at once, in an open loop too; one that is due then waits, and its latency is counted from when it was due.
    `until_s`: nothing begins after it. `requests_max`: nor after so many requests."""

    def __init__(
        self,
        conversations: Iterator[Conversation],
        form: Form,
        *,
        starts_s: Sequence[float] | None = None,
        traced: bool = False,
        users: int = 1,
        ramp_s: float = 0.0,
        in_flight_max: int | None = None,
        until_s: float | None = None,
        requests_max: int | None = None,
    ) -> None:
        self._conversations = conversations
        self._form = form
        self._starts_s = () if traced else starts_s
        self._traced = traced
        self._users = users
        self._ramp_s = ramp_s
        self._in_flight_max = in_flight_max
        self._until_s = until_s
        self._requests_max = requests_max
        self._due: list[tuple[float, int, Talk, bool]] = []
        """(when, tie, who, whether by the clock)."""
        self._by_number: dict[int, Talk] = {}
        self._sessions = 0
        self._numbers = 0
        self._exhausted = False
        self._traced_s = 0.0
        self._ahead: deque[tuple[Conversation, bytes]] = deque()
        self._begin()

    def _begin(self) -> None:
        if self._starts_s is None:
            for user in range(self._users):
                self._next(self._ramp_s * user / self._users)
        else:
            self._next_by_clock()

    def _next_by_clock(self) -> None:
        assert self._starts_s is not None
        if self._traced:
            if self._ahead or self._make():
                self._traced_s = max(self._traced_s, self._ahead[0][0].turns[0].at_s or 0.0)
            self._next(self._traced_s)
        elif self._sessions >= len(self._starts_s):
            self._exhausted = True
        else:
            self._next(self._starts_s[self._sessions])

    def _next(self, at_s: float) -> None:
        if self._exhausted or self._is_spent() or (self._until_s is not None and at_s >= self._until_s):
            return
        if not self._ahead and not self._make():
            self._exhausted = True
            return
        talk = Talk(*self._ahead.popleft(), self._sessions, self._starts_s is None)
        self._sessions += 1
        self._push(at_s, talk)

    def _push(self, at_s: float, talk: Talk) -> None:
        heapq.heappush(self._due, (at_s, talk.session, talk, self._starts_s is not None or talk.at > 0))

    def _make(self) -> bool:
        conversation = next(self._conversations, None)
        if conversation is None:
            return False
        self._ahead.append((conversation, self._form.body(conversation, 0, ())))
        return True

    def prepare(self) -> bool:
        if len(self._ahead) >= AHEAD or self._exhausted or self._is_spent():
            return False
        return self._make()

    def _is_spent(self) -> bool:
        return self._requests_max is not None and self._numbers >= self._requests_max

    # As the driver asks

    def take(self, now_s: float) -> Request | None:
        while self._due and self._due[0][0] <= now_s and not self._is_full():
            at_s, _, talk, by_clock = heapq.heappop(self._due)
            if self._starts_s is not None and talk.at == 0:
                self._next_by_clock()
            if self._is_spent() or (self._until_s is not None and at_s >= self._until_s):
                continue
            return self._request(talk, at_s if by_clock else None)
        return None

    def _is_full(self) -> bool:
        return self._in_flight_max is not None and len(self._by_number) >= self._in_flight_max

    def _request(self, talk: Talk, at_s: float | None) -> Request:
        conversation, at = talk.conversation, talk.at
        number = self._numbers
        self._numbers += 1
        self._by_number[number] = talk
        return Request(
            number,
            self._form.api,
            self._form.body(conversation, at, talk.answers) if at else talk.first,
            input_tokens=self._form.input_tokens(conversation, at),
            output_tokens=conversation.turns[at].output_tokens,
            at_s=at_s,
            session=talk.session,
            turn=at,
            scenario=conversation.scenario,
            user=conversation.user,
            headers=conversation.headers,
        )

    def due_s(self) -> float | None:
        return self._due[0][0] if self._due and not self._is_full() else None

    def ended(self, request: Request, record: Record, now_s: float) -> None:
        talk = self._by_number.pop(request.number)
        talk.at += 1
        talk.answers.append(record.text)
        turns = talk.conversation.turns
        if talk.at >= len(turns) or not record.ok:
            if talk.slot:
                self._next(now_s)
            return
        turn = turns[talk.at]
        self._push(now_s + turn.think_s if turn.at_s is None else max(now_s, turn.at_s), talk)

    def is_over(self, now_s: float) -> bool:
        return not self._due and not self._by_number
