"""Services as plain HTTP, by their host names: any path, any method, WebSockets, bodies of any size. They are passed on
to one of the replicas in the way that leads into sandboxes too."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from skerry.errors import SkerryError, Unauthenticated, Unavailable
from skerry.gateway.guest import Guest
from skerry.gateway.request import Request
from skerry.gateway.routing.contract import Ask, Choice
from skerry.gateway.services.access import Entrants
from skerry.gateway.services.admission import check_access
from skerry.gateway.services.allowance import Allowances
from skerry.gateway.services.entry import Entry
from skerry.gateway.services.head import session_of, token_of
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.replica import WAKE_S_MAX, Replica
from skerry.gateway.services.service import Service
from skerry.model.token import Scope
from skerry.model.traffic import Access

KEPT_S = 2.0
"""A connection that was used so recently is used again; programs mostly keep theirs for five seconds."""
KEPT_MAX = 64
AGAIN_S = 0.25


@dataclass(slots=True)
class WebVisit:
    service: Service
    access: Access | None
    session: str
    entry: Entry | None = None
    """What it takes of its token's limits, where there are any."""
    cookie: None = None
    replica: Replica | None = None
    """Chosen, and not reached yet."""

    def left(self) -> None:
        if self.entry is not None:
            self.entry.leave()


class WebDoor:
    """Who may come in to a service by its host name: everybody where it is public, else whoever shows a token."""

    def __init__(self, registry: Registry, entrants: Entrants, allowances: Allowances) -> None:
        self._registry = registry
        self._entrants = entrants
        self._allowances = allowances

    def now_s(self) -> float:
        return 0.0  # for cookies, of which there are none

    async def admit_to(self, label: str, request: Request) -> WebVisit:
        """Raises NotFound, Unauthenticated, Forbidden, LimitReached, Unavailable."""
        token = token_of(request.headers)
        access = None if token is None else await self._access(token)
        service = self._registry.named(label, access)
        if service is None:
            raise Unauthenticated(f"service {label} is private: send a key or a token of its project")
        check_access(service, access, Scope.HTTP)
        return WebVisit(service, access, session_of(request.headers), await self._entry(access))

    async def _entry(self, access: Access | None) -> Entry | None:
        allowance = self._allowances.of(access) if access is not None else None
        if allowance is None or not allowance.counts_requests:
            return None
        entry = Entry(allowance)
        await entry.enter()
        return entry

    async def _access(self, token: str) -> Access:
        entry = self._entrants.entry(token)
        known = self._entrants.now(entry, asyncio.get_running_loop().time())
        if known is None:
            told: asyncio.Future[Access] = asyncio.get_running_loop().create_future()

            def then(access: Access | None, error: SkerryError | None) -> None:
                if told.done():
                    return
                if access is not None:
                    told.set_result(access)
                else:
                    told.set_exception(error or Unauthenticated("this key or token is not known here"))

            self._entrants.then(entry, then)
            known = await told
        if self._entrants.expired(known):
            raise Unauthenticated("this token has expired; ask for another")
        return known


class LabelDoor:
    """The door, for one host name."""

    def __init__(self, door: WebDoor, label: str) -> None:
        self._door = door
        self._label = label

    def now_s(self) -> float:
        return self._door.now_s()

    async def admit(self, request: Request) -> WebVisit:
        return await self._door.admit_to(self._label, request)


class _Wish:
    """Waits for a replica."""

    def __init__(self, visit: WebVisit, *, only_now: bool = False) -> None:
        access = visit.access
        self.client = access.client if access is not None else ""
        self.priority = access.priority if access is not None else 50
        self.weight = access.weight if access is not None else 1.0
        self.due_s = 0.0
        self.seat = self.prompt_tokens = 0
        self.waited = False
        self.is_short = True
        self.takes_slot = False
        self.replica: Replica | None = None
        self._session = visit.session
        self.chosen: asyncio.Future[Replica] | None = None if only_now else asyncio.get_running_loop().create_future()

    def ask(self) -> Ask:
        return Ask(blocks=(), prompt_tokens=0, session=self._session, client=self.client)

    def go(self, replica: Replica, choice: Choice, prefill: Replica | None) -> None:
        self.replica = replica
        if self.chosen is not None and not self.chosen.done():
            self.chosen.set_result(replica)

    def give_up(self, error: SkerryError, status: int) -> None:
        if self.chosen is not None and not self.chosen.done():
            self.chosen.set_exception(error)


