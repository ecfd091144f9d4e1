"""What a member of a task printed: streamed from its sandbox while that is there, and from what is kept afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from skerry.client.agent import AgentClient
from skerry.control.api.jobs import find_task
from skerry.control.waiting import Waiter
from skerry.errors import NotFound
from skerry.model.job import TASK_FINAL, Job, Task
from skerry.model.member import Seat, log_name
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

LOOK_S = 5.0
"""While nothing has started yet: how often whoever waits is asked whether they are still there."""

Tail = Annotated[int | None, Query(ge=0, description="Only the last so many lines of what there is")]


class JobLogRoutes:
    def __init__(self, store: Store, waiter: Waiter, agent: AgentClient) -> None:
        self._store = store
        self._waiter = waiter
        self._agent = agent

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
        text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
        router.add_api_route("/{ref}/tasks/{index}/logs", self.read, methods=["GET"], responses=text)
        return router

    async def read(
        self,
        request: Request,
        ref: str,
        index: int,
        rank: Annotated[int, Query(ge=0, description="Of which member")] = 0,
        attempt: Annotated[int | None, Query(ge=0, description="Of which try; else of the newest")] = None,
        follow: Annotated[bool, Query(description="On as it is printed, until the member has ended")] = False,
        tail: Tail = None,
    ) -> Response:
        job, task, box = await self._look(ref, index, rank, attempt)
        while follow and not _has_begun(task, box, attempt) and not await request.is_disconnected():
            topics = [f"{job.id}/{index}", job.id, *([box.id] if box is not None else [])]
            job, task, box = await self._waiter.until(
                topics,
                lambda: self._look(ref, index, rank, attempt),
                lambda found: _has_begun(found[1], found[2], attempt),
                LOOK_S,
            )
        wanted = _attempt(task, attempt)
        paths = [f"/job-logs/{log_name(job.id, index, wanted, rank)}?{_query(tail)}"]
        if box is not None and box.node is not None and box.state is not S.DELETED:
            paths.insert(0, f"/sandboxes/{box.id}/logs?{_query(tail, follow=follow)}")
        return await self._stream(paths, f"task {index} of job {job.name} has printed nothing that is kept")

    async def _look(self, ref: str, index: int, rank: int, attempt: int | None) -> tuple[Job, Task, Sandbox | None]:
        """The member's sandbox, where there is one."""
        async with self._store.read() as tx:
            job = await tx.jobs.find(ref, PROJECT)
            task = await find_task(tx, job, index)
            if rank >= job.spec.nodes:
                raise NotFound(f"rank: a task of job {job.name} has {job.spec.nodes} members, from 0", field="rank")
            if attempt is not None and attempt > task.attempt:
                raise NotFound(f"attempt: task {index} has had {task.attempt + 1} tries, from 0", field="attempt")
            seat = Seat(job.id, job.name, index, _attempt(task, attempt), rank)
            return job, task, await tx.sandboxes.get(seat.sandbox)

    async def _stream(self, paths: list[str], nothing: str) -> Response:
        stack = AsyncExitStack()
        for path in paths:
            try:
                chunks = await stack.enter_async_context(self._agent.log(path))
            except NotFound:
                continue
            return _Stream(stack, chunks)
        raise NotFound(nothing)


class _Stream(StreamingResponse):
    """Lets the machine's answer go however it ends."""

    def __init__(self, stack: AsyncExitStack, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


def _attempt(task: Task, asked: int | None) -> int:
    """The newest that has begun, if none is asked for."""
    if asked is not None:
        return asked
    return task.attempt - 1 if not task.members and task.attempt else task.attempt


def _has_begun(task: Task, box: Sandbox | None, attempt: int | None) -> bool:
    """Or never will."""
    if box is not None and box.state not in (S.PENDING, S.STARTING):
        return True
    return task.state in TASK_FINAL or _attempt(task, attempt) < task.attempt


def _query(tail: int | None, *, follow: bool = False) -> str:
    asked: dict[str, str] = {} if tail is None else {"tail": str(tail)}
    return urlencode({**asked, **({"follow": "true", "until": "end"} if follow else {})})
