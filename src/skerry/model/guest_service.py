"""A service: a command that a sandbox's machine keeps running in it, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from skerry.model.circle import round_trip
from skerry.model.fields import Command, Duration, Env, Frozen, GuestPath, User
from skerry.model.restart import Restart
from skerry.model.stream import Port

SERVICES_MAX = 32
NEEDS_MAX = SERVICES_MAX - 1
NAME_PATTERN = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
NAME_ALLOWED = "1 to 40 lower-case letters, digits and '-', not at either end"
RESERVED = frozenset({"main", "all", "skerry"})
"""`main` is the sandbox's own main process, `all` would be taken for every service, `skerry` is ours."""
HTTP_PATH_PATTERN = r"/[!-~]{0,1023}"


def _http_path(path: str) -> str:
    if not re.fullmatch(HTTP_PATH_PATTERN, path):
        raise ValueError("expected a path such as /health, of printable characters without spaces")
    return path


class Health(Frozen):
    """How to tell that a service can do its work: one of `command`, `http` and `tcp`."""

    command: Command | None = None
    """Run in the sandbox as the service's user; well when it ends with code 0."""
    http: Annotated[str, AfterValidator(_http_path)] | None = None
    """A path on the service's port; well when the answer is 200 to 399."""
    tcp: bool = False
    """Well when somebody listens on the service's port."""
    interval: Annotated[Duration, Field(ge=0.5, le=86_400)] = 10.0
    """Seconds, or text such as 10s, between two looks. While it starts it is looked at more often."""
    timeout: Annotated[Duration, Field(ge=0.1, le=300)] = 5.0
    retries: Annotated[int, Field(ge=1, le=100)] = 3
    """Looks in a row that must fail before one that was healthy is called unhealthy."""
    restart: bool = False
    """Start one that is unhealthy again. Off by default: it may still be at work for those it has."""

    @model_validator(mode="after")
    def _one_way(self) -> Health:
        if sum((self.command is not None, self.http is not None, self.tcp)) != 1:
            raise ValueError("give exactly one of command, http and tcp")
        return self


class MainHealth(Health):
    """How to tell that a sandbox can do what its main process is for."""

    port: Port | None = None
    """Where `http` and `tcp` look."""
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    """What `http` must be answered with. None: 200 to 399."""

    @model_validator(mode="after")
    def _has_port(self) -> MainHealth:
        if self.port is None and (self.tcp or self.http is not None):
            raise ValueError("health by http or tcp needs a port")
        return self


class GuestServiceSpec(Frozen):
    """What a user may declare of a service."""

    command: Command
    """Runs in the foreground, as long as the service is there."""
    port: Port | None = None
    """TCP port it listens on: who connects to it from outside is held until somebody listens."""
    needs: Annotated[list[str], Field(max_length=NEEDS_MAX)] = []
    """Services that must be healthy before this one starts."""
    restart: Restart = Restart.ALWAYS
    env: Env = {}
    """Added to the sandbox's."""
    user: User | None = None
    """None: the sandbox's."""
    workdir: GuestPath | None = None
    """None: the sandbox's."""
    health: Health | None = None
    """None: with a port, that somebody listens there; without one, that it goes on running."""

    @model_validator(mode="after")
    def _health_fits(self) -> GuestServiceSpec:
        health = self.health
        if health is not None and self.port is None and (health.tcp or health.http is not None):
            raise ValueError("health by http or tcp needs the service's port")
        if health is not None and health.restart and self.restart is Restart.NEVER:
            raise ValueError("health.restart is for services that may be restarted, and this one never is")
        return self

    @property
    def looks(self) -> Health | None:
        """How it is looked at; None: it is healthy while it runs."""
        if self.health is None and self.port is not None:
            return Health(tcp=True)
        return self.health

    @property
    def is_task(self) -> bool:
        """It has an end to come to: who needs it waits for that and not for its running."""
        return self.restart is Restart.NEVER and self.looks is None


