"""What the gateway asks of control on its unix socket, and tells it: sandboxes and services there are, whose a key is
and how much it may, how much is asked and used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from skerry.errors import Unavailable
from skerry.model.traffic import ACCESS, TAKE, TRAFFIC, USAGE, Access, Take, Taken, TrafficReport, UsageReport
from skerry.model.url import RouteNews

SILENCE_S_MAX = 15.0
"""Three beats of control's: the stream is begun anew after that."""
ANSWER_S_MAX = 5.0
CONNECT_S_MAX = 2.0
LINE_BYTES_MAX = 16 * 1024**2
"""The first line holds every sandbox there is."""
ASKED_MAX = 64
"""Keys asked about at one time."""


class ControlClient:
    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None
        self._asking = asyncio.Semaphore(ASKED_MAX)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(self._socket_path), limit=0), read_bufsize=LINE_BYTES_MAX
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def news(self) -> AsyncIterator[RouteNews]:
        """Raises Unavailable when control is down, or silent."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX, sock_read=SILENCE_S_MAX)
        try:
            async with self._session.get("http://control/internal/routes", timeout=timeout) as answer:
                if answer.status != 200:
                    raise Unavailable("control does not tell the sandboxes", because=f"status {answer.status}")
                while line := await answer.content.readline():
                    yield RouteNews.model_validate_json(line)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable("control does not answer", because=repr(error)) from None

    async def access_of(self, token: str) -> Access | None:
        """Whose a key or token is, and what it may; None: there is no such. Raises Unavailable."""
        answer = await self._call("GET", ACCESS, headers={"Authorization": f"Bearer {token}"})
        return None if answer is None else Access.model_validate_json(answer)

    async def take(self, take: Take) -> Taken:
        answer = await self._call("POST", TAKE, body=take.model_dump_json())
        return Taken.model_validate_json(answer or b"{}")

    async def hear_traffic(self, report: TrafficReport) -> None:
        await self._call("POST", TRAFFIC, body=report.model_dump_json())

    async def hear_usage(self, report: UsageReport) -> None:
        await self._call("POST", USAGE, body=report.model_dump_json())

    async def _call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: str | None = None
    ) -> bytes | None:
        """What it answered; None: 401. Raises Unavailable."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX, sock_connect=CONNECT_S_MAX)
        url = f"http://control{path}"
        if body is not None:
            headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with (
                self._asking,
                self._session.request(method, url, headers=headers, data=body, timeout=timeout) as answer,
            ):
                if answer.status == 401:
                    return None
                if answer.status >= 300:
                    raise Unavailable("control cannot say this now", because=f"status {answer.status}", retry_after_s=1)
                return await answer.read()
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            say = "this cannot be known now, since control is down; try again"
            raise Unavailable(say, because=repr(error), retry_after_s=1) from None

    async def project_of(self, key: str) -> str | None:
        """The project that a key is for; None: there is no such key. Raises Unavailable."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX, sock_connect=CONNECT_S_MAX)
        headers = {"Authorization": f"Bearer {key}"}
        try:
            async with (
                self._asking,
                self._session.get("http://control/internal/key", headers=headers, timeout=timeout) as answer,
            ):
                if answer.status == 401:
                    return None
                if answer.status != 200:
                    raise Unavailable("keys cannot be checked now", because=f"status {answer.status}", retry_after_s=1)
                return str((await answer.json())["project"])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            say = "keys cannot be checked now, since control is down; try again"
            raise Unavailable(say, because=repr(error), retry_after_s=1) from None
