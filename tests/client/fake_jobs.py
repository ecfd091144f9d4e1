"""Jobs of the fake control plane: each runs from the start, and ends as it was told to once somebody waits for it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from aiohttp import web

from skerry.errors import Conflict, Invalid, NotFound
from skerry.model.identity import make_id
from skerry.model.job import JOB_FINAL, CancelRequest, Job, JobSpec, JobState, Member, Progress, Task, TaskState

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl


class FakeJobs:
    """`ends`: name -> exit code that each task of it ends with; 0 for those that are not there."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self.jobs: dict[str, Job] = {}
        self.tasks: dict[str, list[Task]] = {}
        self.ends: dict[str, int] = {}
        self.slow = False
        """None ends, however long somebody waits."""
        self.why: str | None = None
        """What explains a job that waits; with it, jobs are pending until somebody waits for one."""

    def routes(self) -> list[web.RouteDef]:
        job = "/v1/jobs/{ref}"
        return [
            web.get("/v1/nodes", self._nodes),
            web.post("/v1/jobs", self._submit),
            web.get("/v1/jobs", self._list),
            web.get(job, self._get),
            web.delete(job, self._delete),
            web.post(job + "/cancel", self._cancel),
            web.get(job + "/tasks", self._tasks),
            web.get(job + "/tasks/{index}", self._task),
            web.get(job + "/tasks/{index}/logs", self._logs),
            web.get("/v1/explain/{ref}", self._explain),
        ]

    def find(self, ref: str) -> Job:
        for job in reversed(self.jobs.values()):
            if job.name == ref or job.id.startswith(ref):
                return job
        raise NotFound(f"there is no job {ref!r}")

    async def _nodes(self, request: web.Request) -> web.Response:
        """Where members are, by name."""
        return web.json_response({"items": [{"id": "n1", "name": "left"}], "next_page_token": None})

    async def _submit(self, request: web.Request) -> web.Response:
        spec = await self._read(request, JobSpec)
        name = spec.name or f"job-{len(self.jobs) + 1}"
        if any(job.name == name and job.state not in JOB_FINAL for job in self.jobs.values()):
            raise Conflict(f"there is a job {name!r} already", field="name")
        now = self._now()
        waits = self.why is not None
        job = Job(
            id=make_id("job", os.urandom(6)),
            project="default",
            owner="fake",
            name=name,
            state=JobState.PENDING if waits else JobState.RUNNING,
            spec=spec,
            created_at=now,
            updated_at=now,
            started_at=None if waits else now,
        )
        self.jobs[job.id] = job
        self.tasks[job.id] = [
            Task(
                job=job.id,
                index=index,
                project="default",
                state=TaskState.PENDING if waits else TaskState.RUNNING,
                members=[Member(rank=rank, node="n1") for rank in range(spec.nodes)],
                started_at=None if waits else now,
                created_at=now,
                updated_at=now,
            )
            for index in spec.indices
        ]
        return self._json(self._seen(job), 201)

    def _seen(self, job: Job) -> Job:
        tasks = self.tasks[job.id]
        counts = {state.value: sum(task.state is state for task in tasks) for state in TaskState}
        shown = {name: counts[name] for name in ("pending", "running", "succeeded", "failed", "cancelled")}
        return job.model_copy(update={"progress": Progress(total=len(tasks), **shown)})

    def _end(self, job: Job, state: JobState, code: int | None) -> Job:
        now = self._now()
        done: dict[str, Any] = {"state": TaskState(state), "exit_code": code, "ended_at": now}
        self.tasks[job.id] = [task.model_copy(update=done) for task in self.tasks[job.id]]
        reason = None if not code else f"task 0 ended with code {code}"
        ended = job.model_copy(update={"state": state, "reason": reason, "ended_at": now})
        self.jobs[job.id] = ended
        return ended

    async def _get(self, request: web.Request) -> web.Response:
        job = self.find(request.match_info["ref"])
        waits = float(request.query.get("wait_s", "0")) > 0 and job.state not in JOB_FINAL
        if waits and self.slow:
            await asyncio.sleep(float(request.query["wait_s"]))
        elif waits:
            code = self.ends.get(job.name, 0)
            job = self._end(job, JobState.FAILED if code else JobState.SUCCEEDED, code)
        return self._json(self._seen(job))

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        wanted = dict(label.split("=", 1) for label in query.getall("label", []))
        found = [
            self._seen(job).model_dump(mode="json")
            for job in self.jobs.values()
            if wanted.items() <= job.spec.labels.items()
            and job.name.startswith(query.get("name", ""))
            and job.state == query.get("state", job.state)
            and job.spec.queue == query.get("queue", job.spec.queue)
        ]
        return web.json_response({"items": found, "next_page_token": None})

    async def _delete(self, request: web.Request) -> web.Response:
        job = self.find(request.match_info["ref"])
        if job.state not in JOB_FINAL:
            raise Conflict(f"job {job.name} is {job.state}; cancel it first")
        return self._json(self.jobs.pop(job.id))

    async def _cancel(self, request: web.Request) -> web.Response:
        job, asked = self.find(request.match_info["ref"]), await self._read(request, CancelRequest)
        if job.state in JOB_FINAL:
            raise Conflict(f"job {job.name} has ended: it is {job.state}")
        if asked.indices:
            self.tasks[job.id] = [
                task.model_copy(update={"state": TaskState.CANCELLED}) if task.index in asked.indices else task
                for task in self.tasks[job.id]
            ]
            return self._json(self._seen(job))
        return self._json(self._seen(self._end(job, JobState.CANCELLED, None)))

    async def _tasks(self, request: web.Request) -> web.Response:
        tasks = self.tasks[self.find(request.match_info["ref"]).id]
        found = [task.model_dump(mode="json") for task in tasks if task.state == request.query.get("state", task.state)]
        start, limit = int(request.query.get("page_token", "0")), int(request.query.get("limit", "100"))
        token = str(start + limit) if start + limit < len(found) else None
        return web.json_response({"items": found[start : start + limit], "next_page_token": token})

    def _one(self, request: web.Request) -> Task:
        job, index = self.find(request.match_info["ref"]), int(request.match_info["index"])
        found = next((task for task in self.tasks[job.id] if task.index == index), None)
        if found is None:
            raise NotFound(f"job {job.name} has no task {index}")
        return found

    async def _task(self, request: web.Request) -> web.Response:
        return self._json(self._one(request))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        task = self._one(request)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for text in ("begins", "ends")[-int(request.query.get("tail", "2")) :]:
            await response.write(f"task {task.index} rank {request.query.get('rank', '0')} {text}\n".encode())
        return response

    async def _explain(self, request: web.Request) -> web.Response:
        if self.why is None:
            raise NotFound("nothing there waits")
        return web.json_response({"waiting": {"say": self.why, "position": 3, "starts_at": None}})

    async def _read(self, request: web.Request, kind: Any) -> Any:
        try:
            return kind.model_validate(await request.json())
        except ValueError as error:
            raise Invalid(str(error).splitlines()[-2].strip(), field="body") from None

    def _json(self, record: Any, status: int = 200) -> web.Response:
        return web.json_response(record.model_dump(mode="json"), status=status)

    def _now(self) -> Any:
        from tests.client.fake_control import now

        return now()