class GuestServiceState(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"  # runs, and is not healthy yet
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    BACKING_OFF = "backing-off"  # ended, and is started again in a moment
    STOPPED = "stopped"  # by hand; started again by hand, by a request to its port, or with its sandbox
    DONE = "done"  # ended well by itself, and is not to be restarted
    FAILED = "failed"  # ended badly, and is not to be restarted; `reason` says how


RUNS = frozenset({GuestServiceState.STARTING, GuestServiceState.HEALTHY, GuestServiceState.UNHEALTHY})


class GuestServiceStatus(Frozen):
    """What a machine says of one service in a sandbox that runs, or sleeps warm."""

    name: str
    state: GuestServiceState
    reason: str | None = None
    since: datetime
    restarts: int = 0
    """Times it was started again since its sandbox started."""
    exit_code: int | None = None
    """How it ended last."""


class GuestService(Frozen):
    """A service with what is known of it, as the API lists it."""

    name: str
    spec: GuestServiceSpec
    status: GuestServiceStatus | None
    """None: its sandbox has no processes."""


Statuses = tuple[GuestServiceStatus, ...]


class HealthState(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class HealthStatus(Frozen):
    """What a machine says of the health of a sandbox itself."""

    state: HealthState
    reason: str | None = None
    since: datetime


def _wrong(location: tuple[str | int, ...], say: str, given: Any) -> ValidationError:
    """Pydantic puts the field's own path before `location`."""
    kind = PydanticCustomError("service", "{say}", {"say": say})
    return ValidationError.from_exception_data("services", [InitErrorDetails(type=kind, loc=location, input=given)])


def _checked(services: dict[str, GuestServiceSpec]) -> dict[str, GuestServiceSpec]:
    ports: dict[int, str] = {}
    for name, spec in services.items():
        if not re.fullmatch(NAME_PATTERN, name):
            raise _wrong((name[:60],), f"expected as the name of a service {NAME_ALLOWED}", name)
        if name in RESERVED:
            raise _wrong((name,), f"the names {', '.join(sorted(RESERVED))} are reserved", name)
        if spec.port is not None and ports.setdefault(spec.port, name) != name:
            raise _wrong((name, "port"), f"service {ports[spec.port]} has this port already", spec.port)
        for number, needed in enumerate(spec.needs):
            if needed not in services:
                raise _wrong((name, "needs", number), "there is no service of this name in this sandbox", needed)
    for name in services:
        if (way := round_trip(name, lambda each: services[each].needs)) is not None:
            say = f"services that need each other can never start: {' needs '.join(way)}"
            raise _wrong((name, "needs"), say, way)
    return services


Services = Annotated[dict[str, GuestServiceSpec], Field(max_length=SERVICES_MAX), AfterValidator(_checked)]
"""By name. Refused: needs that name nothing or lead in a circle, a port that two have, a reserved name."""


def news(before: Sequence[GuestServiceStatus], after: Sequence[GuestServiceStatus]) -> list[tuple[str, str]]:
    """(kind, message) of each event between two reports. What came and went between them leaves none."""
    told: list[tuple[str, str]] = []
    known = {status.name: status for status in before}
    for status in after:
        was = known.get(status.name)
        if status.restarts > (was.restarts if was is not None else 0):
            told.append(("service_restarted", _line(status, was.reason if was is not None else None)))
        elif status.state in RUNS and (was is None or was.state not in RUNS):
            told.append(("service_started", status.name))
        if was is None or status.state is not was.state:
            if status.state is GuestServiceState.UNHEALTHY:
                told.append(("service_unhealthy", _line(status, status.reason)))
            elif status.state is GuestServiceState.FAILED:
                told.append(("service_failed", _line(status, status.reason)))
    return told


def health_news(before: HealthStatus | None, after: HealthStatus | None) -> list[tuple[str, str]]:
    """Likewise of the health of a sandbox itself."""
    was = before.state if before is not None else None
    if after is None or after.state is was or after.state is HealthState.STARTING:
        return []
    return [(after.state.value, after.reason or "")]


def _line(status: GuestServiceStatus, reason: str | None) -> str:
    return f"{status.name}: {reason}" if reason else status.name
