"""Send what is to be told of jobs, again and again until it is taken or too old: at least once, each with its id."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import ClassVar

from skerry.clock import Clock
from skerry.control.reconcile.hands import Hands
from skerry.control.webhooks import Webhooks
from skerry.errors import Forbidden, NotFound, SkerryError
from skerry.model.job import Job, JobState
from skerry.model.notice import Notice, signature
from skerry.sealing import Sealer
from skerry.store.store import Store

HANDS = 16
PAUSE_FIRST_S = 1.0
PAUSE_S_MAX = 600.0
OLD_S_MAX = 86_400.0
"""Nobody took it for a day: it is given up, and that is an event."""


class NotifyJobs:
    moves: ClassVar[frozenset[tuple[JobState, JobState]]] = frozenset()
    """What it tells of has been moved by others."""

    def __init__(self, store: Store, webhooks: Webhooks, sealer: Sealer, hands: Hands, clock: Clock) -> None:
        self._store = store
        self._webhooks = webhooks
        self._sealer = sealer
        self._clock = clock
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.notices.due(self.hands.window, self.hands.busy())
        for notice in waiting:
            self.hands.take(notice.id, partial(self._tell, notice))

    async def _tell(self, notice: Notice) -> None:
        async with self._store.read() as tx:
            job = await tx.jobs.get(notice.job)
        if job is None or notice.number >= len(job.spec.notify):
            async with self._store.write() as tx:
                await tx.notices.delete(notice)
            return
        try:
            await self._send(notice, job)
        except SkerryError as error:
            await self._put_off(notice, error)
            return
        async with self._store.write() as tx:
            await tx.notices.delete(notice)
            told = f"{notice.when.value} to notify[{notice.number}]"
            await tx.events.add([("job", notice.job, notice.name, "notified", told)])

    async def _send(self, notice: Notice, job: Job) -> None:
        wanted = job.spec.notify[notice.number]
        body = json.dumps(notice.body, separators=(",", ":")).encode()
        headers = {"X-Skerry-Delivery": notice.id, "X-Skerry-Event": notice.when.value}
        if wanted.secret is not None:
            headers["X-Skerry-Signature"] = signature(
                await self._secret(wanted.secret, job.project), body, int(self._clock.now().timestamp())
            )
        await self._webhooks.post(wanted.webhook or wanted.slack or "", body, headers)

    async def _secret(self, name: str, project: str) -> bytes:
        async with self._store.read() as tx:
            found = await tx.secrets.sealed([name], project)
        if not found:
            raise NotFound(f"there is no secret {name} any more")
        return self._sealer.open(found[0].sealed, found[0].bound_to)

    async def _put_off(self, notice: Notice, error: SkerryError) -> None:
        pause_s = min(PAUSE_FIRST_S * 2.0 ** min(notice.tries, 32), PAUSE_S_MAX)
        async with self._store.write() as tx:
            old_s = (tx.now - notice.created_at).total_seconds()
            what = f"{notice.when.value} to notify[{notice.number}]: {error.say}"
            if isinstance(error, Forbidden) or old_s > OLD_S_MAX:
                await tx.notices.delete(notice)
                await tx.events.add([("job", notice.job, notice.name, "not-notified", what)])
                return
            if notice.tries == 0:
                await tx.events.add([("job", notice.job, notice.name, "notify-failed", f"{what}; it is tried again")])
            later = {"tries": notice.tries + 1, "due_at": tx.now + timedelta(seconds=pause_s)}
            await tx.notices.put_off(notice.model_copy(update=later))
        self.hands.rest(notice.id, pause_s, notice.tries + 1)
