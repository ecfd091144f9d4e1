"""Routes of models: fetch one, or make one of another, say more of it, list, get, its files, delete. Mounting is the
sandbox's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.client.agent import AgentClient
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
from skerry.control.intents import cards, models
from skerry.control.waiting import Waiter
from skerry.errors import Conflict
from skerry.model.weights import UNDER_WAY, Model, ModelFile, ModelRequest, ModelState, ModelUpdate
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class ModelRoutes:
    def __init__(self, store: Store, waiter: Waiter, agent: AgentClient, shares: Shares) -> None:
        self._store = store
        self._waiter = waiter
        self._agent = agent
        self._shares = shares

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/models", tags=["models"])
        made, done = waiting_responses(CREATED, Model), waiting_responses(DONE, Model)
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, responses=made)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Model])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=Model)
        router.add_api_route("/{ref}", self.update, methods=["PATCH"], response_model=Model)
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], responses=done)
        router.add_api_route("/{ref}/files", self.files, methods=["GET"], response_model=Items[ModelFile])
        return router

    async def create(self, request: ModelRequest, wait_s: WaitS = 0.0) -> Response:
        """One that is there already, and the same, is answered with."""
        share = self._shares.folders() if request.source.startswith("/") else ()
        async with self._store.write() as tx:
            made = await models.create(tx, request, share=share)
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        label: LabelsAsked = None,
        name: Annotated[str | None, Query(max_length=100, description="Beginning of the name")] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            found = await tx.models.list(
                PROJECT, labels=labels_asked(label), name=name, limit=limit, page_token=page_token
            )
            users = await tx.sandboxes.users_of_models()
        return page(Page([_seen(model, users) for model in found.items], found.next_page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            model = await tx.models.find(ref, PROJECT)
            return one(_seen(model, await tx.sandboxes.users_of_models()))

    async def update(self, ref: str, wanted: ModelUpdate) -> Response:
        """What is said of it: its files stay, and services that serve it get a new revision."""
        share = self._shares.folders()
        async with self._store.write() as tx:
            changed = await cards.update(tx, await tx.models.find(ref, PROJECT), wanted, share=share)
            return one(_seen(changed, await tx.sandboxes.users_of_models()))

    async def files(self, ref: str) -> Response:
        async with self._store.read() as tx:
            model = await tx.models.find(ref, PROJECT)
        if model.state is not ModelState.READY:
            raise Conflict(f"model {model.name} is {model.state.value}; its files are known when it is ready")
        return many(await self._agent.model_files(model.id))

    async def delete(self, ref: str, wait_s: WaitS = 0.0) -> Response:
        """Refused while a sandbox mounts it."""
        async with self._store.write() as tx:
            changed = await models.delete(tx, await tx.models.find(ref, PROJECT))
        return await self._settled(changed, wait_s, DONE)

    async def _settled(self, model: Model, wait_s: float, done: int) -> Response:
        async def read() -> Model:
            async with self._store.read() as tx:
                return await tx.models.get(model.id) or model

        model = await self._waiter.until([model.id], read, lambda found: found.state not in UNDER_WAY, wait_s)
        return one(model, GOING_ON if model.state in UNDER_WAY else done)


def _seen(model: Model, users: dict[str, list[str]]) -> Model:
    used_by = users.get(model.name, []) if model.state is ModelState.READY else []
    return model.model_copy(update={"used_by": used_by})
