"""Whether a request may go on: whose token it shows, which service it means, and how much of it there is left."""

from __future__ import annotations

from typing import Protocol

from skerry.errors import Forbidden, NotFound, SkerryError, Unauthenticated
from skerry.gateway.services.access import Entrants, Then
from skerry.gateway.services.allowance import ANSWER_TOKENS, Allowance, Allowances
from skerry.gateway.services.body import Body
from skerry.gateway.services.head import Head, Kind
from skerry.gateway.services.incoming import Incoming, Line
from skerry.gateway.services.journal import Journal
from skerry.gateway.services.meter import Meter
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.service import Service
from skerry.gateway.services.trace import Trace
from skerry.gateway.services.tracer import Tracer
from skerry.model.token import Scope
from skerry.model.traffic import Access

HELD_BYTES_MAX = 1024**3
"""Of bodies that are not whole, or came in more than one piece, over all requests."""
MET_BYTES = 256 * 1024
"""A body that is longer, or of unknown length, is not waited for before it is asked whose it is."""


class Place(Protocol):
    """What all calls share."""

    registry: Registry
    entrants: Entrants
    allowances: Allowances
    meter: Meter
    journal: Journal
    tracer: Tracer | None
    held_bytes: int
    nothing: str
    """What is said where there is nothing."""

    def service_for(self, head: Head, body: Body, access: Access | None) -> Service: ...
    def answer_itself(self, call: Admission, access: Access | None) -> None:
        """What is not for a replica: models, metrics, the page."""
        ...

    def next_id(self) -> bytes: ...
    def now_s(self) -> float: ...
    def came(self, call: Admission) -> None: ...
    def left(self, call: Admission) -> None: ...


class Admission(Incoming):
    __slots__ = (
        "_allowance",
        "_held",
        "_is_allowed",
        "_place",
        "access",
        "body",
        "client",
        "priority",
        "prompt_tokens",
        "quiet_s",
        "reserved",
        "service",
        "trace",
        "weight",
    )

    def __init__(self, place: Place, line: Line, head: Head) -> None:
        super().__init__(line, head)
        self._place = place
        self._allowance: Allowance | None = None
        self._held = 0
        self._is_allowed = False
        self.access: Access | None = None
        self.body: Body | None = None
        self.client = ""
        self.priority = 50
        self.prompt_tokens = self.reserved = 0
        self.quiet_s = 0.0
        """When it has been silent for too long; 0: something came since that was last looked at."""
        self.service: Service | None = None
        self.trace: Trace | None = None
        self.weight = 1.0

    def _now_s(self) -> float:
        return self._place.now_s()

    def late(self, now_s: float) -> None:
        """It has been silent until `quiet_s`; told by whoever looks at all calls."""
        raise NotImplementedError

    def _more_lines(self) -> bytes:
        return b"" if self._allowance is None else self._allowance.headers()

    def _keep(self, count: int) -> bool:
        self._held += count
        self._place.held_bytes += count
        return self._place.held_bytes <= HELD_BYTES_MAX

    def _let_go(self) -> None:
        """Of its body: it is over."""
        if self._held:
            self._place.held_bytes -= self._held
            self._held = 0

    def _enter(self, service: Service) -> None:
        """It may have a replica of it."""
        raise NotImplementedError

    def begin(self) -> None:
        super().begin()
        head = self.head
        if not self.complete and not self.over and (head.expects or not 0 <= head.length <= MET_BYTES):
            self._meet()

    def _meet(self) -> None:
        """Its body is not read where its head says that it is for nothing: strangers could fill the gateway with it."""
        head, place = self.head, self._place
        if head.kind is Kind.NONE:
            self._refuse(NotFound(place.nothing), None)
        elif head.token is not None:
            self._ask_whose(head.token, self._met)
        elif head.kind is Kind.INFER and not place.registry.is_public:
            self._refuse(Unauthenticated("send a key or a token as Authorization: Bearer sk_… or st_…"), None)
        else:
            self._met(None, None)

    def _met(self, _: Access | None, error: SkerryError | None) -> None:
        if self.over or self.complete:
            return
        if error is not None:
            self._refuse(error, None)
        elif self.head.expects:
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _run(self) -> None:
        head, place = self.head, self._place
        self.request_id = head.request_id or place.next_id()
        if head.kind is Kind.NONE:
            self._refuse(NotFound(place.nothing), None)
            return
        if head.token is None:
            self._admitted(None)
            return
        self._ask_whose(head.token, self._told)

    def _ask_whose(self, token: str, then: Then) -> None:
        """Told at once where it is known."""
        entrants = self._place.entrants
        entry = self.head.entry
        if entry is None:
            entry = self.head.entry = entrants.entry(token)
        access = entrants.now(entry, self.began_s)
        if access is not None:
            then(access, None)
        else:
            entrants.then(entry, then)

    def _told(self, access: Access | None, error: SkerryError | None) -> None:
        if self.over:
            return
        if error is not None:
            self._refuse(error, None)
        else:
            self._admitted(access)

    def _admitted(self, access: Access | None) -> None:
        self.access = access
        try:
            if access is not None and access.expires_at_s is not None and self._place.entrants.expired(access):
                raise Unauthenticated("this token has expired; ask for another")
            kind = self.head.kind
            if kind is not Kind.INFER:
                self._place.answer_itself(self, access)
                return
            parts = self._parts
            data = b"" if not parts else parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = None
            body = self.body = Body(data, self.head.content_type)
            service = self._place.service_for(self.head, body, access)
            check_access(service, access, Scope.INFER)
        except SkerryError as error:
            self._refuse(error, None)
            return
        self._place.came(self)
        self.service = service
        if self._place.tracer is not None:
            self.trace = self._place.tracer.begin(self.head)
        self.prompt_tokens = body.prompt_tokens
        if access is not None:
            self.priority = access.priority
            self.client = access.client
            self.weight = access.weight
            allowance = self._place.allowances.of(access)
            if allowance is not None:
                self._allowance = allowance
                allowance.enter(self)
                return
        self._enter(service)

    @property
    def tokens_expected(self) -> int:
        body = self.body
        return 0 if body is None else body.prompt_tokens + (body.answer_tokens or ANSWER_TOKENS)

    def allowed(self) -> None:
        """Told by what its token may."""
        self._is_allowed = True
        assert self.service is not None
        self._enter(self.service)

    def refused(self, error: SkerryError) -> None:
        self._refuse(error, None)


def check_access(service: Service, access: Access | None, scope: Scope) -> None:
    """Raises Unauthenticated, Forbidden."""
    route = service.route
    if access is None:
        if not route.public:
            raise Unauthenticated(
                f"service {route.name} is private: send a key or a token as Authorization: Bearer sk_… or st_…"
            )
        return
    if access.project != route.project:
        if route.public:
            return
        raise NotFound(f"there is no service {route.name}", field="model")
    if access.services and route.name not in access.services and not route.public:
        raise Forbidden(f"this token is not for service {route.name}")
    if scope not in access.scopes:
        raise Forbidden(f"this token may not do this: it has no scope {scope.value}")
