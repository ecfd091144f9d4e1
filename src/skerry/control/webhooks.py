"""Send a notice to an address that somebody has named: over the public internet only, unless the server is set
otherwise, since whoever may submit a job is not always one who may reach the machines beside this one."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from skerry.errors import Failed, Forbidden

POST_S_MAX = 10.0
AT_ONCE_MAX = 16
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses of IPv4 written in IPv6: a translator leads them to whatever they name."""


def is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped.is_global
        return found.is_global and found not in TRANSLATED
    return found.is_global


class _PublicOnly(AbstractResolver):
    """What is connected to is what was looked at: a name cannot become another address in between."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [each for each in await self._inner.resolve(host, port, family) if is_public(each["host"])]
        if not found:
            raise OSError(None, f"{host} has no public address")
        return found

    async def close(self) -> None:
        await self._inner.close()


class Webhooks:
    def __init__(self, *, private: bool) -> None:
        """`private`: whether addresses of this machine and of private networks are allowed."""
        self._private = private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        resolver = None if self._private else _PublicOnly()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, limit=AT_ONCE_MAX, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=POST_S_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, address: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises Forbidden for an address that is never allowed, Failed where it was not taken. Redirects are not
        followed: they could lead anywhere."""
        assert self._session is not None, "used inside `async with`"
        url = URL(address)
        try:
            literal = ipaddress.ip_address(url.host or "")
        except ValueError:
            literal = None
        if literal is not None and not self._private and not is_public(str(literal)):
            raise Forbidden(f"{url.host} is not a public address (webhooks_private)")
        given = {"Content-Type": "application/json", "User-Agent": "skerry", **headers}
        try:
            async with self._session.post(url, data=body, headers=given, allow_redirects=False) as answer:
                if not 200 <= answer.status < 300:
                    raise Failed(f"{url.host} answered {answer.status}")
        except TimeoutError:
            raise Failed(f"{url.host} did not answer within {POST_S_MAX:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(f"{url.host} could not be reached", because=repr(error)) from None
