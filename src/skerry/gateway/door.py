"""Who may come in to a sandbox: everybody where it is public, else whoever shows a key or a link that was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from skerry.clock import Clock
from skerry.errors import Forbidden, Unauthenticated, Unavailable
from skerry.gateway.headers import Shown, shown
from skerry.gateway.request import Headers, Request, value
from skerry.gateway.routes import Routes
from skerry.model.url import SECRET_BYTES, TOKEN_CHARACTERS_MAX, Route, is_signed

FRESH_S = 5.0
"""How long a key that was deleted still opens a URL."""
KEYS_MAX = 1024
PROBE = b"skerry-probe"
"""Header, of whatever value, by which whoever watches a port says that this is all it does."""
LINKS_MAX = 8
"""Tokens looked at in one request: other hosts of a shared domain may have left cookies here."""


class Visit(NamedTuple):
    route: Route
    port: int
    known: bool
    """Whether it showed a key or a link that is good; a stranger at a public sandbox did not."""
    cookie: tuple[str, int] | None
    """Token and expiry to hand on, so that what a page asks for next is let in too."""
    probe: bool = False
    """It only wants to know whether somebody answers: nobody is woken, or kept awake, for that."""

    def left(self) -> None:
        return None  # nothing is counted of it


class Control(Protocol):
    async def project_of(self, key: str) -> str | None: ...


class Keys:
    """What control said of each key. Kept by hash, and believed beyond its time only while control is down."""

    def __init__(self, control: Control, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._projects: dict[bytes, tuple[float, str]] = {}

    async def project_of(self, key: str) -> str | None:
        """None: not a key. Raises Unavailable when that cannot be known."""
        hashed = hashlib.sha256(key.encode()).digest()
        known = self._projects.get(hashed)
        if known is not None and self._clock.monotonic_s() < known[0] + FRESH_S:
            return known[1]
        try:
            project = await self._control.project_of(key)
        except Unavailable:
            if known is None:
                raise
            return known[1]
        self._projects.pop(hashed, None)
        if project is not None:
            if len(self._projects) >= KEYS_MAX:
                del self._projects[next(iter(self._projects))]
            self._projects[hashed] = (self._clock.monotonic_s(), project)
        return project


class Secret:
    """What links are signed with. Control makes it, perhaps after we have started."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: bytes | None = None

    def read(self) -> bytes | None:
        if self._read is None:
            try:
                found = bytes.fromhex(self._path.read_text().strip())
            except (OSError, ValueError):
                return None
            self._read = found if len(found) == SECRET_BYTES else None
        return self._read


class Door:
    def __init__(self, routes: Routes, keys: Keys, secret: Callable[[], bytes | None], clock: Clock) -> None:
        self._routes = routes
        self._keys = keys
        self._secret = secret
        self._clock = clock

    def now_s(self) -> float:
        """Seconds since 1970."""
        return self._clock.now().timestamp()

    async def admit(self, request: Request) -> Visit:
        """Raises NotFound, Unauthenticated, Forbidden, Unavailable."""
        visit = await self._admitted(request)
        return visit._replace(probe=any(name.lower() == PROBE for name, _ in request.headers))

    async def _admitted(self, request: Request) -> Visit:
        route, port = self._routes.find(request.host)
        show = shown(request)
        signed = self._link(show, route, port)
        if signed is not None:
            if not show.from_path:
                self._same_sandbox(request.headers, route)
            return Visit(route, port, True, signed if show.from_path else None)
        if show.key is not None and await self._is_good(show.key, route):
            return Visit(route, port, True, None)
        if route.public:
            return Visit(route, port, False, None)
        if show.key is not None:
            raise Unauthenticated("this key is not known here")
        if show.links:
            raise Unauthenticated(f"this link is over, or not for here; make another: skerry url {route.name} {port}")
        raise Unauthenticated(
            f"sandbox {route.name} is private: send a key as Authorization: Bearer sk_…, or open it with a link of "
            f"`skerry url {route.name} {port} --expires 1h`"
        )

    async def _is_good(self, key: str, route: Route) -> bool:
        try:
            return await self._keys.project_of(key) == route.project
        except Unavailable:
            if route.public:
                return False
            raise

    def _link(self, show: Shown, route: Route, port: int) -> tuple[str, int] | None:
        secret = self._secret() if show.links else None
        if secret is None:
            return None
        now_s = self.now_s()
        for token in show.links[:LINKS_MAX]:
            if len(token) > TOKEN_CHARACTERS_MAX:
                continue
            expires = is_signed(secret, token, route.id, port, now_s)
            if expires is not None:
                return token, expires
        return None

    def _same_sandbox(self, headers: Headers, route: Route) -> None:
        """A cookie comes along with whatever any page asks of us: only this sandbox's own pages may use it. For a
        browser all sandboxes are one site, so SameSite alone would not keep one from speaking as another's visitor."""
        origin = value(headers, b"origin")
        if origin is not None:
            host = urlsplit(origin.decode("latin-1")).netloc if origin != b"null" else ""
            if self._routes.port_of(host, route) is None:
                raise Forbidden("another site may not use this browser's link to the sandbox")
        elif value(headers, b"sec-fetch-site") in (b"cross-site", b"same-site") and (
            value(headers, b"sec-fetch-mode") != b"navigate"
        ):
            raise Forbidden("another site may not use this browser's link to the sandbox")
