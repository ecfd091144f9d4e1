"""What control tells gateways of services, and what gateways tell control of their traffic."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skerry.model.fields import Frozen
from skerry.model.service import EngineName, Role, Routing, ServiceState
from skerry.model.token import Limits, Metered, Scope

ACCESS, TAKE, TRAFFIC, USAGE = "/internal/access", "/internal/take", "/internal/traffic", "/internal/usage"
"""On control's unix socket. GET ACCESS with `Authorization: Bearer sk_… or st_…` answers Access, 401 where there is
none. POST TAKE with Take answers Taken; POST TRAFFIC with TrafficReport and POST USAGE with UsageReport answer nothing,
with 2xx once they are kept."""


class Told(Frozen, extra="ignore"):
    """A gateway may be replaced by one of the next version while control is of this one: what is new is passed over."""


class RouteReplica(Told):
    """One that may be given requests."""

    id: str
    """Of its sandbox; of a server that is not ours, its address."""
    url: str
    """http://HOST:PORT, reached without the agent between."""
    weight: float = 1.0
    role: Role = Role.BOTH
    asleep: bool = False
    """Its sandbox must be woken, which the agent does when its port is connected to."""


class ServiceRoute(Told):
    """What a gateway knows of a service."""

    id: str
    name: str
    project: str
    state: ServiceState
    engine: EngineName
    models: list[str]
    """What `model` may be, the service's name among them; then its adapters."""
    adapters: list[str] = []
    public: bool
    routing: Routing
    replicas: list[RouteReplica] = []
    wakes: bool = False
    """It is at zero: who asks is held, and control is told."""
    off: bool = False
    """It is declared to have no replicas: who asks is told so, and nobody is held."""
    canary: float = 0.0
    slots: int = 0
    """Requests that a replica answers at once; 0: not known, or not one of ours."""
    watched: list[str] = []
    """Keys of targets of its autoscaler that its engines tell: they are asked for them, be there only one."""


class Access(Told):
    """Whose a key or token is, and what it may."""

    project: str
    client: str
    """Name under which it is metered and queued."""
    id: str
    services: list[str] = []
    """Names. Empty: all of the project."""
    scopes: list[Scope] = [Scope.INFER, Scope.HTTP, Scope.METRICS]
    limits: Limits = Limits()
    weight: float = 1.0
    priority: int = 50
    expires_at_s: float | None = None


class ServiceTraffic(Told):
    """Of one service at one gateway since its last report."""

    service: str
    """Its id."""
    in_flight: int = 0
    waiting: int = 0
    arrived: int = 0
    requests: int = 0
    """That ended."""
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: list[float] = []
    """A sample."""
    tpot_s: list[float] = []
    wanted: bool = False
    """Somebody is held, and there is no replica."""
    replicas: dict[str, int] = {}
    """Requests at each."""
    cache_use: float | None = None
    """Of its engines' KV caches, 0 to 1, the mean of those that told."""
    seen: dict[str, float] = {}
    """What is watched, over all replicas: those that told, and the others like them. Left out: none told."""


class TrafficReport(Told):
    gateway: str
    """A random name that it keeps while it lives."""
    seconds: Annotated[float, Field(ge=0)]
    """That it covers."""
    services: list[ServiceTraffic] = []


class UsageReport(Told):
    """Counted once for each `number` of a gateway, however often it comes."""

    gateway: str
    number: int
    metered: list[Metered]
    spent: dict[str, int] = {}
    """Tokens, by id of whose budget they are of: a name may be another's by now, or a key's too."""


class Take(Told):
    """A gateway asks for a part of what somebody may have, to spend by itself."""

    gateway: str
    client: str
    """Id of the token."""
    requests: int = 0
    tokens: int = 0
    concurrency: int = 0
    """That it holds altogether, for as long as it reports."""
    set_aside: int = 0
    """Tokens of a budget that it has for requests under way, or that were used and not told yet."""


class Taken(Told):
    requests: int
    tokens: int
    concurrency: int
    for_s: float
    """What is left of it after so long is void."""
    requests_left: int = 0
    """That may still be taken before `resets_s`, by whoever comes first; so are tokens."""
    tokens_left: int = 0
    resets_s: float = 60.0
    """Until there is more again."""
    spent: bool = False
    """The budget is: more never comes."""
    budget_left: int | None = None
    """What nobody has set aside of it. None: there is none."""
    gateways: int = 1
    """That take parts of it now. While control is down each goes on with an equal share of what a minute has."""
