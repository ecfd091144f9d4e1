"""Routes of volumes: make one, empty or as a copy, list, get, resize or label, delete. Mounting is the sandbox's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.client.agent import AgentClient
from skerry.control.api.answers import (
    CREATED,
    DONE,
    GOING_ON,
    LIMIT,
    LabelsAsked,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    labels_asked,
    one,
    page,
    waiting_responses,
)
from skerry.control.intents import volumes
from skerry.control.waiting import Waiter
from skerry.errors import SkerryError
from skerry.model.volume import UNDER_WAY, Volume, VolumeRequest, VolumeUpdate
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class VolumeRoutes:
    def __init__(self, store: Store, waiter: Waiter, agent: AgentClient, *, volumes_max: int) -> None:
        self._store = store
        self._waiter = waiter
        self._agent = agent
        self._volumes_max = volumes_max

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/volumes", tags=["volumes"])
        made, done = waiting_responses(CREATED, Volume), waiting_responses(DONE, Volume)
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, responses=made)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Volume])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=Volume)
        router.add_api_route("/{ref}", self.update, methods=["PATCH"], responses=done)
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], responses=done)
        return router

    async def create(self, request: VolumeRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            made = await volumes.create(tx, request, volumes_max=self._volumes_max)
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        label: LabelsAsked = None,
        name: Annotated[str | None, Query(max_length=63, description="Beginning of the name")] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        used = await self._used()
        async with self._store.read() as tx:
            found = await tx.volumes.list(
                PROJECT, labels=labels_asked(label), name=name, limit=limit, page_token=page_token
            )
            users = await tx.sandboxes.users_of_volumes()
        return page(Page([_seen(volume, users, used) for volume in found.items], found.next_page_token))

    async def get(self, ref: str) -> Response:
        used = await self._used()
        async with self._store.read() as tx:
            volume = await tx.volumes.find(ref, PROJECT)
            users = await tx.sandboxes.users_of_volumes()
        return one(_seen(volume, users, used))

    async def update(self, ref: str, wanted: VolumeUpdate, wait_s: WaitS = 0.0) -> Response:
        used = await self._used() if wanted.size is not None else {}
        async with self._store.write() as tx:
            volume = await tx.volumes.find(ref, PROJECT)
            changed = await volumes.update(tx, volume, wanted, used_bytes=used.get(volume.id))
        return await self._settled(changed, wait_s, DONE)

    async def delete(self, ref: str, wait_s: WaitS = 0.0) -> Response:
        """Refused while a sandbox mounts it."""
        async with self._store.write() as tx:
            changed = await volumes.delete(tx, await tx.volumes.find(ref, PROJECT))
        return await self._settled(changed, wait_s, DONE)

    async def _used(self) -> dict[str, int]:
        """Asked before the transaction, which must not wait for it."""
        try:
            return await self._agent.volumes()
        except SkerryError:
            return {}

    async def _settled(self, volume: Volume, wait_s: float, done: int) -> Response:
        async def read() -> Volume:
            async with self._store.read() as tx:
                return await tx.volumes.get(volume.id) or volume

        volume = await self._waiter.until([volume.id], read, lambda found: found.state not in UNDER_WAY, wait_s)
        return one(volume, GOING_ON if volume.state in UNDER_WAY else done)


def _seen(volume: Volume, users: dict[str, list[str]], used: dict[str, int]) -> Volume:
    return volume.model_copy(update={"used_by": users.get(volume.id, []), "used_bytes": used.get(volume.id)})
