"""What all requests to services share: who may come in, which services there are, what is counted."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from pathlib import Path

from skerry.errors import Forbidden, NotFound, Unauthenticated
from skerry.gateway.request import Request
from skerry.gateway.services.access import Entrants
from skerry.gateway.services.admission import Admission
from skerry.gateway.services.allowance import Allowances
from skerry.gateway.services.body import Body
from skerry.gateway.services.call import Call
from skerry.gateway.services.head import Head, Kind, kind_of
from skerry.gateway.services.incoming import Line
from skerry.gateway.services.journal import Journal
from skerry.gateway.services.meter import Meter
from skerry.gateway.services.metrics import exposition
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.service import Service
from skerry.gateway.services.tracer import Tracer
from skerry.gateway.siblings import Siblings
from skerry.model.token import Scope
from skerry.model.traffic import Access

_PAGE = Path(__file__).with_name("chat.html")
_PAGE_ONLY = (
    b"\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    b"\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"
)
HEADS_MAX = 4096
HEAD_BYTES_MAX = 4096
"""Of one that is remembered; what is longer has something in it that does not come again."""


class Services:
    def __init__(
        self,
        registry: Registry,
        entrants: Entrants,
        allowances: Allowances,
        meter: Meter,
        journal: Journal,
        now_s: Callable[[], float],
        connections: Callable[[], int],
        domain: str,
        siblings: Siblings,
        tracer: Tracer | None,
    ) -> None:
        self.registry = registry
        self.entrants = entrants
        self.allowances = allowances
        self.meter = meter
        self.journal = journal
        self.tracer = tracer
        self._connections = connections
        self._siblings = siblings
        self._gathering: set[asyncio.Task[None]] = set()
        self.now_s = now_s
        self.nothing = f"there is nothing here; sandboxes are at NAME--PORT.{domain}, services at NAME.{domain}"
        self.held_bytes = 0
        self.calls: set[Admission] = set()
        self.heads: dict[bytes, Head] = {}
        self._prefix = secrets.token_hex(6).encode()
        self._count = 0

    # Asked by connections

    def is_asked(self, request: Request) -> bool:
        """Whether it is something that models do, which is metered and routed as such by whatever name it comes."""
        return kind_of(request.method, request.target.partition(b"?")[0]) is Kind.INFER

    def call(self, line: Line, request: Request, label: str | None, raw: bytes | None) -> Call:
        """For a head that has not come before."""
        head = Head(request, label)
        if (
            raw is not None
            and len(raw) <= HEAD_BYTES_MAX
            and head.length >= 0
            and head.request_id is None  # nor a trace: that head will not come again
            and not head.trace
            and (label is None or head.kind is Kind.INFER)  # else there may be a service of that name tomorrow
        ):
            if len(self.heads) >= HEADS_MAX:
                self.heads.clear()
            self.heads[raw] = head
        call = Call(self, line, head)
        if head.length < 0:
            request.take_body(lambda part: call.on_whole() if part is None else None)
        return call

    # Asked by calls

    def next_id(self) -> bytes:
        self._count += 1
        return b"req-%b%07x" % (self._prefix, self._count)

    def came(self, call: Admission) -> None:
        self.calls.add(call)

    def left(self, call: Admission) -> None:
        self.calls.discard(call)

    def service_for(self, head: Head, body: Body, access: Access | None) -> Service:
        if head.label is not None:
            found = self.registry.named(head.label, access)
            if found is not None:
                return found
        return self.registry.modelled(body.model, access)

    def answer_itself(self, call: Admission, access: Access | None) -> None:
        """Raises NotFound, Unauthenticated, Forbidden."""
        if call.head.kind is Kind.MODELS:
            call.answer(200, b"application/json", json.dumps(self._models(call.head, access)).encode())
            return
        if call.head.kind is Kind.CHAT:
            call.answer(200, b"text/html; charset=utf-8" + _PAGE_ONLY, _PAGE.read_bytes())
            return
        if call.head.kind is Kind.METRICS:
            if access is None:
                raise Unauthenticated("send a key or a token with scope metrics as Authorization: Bearer sk_… or st_…")
            gathering = asyncio.get_running_loop().create_task(
                self._answer_metrics(call, [each.route.id for each in self._open_to(access, Scope.METRICS)])
            )
            self._gathering.add(gathering)
            gathering.add_done_callback(self._gathering.discard)
            return
        raise NotFound(self.nothing)

    async def _answer_metrics(self, call: Admission, services: list[str]) -> None:
        shown = await self._siblings.gathered(lambda: self.own_metrics(services), services)
        if not call.over:
            call.answer(200, b"text/plain; version=0.0.4; charset=utf-8", shown.encode())

    async def metrics(self) -> str:
        """Of all services at all gateways here, for the machine's own Prometheus."""
        return await self._siblings.gathered(self.own_metrics, None)

    def own_metrics(self, services: list[str] | None = None) -> str:
        chosen = [each for each in self.registry.all() if services is None or each.route.id in services]
        return exposition(chosen, self._connections())

    def _models(self, head: Head, access: Access | None) -> dict[str, object]:
        named = head.path.decode("latin-1").removeprefix("/v1/models").removeprefix("/")
        found = {model: told for each in self._open_to(access, Scope.INFER) for model, told in _models_of(each)}
        if access is None and not found:
            raise Unauthenticated("send a key or a token as Authorization: Bearer sk_… or st_…")
        if not named:
            return {"object": "list", "data": list(found.values())}
        if named not in found:
            raise NotFound(f"there is no model {named[:128]}", field="model")
        return found[named]

    def _open_to(self, access: Access | None, scope: Scope) -> list[Service]:
        if access is None:
            return [each for each in self.registry.all() if each.route.public]
        if scope not in access.scopes:
            raise Forbidden(f"this token may not do this: it has no scope {scope.value}")
        return [
            each
            for each in self.registry.all()
            if each.route.project == access.project and (not access.services or each.route.name in access.services)
        ]

    # Called every now and then

    def look(self) -> None:
        now_s = self.now_s()
        for service in self.registry.all():
            service.look(now_s)
        for call in [each for each in self.calls if each.quiet_s <= now_s]:
            call.late(now_s)
        self.allowances.look()
        self.journal.flush()


def _models_of(service: Service) -> list[tuple[str, dict[str, object]]]:
    route = service.route
    names = dict.fromkeys([*(route.models or [route.name]), *route.adapters])
    return [
        (name, {"id": name, "object": "model", "created": 0, "owned_by": route.project, "service": route.name})
        for name in names
    ]
