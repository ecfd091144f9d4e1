"""Routes that explain: why something waits or is where it is, and what was used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.control.api.answers import one
from skerry.errors import NotFound
from skerry.model.explanation import Explanation, Wait
from skerry.model.job import Job
from skerry.model.sandbox import HOLDS_PLACE, S, Sandbox
from skerry.model.service import Service
from skerry.model.serving import shown, told
from skerry.model.usage import By, Usage
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction

WhyWaiting = Callable[[str], Awaitable[Wait | None]]
"""Of a sandbox, by id: what the scheduler's newest decision says of it."""
WhySoMany = Callable[[Service], str | None]
"""Of a service: why it is to have as many replicas as it is now. None: as its record says."""
SINCE_DAYS = 30
SEATS_MAX = 10


class ExplainRoutes:
    def __init__(self, store: Store, why_waiting: WhyWaiting, why_so_many: WhySoMany) -> None:
        self._store = store
        self._why_waiting = why_waiting
        self._why_so_many = why_so_many

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", tags=["explain"])
        router.add_api_route("/explain/{ref}", self.explain, methods=["GET"], response_model=Explanation)
        router.add_api_route("/usage", self.usage, methods=["GET"], response_model=Usage)
        return router

    async def explain(self, ref: str) -> Response:
        """Of a sandbox, a job or a service: by id or name, looked for in this order."""
        async with self._store.read() as tx:
            found, waiting = await self._found(tx, ref)
        if waiting is not None:
            found = found.model_copy(update={"waiting": await self._why_waiting(waiting)})
        return one(found)

    async def _found(self, tx: Transaction, ref: str) -> tuple[Explanation, str | None]:
        """And the id of the first sandbox of it that waits."""
        for look in (_of_sandbox, _of_job, self._of_service):
            with suppress(NotFound):
                return await look(tx, ref)
        raise NotFound(f"there is no sandbox, job or service {ref!r}")

    async def _of_service(self, tx: Transaction, ref: str) -> tuple[Explanation, str | None]:
        service = await tx.services.find(ref, PROJECT)
        boxes = await tx.sandboxes.of_service(service.id)
        pending = [box.id for box in boxes if box.state is S.PENDING]
        placed = [box.id for box in boxes if box.state in HOLDS_PLACE]
        found = await _explained(tx, "service", service, service.status.value, len(pending), placed[:SEATS_MAX])
        because = self._why_so_many(service) or service.wanted_reason
        now = service.model_copy(update={"wanted_reason": because})
        says = told(now, shown(now, boxes, {}, tx.now))
        return found.model_copy(update={"says": says}), pending[0] if pending else None

    async def usage(
        self,
        by: By = By.PROJECT,
        since: Annotated[datetime | None, Query(description="Start of the time counted [30 days ago]")] = None,
        project: Annotated[str | None, Query(max_length=63)] = None,
    ) -> Response:
        now = datetime.now(UTC)
        start = since or now - timedelta(days=SINCE_DAYS)
        if start.tzinfo is None:
            start = start.replace(tzinfo=UTC)
        async with self._store.read() as tx:
            items = await tx.stays.used(by, since=start, until=now, project=project)
        return one(Usage(by=by, since=start, until=now, items=items))


async def _of_sandbox(tx: Transaction, ref: str) -> tuple[Explanation, str | None]:
    sandbox = await tx.sandboxes.find(ref, PROJECT)
    waits = sandbox.state is S.PENDING
    found = await _explained(tx, "sandbox", sandbox, sandbox.state.value, int(waits), [sandbox.id])
    return found, sandbox.id if waits else None


async def _of_job(tx: Transaction, ref: str) -> tuple[Explanation, str | None]:
    job = await tx.jobs.find(ref, PROJECT)
    pending, placed = await tx.ledger.of_job(job.id)
    found = await _explained(tx, "job", job, job.state.value, len(pending), placed[:SEATS_MAX])
    return found, await tx.ledger.first_waiting(job.id)


async def _explained(
    tx: Transaction, noun: str, found: Sandbox | Job | Service, state: str, pending: int, placed: list[str]
) -> Explanation:
    """`pending`: how many sandboxes wait. `placed`: ids of those whose places are told."""
    seats = [await tx.ledger.placed(sandbox_id) for sandbox_id in placed]
    return Explanation(
        id=found.id,
        noun=noun,
        name=found.name,
        state=state,
        queue=found.spec.queue,
        tier=found.spec.tier,
        priority=found.spec.priority,
        pending=pending,
        placed=[seat for seat in seats if seat is not None],
    )