class WebGuest(Guest):
    """A connection to a replica, which is busy there until it is put back or closed."""

    def __init__(self, service: Service, replica: Replica) -> None:
        super().__init__(greeted=replica.route.asleep is False)
        self.replica = replica
        self.kept_s = 0.0
        self._service = service
        self._busy = True
        self._began_s = asyncio.get_running_loop().time()

    def take(self) -> None:
        self._busy = True
        self._began_s = asyncio.get_running_loop().time()

    def free(self) -> None:
        if self._busy:
            self._busy = False
            self._service.counts.passed(self.status, asyncio.get_running_loop().time() - self._began_s)
            self._service.leave(self.replica)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.free()


class WebGuests:
    """Connections to replicas, for whoever passes requests on."""

    def __init__(self, streams_socket: str) -> None:
        self._streams_socket = streams_socket
        self._kept: dict[Replica, list[WebGuest]] = {}

    def used(self, visit: WebVisit) -> WebGuest | None:
        """One that was used a moment ago, where the request goes."""
        wish = _Wish(visit, only_now=True)
        if not visit.service.again(wish, ()) or wish.replica is None:
            return None
        kept = self._kept.get(wish.replica)
        oldest_s = asyncio.get_running_loop().time() - KEPT_S
        while kept:
            guest = kept.pop()
            if guest.kept_s >= oldest_s and guest.is_reusable:
                guest.take()
                return guest
            guest.close()
        visit.replica = wish.replica
        return None

    async def open(self, visit: WebVisit, client: str) -> WebGuest:
        """Raises Unavailable, LimitReached."""
        service = visit.service
        loop = asyncio.get_running_loop()
        holding_s = service.route.routing.holding.wait
        deadline_s = loop.time() + holding_s
        while True:
            replica = await self._chosen(visit)
            try:
                return await self._connect(service, replica)
            except (OSError, TimeoutError, SkerryError) as error:
                service.failed(replica)
                service.leave(replica)
                if loop.time() >= deadline_s:
                    say = f"no replica of service {service.route.name} could be reached; try again"
                    raise Unavailable(say, because=repr(error), retry_after_s=1) from None
            except BaseException:
                service.leave(replica)
                raise
            await asyncio.sleep(0 if len(service.replicas) > 1 else AGAIN_S)

    async def _chosen(self, visit: WebVisit) -> Replica:
        if visit.replica is not None:
            replica, visit.replica = visit.replica, None
            return replica
        wish = _Wish(visit)
        assert wish.chosen is not None
        visit.service.enter(wish)
        try:
            return await wish.chosen
        except asyncio.CancelledError:
            visit.service.forget(wish)
            if wish.replica is not None:
                visit.service.leave(wish.replica)
            raise

    async def _connect(self, service: Service, replica: Replica) -> WebGuest:
        loop = asyncio.get_running_loop()
        timeouts = service.route.routing.timeouts
        if replica.route.asleep:
            _, guest = await loop.create_unix_connection(lambda: WebGuest(service, replica), self._streams_socket)
            guest.ask(replica.id, replica.port, wake=True, counts=True)
            async with asyncio.timeout(WAKE_S_MAX):
                await guest.connected
            return guest
        async with asyncio.timeout(timeouts.connect):
            _, guest = await loop.create_connection(lambda: WebGuest(service, replica), replica.host, replica.port)
        replica.worked()
        return guest

    def keep(self, visit: WebVisit, guest: Guest) -> None:
        assert isinstance(guest, WebGuest)
        guest.free()
        kept = self._kept.setdefault(guest.replica, [])
        if guest.replica.gone or not guest.is_reusable or len(kept) >= KEPT_MAX:
            guest.close()
            return
        guest.release()
        guest.kept_s = asyncio.get_running_loop().time()
        kept.append(guest)

    def sweep(self) -> None:
        oldest_s = asyncio.get_running_loop().time() - KEPT_S
        for replica, kept in list(self._kept.items()):
            for guest in [each for each in kept if each.kept_s < oldest_s or each.lost or replica.gone]:
                kept.remove(guest)
                guest.close()
            if not kept:
                del self._kept[replica]
