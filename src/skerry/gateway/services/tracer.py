"""Send what requests did to a collector, a second later and some at a time: no request waits for it, and while it does
not listen the newest are kept up to a bound."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import aiohttp

from skerry.gateway.services.head import Head
from skerry.gateway.services.otlp import Ended, encoded
from skerry.gateway.services.trace import Trace
from skerry.gateway.services.usage import Used
from skerry.telemetry import Log

if TYPE_CHECKING:
    from skerry.gateway.services.call import Call
    from skerry.gateway.services.service import Service

EACH_S = 1.0
AGAIN_S_MAX = 30.0
ANSWER_S_MAX = 10.0
LAST_S_MAX = 2.0
"""For what is left when the gateway ends."""
BATCH = 128
"""Encoded in about two milliseconds, which streams wait for."""
KEPT_MAX = 4096
LATER = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which the same may be sent again."""


class Tracer:
    def __init__(
        self,
        endpoint: str,
        headers: dict[str, str],
        share: float,
        instance: str,
        log: Log,
        monotonic_s: Callable[[], float],
    ) -> None:
        """`share`: of the requests whose callers do not trace themselves."""
        self._url = endpoint.rstrip("/") + "/v1/traces"
        self._headers = {"Content-Type": "application/json", **headers}
        self._share = share
        self._resource = {"service.name": "skerry-gateway", "service.instance.id": instance}
        self._log = log
        self._monotonic_s = monotonic_s
        self._draw = Random(SystemRandom().getrandbits(128))
        self._kept: deque[Ended] = deque()
        self._dropped = 0
        self._is_away = False

    def begin(self, head: Head) -> Trace | None:
        """None: it is not traced. Who traces itself has decided that for us."""
        if head.is_sampled if head.trace else self._draw.random() < self._share:
            return Trace(head, self._draw)
        return None

    def ended(self, call: Call, trace: Trace, service: Service, used: Used, now_s: float) -> None:
        if len(self._kept) >= KEPT_MAX:
            self._dropped += 1
            return
        route, access = service.route, call.access
        self._kept.append(
            Ended(
                trace=trace,
                began_s=call.began_s,
                first_s=call.first_s,
                ended_s=now_s,
                status=call.status,
                path=call.head.path.decode("latin-1"),
                request_id=call.request_id.decode(),
                service=route.name,
                project=route.project,
                policy=route.routing.policy.value,
                model=call.model,
                client=access.client if access is not None else "",
                prompt_tokens=used.prompt,
                cached_tokens=used.cached,
                completion_tokens=used.completion,
            )
        )

    async def run(self) -> None:
        """Until cancelled; then once more what is left."""
        pause_s = EACH_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX)) as session:
            try:
                while True:
                    await asyncio.sleep(pause_s)
                    taken = await self._send_all(session)
                    pause_s = EACH_S if taken else min(pause_s * 2, AGAIN_S_MAX)
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_S_MAX):
                        await self._send_all(session)

    async def _send_all(self, session: aiohttp.ClientSession) -> bool:
        """Whether the collector takes them."""
        while self._kept:
            batch = [self._kept[at] for at in range(min(BATCH, len(self._kept)))]
            because = await self._send(session, batch)
            if because:
                if not self._is_away:
                    self._log.warning("traces are kept: their collector does not take them", because=because)
                self._is_away = True
                return False
            for _ in batch:
                self._kept.popleft()
            if self._is_away or self._dropped:
                self._log.info("traces are taken again", dropped=self._dropped)
                self._is_away, self._dropped = False, 0
        return True

    async def _send(self, session: aiohttp.ClientSession, batch: list[Ended]) -> str:
        """Why they are to be sent again; empty: they need not be."""
        body = encoded(batch, self._resource, time.time() - self._monotonic_s())
        try:
            async with session.post(self._url, data=body, headers=self._headers) as answer:
                if answer.status in LATER:
                    return f"status {answer.status}"
                if answer.status >= 300:
                    self._log.error("traces are refused by their collector", status=answer.status)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            return repr(error)
        return ""
