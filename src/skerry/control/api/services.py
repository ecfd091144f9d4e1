"""Routes of services: create, list, get, change, scale, roll out, delete; their replicas, revisions, logs and use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.client.shares import Shares
from skerry.control.api.answers import (
    CREATED,
    DONE,
    GOING_ON,
    LIMIT,
    Items,
    LabelsAsked,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    labels_asked,
    many,
    one,
    page,
    waiting_responses,
)
from skerry.control.api.caller import Caller
from skerry.control.api.explain import WhySoMany
from skerry.control.intents import services
from skerry.control.intents.capacity import WhyNever
from skerry.control.traffic_book import TrafficBook
from skerry.control.waiting import Waiter
from skerry.errors import NotFound
from skerry.model.operation import OperationState
from skerry.model.rollout import RolloutRequest
from skerry.model.service import SERVICE_FINAL, Replica, Revision, ScaleRequest, Service, ServiceSpec
from skerry.model.service_update import ServiceUpdate
from skerry.model.serving import shown
from skerry.model.token import Metered
from skerry.settings import Settings
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction

SINCE_DAYS = 30
USAGE_ROWS_MAX = 10_000


class ServiceRoutes:
    def __init__(
        self,
        store: Store,
        waiter: Waiter,
        book: TrafficBook,
        why_so_many: WhySoMany,
        settings: Settings,
        *,
        why_never: WhyNever,
        shares: Shares,
    ) -> None:
        self._store = store
        self._waiter = waiter
        self._book = book
        self._why_so_many = why_so_many
        self._settings = settings
        self._why_never = why_never
        self._shares = shares

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/services", tags=["services"])
        one_of = "/{ref}"
        done = waiting_responses(DONE, Service)
        created = waiting_responses(CREATED, Service)
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, responses=created)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Service])
        router.add_api_route(one_of, self.get, methods=["GET"], response_model=Service)
        router.add_api_route(one_of, self.update, methods=["PATCH"], responses=done)
        router.add_api_route(one_of, self.delete, methods=["DELETE"], responses=done)
        router.add_api_route(one_of + "/scale", self.scale, methods=["POST"], responses=done)
        router.add_api_route(one_of + "/rollout", self.roll, methods=["POST"], responses=done)
        router.add_api_route(one_of + "/replicas", self.replicas, methods=["GET"], response_model=Items[Replica])
        router.add_api_route(one_of + "/revisions", self.revisions, methods=["GET"], response_model=Items[Revision])
        router.add_api_route(one_of + "/usage", self.usage, methods=["GET"], response_model=Items[Metered])
        return router

    async def create(self, spec: ServiceSpec, caller: Caller, wait_s: WaitS = 0.0) -> Response:
        """With `wait_s`, answered when it can serve, when it is clear that it cannot, or when the time is over."""
        share = self._shares.folders() if spec.mounts else ()
        async with self._store.write() as tx:
            made = await services.create(
                tx,
                spec,
                owner=caller.name,
                why_never=self._why_never,
                share=share,
                reach=self._settings.service_addresses,
            )
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        label: LabelsAsked = None,
        name: Annotated[str | None, Query(max_length=63, description="Beginning of the name")] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        """Without their replicas."""
        async with self._store.read() as tx:
            found = await tx.services.list(
                PROJECT, labels=labels_asked(label), name=name, limit=limit, page_token=page_token
            )
        items = [self._with_traffic(each) for each in found.items]
        return page(Page(items, found.next_page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            return one(await self._seen(tx, await tx.services.find(ref, PROJECT)))

    async def update(self, ref: str, wanted: ServiceUpdate, wait_s: WaitS = 0.0) -> Response:
        """With `wait_s`, answered when a new revision is rolled out or stands ready to be promoted."""
        share = self._shares.folders() if wanted.mounts else ()
        async with self._store.write() as tx:
            changed = await services.update(
                tx,
                await tx.services.find(ref, PROJECT),
                wanted,
                why_never=self._why_never,
                share=share,
                reach=self._settings.service_addresses,
            )
        return await self._settled(changed, wait_s, DONE)

    async def scale(self, ref: str, asked: ScaleRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            changed = await services.scale(tx, await tx.services.find(ref, PROJECT), asked)
        return await self._settled(changed, wait_s, DONE)

    async def roll(self, ref: str, asked: RolloutRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            changed = await services.roll(tx, await tx.services.find(ref, PROJECT), asked)
        return await self._settled(changed, wait_s, DONE)

    async def delete(
        self,
        ref: str,
        now: Annotated[bool, Query(description="Without waiting for what its replicas have begun")] = False,
        wait_s: WaitS = 0.0,
    ) -> Response:
        async with self._store.write() as tx:
            changed = await services.delete(tx, await tx.services.find(ref, PROJECT), now=now)
        return await self._settled(changed, wait_s, DONE)

    async def replicas(self, ref: str) -> Response:
        async with self._store.read() as tx:
            return many((await self._seen(tx, await tx.services.find(ref, PROJECT))).replicas)

    async def revisions(self, ref: str) -> Response:
        """The last few, oldest first."""
        async with self._store.read() as tx:
            return many(await tx.services.revisions((await tx.services.find(ref, PROJECT)).id))

    async def usage(
        self,
        ref: str,
        since: Annotated[datetime | None, Query(description="Start of the time counted [30 days ago]")] = None,
    ) -> Response:
        """By hour, model and client, the newest hours first."""
        start = since or datetime.now(UTC) - timedelta(days=SINCE_DAYS)
        if start.tzinfo is None:
            start = start.replace(tzinfo=UTC)
        async with self._store.read() as tx:
            service = await tx.services.find(ref, PROJECT)
            return many(await tx.metering.list(service=service.id, since=start, limit=USAGE_ROWS_MAX))

    async def _settled(self, service: Service, wait_s: float, done: int) -> Response:
        operation = service.operation

        async def read() -> Service:
            async with self._store.read() as tx:
                found = await tx.services.get(service.id)
                if found is None:
                    raise NotFound(f"service {service.name} was deleted")
                return await self._seen(tx, found)

        def is_over(found: Service) -> bool:
            return found.operation != operation or found.state in SERVICE_FINAL

        seen = await read()
        if operation is None:
            return one(seen, done)
        if wait_s and not is_over(seen):
            seen = await self._waiter.until([service.id], read, is_over, wait_s)
        seen = seen if seen.operation is not None else seen.model_copy(update={"operation": operation})
        async with self._store.read() as tx:
            state = (await tx.operations.find(operation, PROJECT)).state
        # Of one that failed the operation says why, and whoever waits asks it.
        return one(seen, done if state is OperationState.SUCCEEDED else GOING_ON)

    async def _seen(self, tx: Transaction, service: Service) -> Service:
        boxes = await tx.sandboxes.of_service(service.id)
        replicas = shown(service, boxes, self._book.in_flight(), tx.now)
        return self._with_traffic(service).model_copy(update={"replicas": replicas})

    def _with_traffic(self, service: Service) -> Service:
        url = f"{self._settings.url_scheme}://{service.name}.{self._settings.url_place}/"
        why = self._why_so_many(service) or service.wanted_reason
        return service.model_copy(update={"signals": self._book.signals(service.id), "url": url, "wanted_reason": why})
