"""Routes of sandboxes: create, list, get, update, start, stop, restore, fork, commit, delete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from skerry.control.api.answers import (
    CREATED,
    DONE,
    GOING_ON,
    LIMIT,
    Items,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    many,
    one,
    page,
    waiting_responses,
)
from skerry.control.api.ports import HeldPorts
from skerry.control.intents import forks, images, sandboxes
from skerry.control.sleeping import Sleeping
from skerry.control.waiting import Waiter
from skerry.errors import Invalid, NotFound
from skerry.model.image import Image, ImageState, image_name
from skerry.model.sandbox import (
    AT_REST,
    CommitRequest,
    ForkRequest,
    RestoreRequest,
    S,
    Sandbox,
    SandboxSpec,
    SandboxUpdate,
    StopRequest,
)
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class SandboxRoutes:
    def __init__(
        self,
        store: Store,
        waiter: Waiter,
        sleeping: Sleeping,
        held: HeldPorts,
        *,
        share: Sequence[Path],
        sandboxes_max: int,
    ) -> None:
        self._store = store
        self._waiter = waiter
        self._sleeping = sleeping
        self._held = held
        self._share = share
        self._sandboxes_max = sandboxes_max

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])
        one_of = "/{ref}"
        done = waiting_responses(DONE, Sandbox)
        router.add_api_route(
            "", self.create, methods=["POST"], status_code=CREATED, responses=waiting_responses(CREATED, Sandbox)
        )
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Sandbox])
        router.add_api_route(one_of, self.get, methods=["GET"], response_model=Sandbox)
        router.add_api_route(one_of, self.update, methods=["PATCH"], responses=done)
        router.add_api_route(one_of, self.delete, methods=["DELETE"], responses=done)
        router.add_api_route(one_of + "/start", self.start, methods=["POST"], responses=done)
        router.add_api_route(one_of + "/stop", self.stop, methods=["POST"], responses=done)
        router.add_api_route(one_of + "/restore", self.restore, methods=["POST"], responses=done)
        router.add_api_route(
            one_of + "/fork",
            self.fork,
            methods=["POST"],
            status_code=CREATED,
            responses=waiting_responses(CREATED, Items[Sandbox]),
        )
        router.add_api_route(
            one_of + "/commit",
            self.commit,
            methods=["POST"],
            status_code=CREATED,
            responses=waiting_responses(CREATED, Image),
        )
        return router

    async def create(self, spec: SandboxSpec, wait_s: WaitS = 0.0) -> Response:
        held = await self._held.beside(spec.ports)
        async with self._store.write() as tx:
            made = await sandboxes.create(tx, spec, share=self._share, sandboxes_max=self._sandboxes_max, held=held)
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        state: S | None = None,
        label: Annotated[list[str] | None, Query(description="KEY=VALUE; repeat it to require several")] = None,
        name: Annotated[str | None, Query(max_length=63, description="Beginning of the name")] = None,
        image: Annotated[str | None, Query(max_length=512)] = None,
        parent: Annotated[str | None, Query(max_length=63)] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            parent_id = (await tx.sandboxes.find(parent, PROJECT)).id if parent is not None else None
            found = await tx.sandboxes.list(
                PROJECT,
                state=state,
                labels=_labels(label or []),
                name=name,
                image=_image(image),
                parent=parent_id,
                limit=limit,
                page_token=page_token,
            )
        return page(found)

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            return one(await tx.sandboxes.find(ref, PROJECT))

    async def update(self, ref: str, wanted: SandboxUpdate, wait_s: WaitS = 0.0) -> Response:
        """With `wait_s`, answered once its machine goes by it: 200, or 202 if that takes longer."""
        held = await self._held.beside(wanted.ports or ())
        async with self._store.write() as tx:
            changed = await sandboxes.update(tx, await tx.sandboxes.find(ref, PROJECT), wanted, held)
        if wait_s and not changed.applied:
            changed = await self._waiter.until(
                [changed.id], lambda: self._read(changed), lambda found: found.applied, wait_s
            )
        return one(changed, DONE if changed.applied or not wait_s else GOING_ON)

    async def delete(self, ref: str, force: bool = False, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            changed = await sandboxes.delete(tx, await tx.sandboxes.find(ref, PROJECT), force=force)
        return await self._settled(changed, wait_s, DONE)

    async def start(self, ref: str, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            changed = await sandboxes.start(tx, await tx.sandboxes.find(ref, PROJECT))
        if changed.state is S.ASLEEP:
            changed = await self._sleeping.wake(changed)
        return await self._settled(changed, wait_s, DONE)

    async def stop(
        self, ref: str, request: Annotated[StopRequest | None, Body()] = None, wait_s: WaitS = 0.0
    ) -> Response:
        async with self._store.write() as tx:
            found = await tx.sandboxes.find(ref, PROJECT)
            changed = await sandboxes.stop(tx, found, (request or StopRequest()).grace_s)
        return await self._settled(changed, wait_s, DONE)

    async def restore(self, ref: str, request: RestoreRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            found = await tx.sandboxes.find(ref, PROJECT)
            changed = await sandboxes.restore(tx, found, request.checkpoint)
        return await self._settled(changed, wait_s, DONE)

    async def fork(
        self, ref: str, request: Annotated[ForkRequest | None, Body()] = None, wait_s: WaitS = 0.0
    ) -> Response:
        async with self._store.read() as tx:
            ports = (await tx.sandboxes.find(ref, PROJECT)).spec.ports
        held = await self._held.beside(ports)
        async with self._store.write() as tx:
            parent = await tx.sandboxes.find(ref, PROJECT)
            made = await forks.fork(tx, parent, request or ForkRequest(), sandboxes_max=self._sandboxes_max, held=held)
        ids = [sandbox.id for sandbox in made]

        async def read() -> list[Sandbox]:
            async with self._store.read() as tx:
                found = {sandbox.id: sandbox for sandbox in await tx.sandboxes.with_ids(ids)}
            return [found[sandbox_id] for sandbox_id in ids if sandbox_id in found]

        if wait_s:
            made = await self._waiter.until(ids, read, _all_at_rest, wait_s)
        return many(made, CREATED if _all_at_rest(made) else GOING_ON)

    async def commit(self, ref: str, request: CommitRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            made = await images.request_commit(tx, await tx.sandboxes.find(ref, PROJECT), request.image)

        async def read() -> Image:
            async with self._store.read() as tx:
                return await tx.images.get(made.id) or made

        found = await self._waiter.until([made.id], read, _is_made, wait_s) if wait_s else made
        return one(found, CREATED if _is_made(found) else GOING_ON)

    async def _settled(self, sandbox: Sandbox, wait_s: float, done: int) -> Response:
        if wait_s and sandbox.state not in AT_REST:
            sandbox = await self._waiter.until(
                [sandbox.id], lambda: self._read(sandbox), lambda found: found.state in AT_REST, wait_s
            )
        return one(sandbox, done if sandbox.state in AT_REST else GOING_ON)

    async def _read(self, sandbox: Sandbox) -> Sandbox:
        async with self._store.read() as tx:
            found = await tx.sandboxes.get(sandbox.id)
        if found is None:
            raise NotFound(f"sandbox {sandbox.name} was deleted")
        return found


def _all_at_rest(found: list[Sandbox]) -> bool:
    return all(sandbox.state in AT_REST for sandbox in found)


def _is_made(image: Image) -> bool:
    return image.state is not ImageState.CREATING


def _labels(given: list[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Invalid(f"label: {text[:60]!r} is not allowed; give KEY=VALUE", field="label")
        wanted[key] = value
    return wanted


def _image(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return image_name(name)
    except ValueError as error:
        raise Invalid(f"image: {error}", field="image") from None
