"""URLs of ports in sandboxes: their host names, the links that open a private one, and what a gateway is told."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Annotated

from pydantic import Field

from skerry.model.fields import Duration, Frozen
from skerry.model.sandbox import S
from skerry.model.stream import Port
from skerry.model.traffic import ServiceRoute

LINK_S_MAX = 30 * 86_400.0
"""A link cannot be taken back, so it may not last for ever."""
LABEL_CHARACTERS_MAX = 63
"""What DNS allows between two dots."""
SECRET_BYTES = 32
TOKEN_PARAMETER = "skerry_token"
TOKEN_CHARACTERS_MAX = 80

_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_TOKEN = re.compile(r"([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})", re.ASCII)


class LinkRequest(Frozen):
    port: Port
    expires_s: Annotated[Duration, Field(gt=0, le=LINK_S_MAX)] = 3600.0
    """Seconds, or text such as 1h; at most 30 days."""


class Url(Frozen):
    url: str
    port: Port | None
    """None: the URL has the word PORT where the number goes."""
    public: bool
    """Whether everybody may open it; else it takes a key or a link."""
    expires_at: datetime | None = None
    """Of a link."""


class Route(Frozen):
    """What a gateway knows of a sandbox."""

    id: str
    name: str
    project: str
    state: S
    public: bool


class RouteNews(Frozen):
    """One line of what a gateway is told: everything there is at first, then what changes. Empty: still here."""

    every: list[Route] | None = None
    route: Route | None = None
    gone: str | None = None
    """Id of a sandbox that was deleted."""
    services: list[ServiceRoute] | None = None
    """Every service; comes with `every`."""
    service: ServiceRoute | None = None
    """It is new, or other than it was: its replicas, their weights, who drains. It replaces what was known."""
    service_gone: str | None = None
    """Id of a service that was deleted."""


def label(name: str, sandbox_id: str, port: int | None) -> str:
    """`web--8080`: the first part of a URL's host. A name too long for it is replaced by the id."""
    given = "PORT" if port is None else str(port)
    whole = f"{name}--{given}"
    return whole if len(whole) <= LABEL_CHARACTERS_MAX else f"{sandbox_id}--{given}"


def read_host(host: str, domain: str) -> tuple[str, int] | None:
    """Name (or id) and port that a Host header stands for; None for a host that is not one of ours."""
    name, _, port = host.lower().partition(":")
    if port and not port.isdigit():
        return None
    first, dot, rest = name.removesuffix(".").partition(".")
    wanted, dashes, number = first.rpartition("--")
    if not dot or rest != domain or not dashes or not wanted or not _PORT.fullmatch(number) or int(number) > 65_535:
        return None
    return wanted, int(number)


def sign(secret: bytes, sandbox_id: str, port: int, expires: int) -> str:
    """What lets its bearer in at one port of one sandbox until `expires`, in seconds since 1970."""
    return f"{expires}.{_signature(secret, sandbox_id, port, expires)}"


def is_signed(secret: bytes, token: str, sandbox_id: str, port: int, now_s: float) -> int | None:
    """When it expires; None when it is not ours, for something else, or over."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    expires = int(found[1])
    right = hmac.compare_digest(found[2], _signature(secret, sandbox_id, port, expires))
    return expires if right and now_s < expires else None


def _signature(secret: bytes, sandbox_id: str, port: int, expires: int) -> str:
    signed = hmac.new(secret, f"skerry url\n{sandbox_id}\n{port}\n{expires}".encode(), hashlib.sha256)
    return urlsafe_b64encode(signed.digest()).decode().rstrip("=")
