"""Routes of sandboxes: create, list, get, update, start, stop, restore, fork, commit, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
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
from skerry.control.api.ports import HeldPorts
from skerry.control.intents import forks, images, sandboxes
from skerry.control.intents.capacity import WhyNever
from skerry.control.sleeping import Sleeping
from skerry.control.uses import Uses
from skerry.control.waiting import Waiter
from skerry.errors import Invalid, NotFound
from skerry.model.image import Image, ImageState, image_name
from skerry.model.port import HeldPort
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
from skerry.model.standing import Wish, outlook
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class SandboxRoutes:
    def __init__(
        self,
        store: Store,
        waiter: Waiter,
        sleeping: Sleeping,
        held: HeldPorts,
        uses: Uses,
        *,
        why_never: WhyNever,
        shares: Shares,
        sandboxes_max: int,
    ) -> None:
        self._store = store
        self._waiter = waiter
        self._sleeping = sleeping
        self._held = held
        self._uses = uses
        self._why_never = why_never
        self._shares = shares
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

    async def create(self, spec: SandboxSpec, caller: Caller, wait_s: WaitS = 0.0) -> Response:
        share = self._shares.folders() if spec.mounts else ()
        held = await self._held.beside(spec.ports)
        async with self._store.write() as tx:
            made = await sandboxes.create(
                tx,
                spec,
                why_never=self._why_never,
                share=share,
                sandboxes_max=self._sandboxes_max,
                held=held,
                owner=caller.name,
            )
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        state: S | None = None,
        label: LabelsAsked = None,
        name: Annotated[str | None, Query(max_length=63, description="Beginning of the name")] = None,
        image: Annotated[str | None, Query(max_length=512)] = None,
        parent: Annotated[str | None, Query(max_length=63)] = None,
        jobs: Annotated[bool, Query(description="Those of jobs too")] = False,
        queue: Annotated[str | None, Query(max_length=63)] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            parent_id = (await tx.sandboxes.find(parent, PROJECT)).id if parent is not None else None
            found = await tx.sandboxes.list(
                PROJECT,
                state=state,
                labels=labels_asked(label),
                name=name,
                image=_image(image),
                parent=parent_id,
                jobs=jobs,
                queue=queue,
                limit=limit,
                page_token=page_token,
            )
        return page(found)

    async def get(self, ref: str, until: Wish | None = None, wait_s: WaitS = 0.0) -> Response:
        """With `until` and `wait_s`, answered when that is so, when it can come no more by itself, or when the time is
        over: the record tells which."""
        async with self._store.read() as tx:
            found = await tx.sandboxes.find(ref, PROJECT)
        if until is not None and wait_s:
            found = await self._waiter.until(
                [found.id], lambda: self._read(found), lambda now: _is_over(now, until), wait_s
            )
        return one(found)

    async def update(self, ref: str, wanted: SandboxUpdate, wait_s: WaitS = 0.0) -> Response:
        """With `wait_s`, answered once its machine goes by it: 200, or 202 if that takes longer."""
        held = await self._held.beside(wanted.ports or ())
        used = await self._uses.before(ref, wanted)
        share = self._shares.folders() if wanted.mounts else ()
        async with self._store.write() as tx:
            found = await tx.sandboxes.find(ref, PROJECT)
            changed = await sandboxes.update(
                tx, found, wanted, why_never=self._why_never, share=share, held=held, used=used
            )
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
        held = await self._held_beside(ref)
        async with self._store.write() as tx:
            changed = await sandboxes.start(tx, await tx.sandboxes.find(ref, PROJECT), held)
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
        held = await self._held_beside(ref)
        async with self._store.write() as tx:
            found = await tx.sandboxes.find(ref, PROJECT)
            changed = await sandboxes.restore(tx, found, request.checkpoint, held)
        return await self._settled(changed, wait_s, DONE)

    async def fork(
        self, ref: str, caller: Caller, request: Annotated[ForkRequest | None, Body()] = None, wait_s: WaitS = 0.0
    ) -> Response:
        held = await self._held_beside(ref)
        async with self._store.write() as tx:
            parent = await tx.sandboxes.find(ref, PROJECT)
            made = await forks.fork(
                tx,
                parent,
                request or ForkRequest(),
                sandboxes_max=self._sandboxes_max,
                held=held,
                owner=caller.name,
            )
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

    async def _held_beside(self, ref: str) -> list[HeldPort]:
        async with self._store.read() as tx:
            ports = (await tx.sandboxes.find(ref, PROJECT)).spec.ports
        return await self._held.beside(ports)

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


def _is_over(sandbox: Sandbox, wish: Wish) -> bool:
    seen = outlook(sandbox.model_dump(mode="json"), wish)
    return seen.met or seen.never is not None


def _is_made(image: Image) -> bool:
    return image.state is not ImageState.CREATING


def _image(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return image_name(name)
    except ValueError as error:
        raise Invalid(f"image: {error}", field="image") from None
