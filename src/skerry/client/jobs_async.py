"""`client.jobs` and `Job`: work that ends, to be submitted and followed by a program. On asyncio.

job = await client.jobs.submit("debian:12", "python3 train.py --lr {lr}", sweep={"lr": [0.1, 0.01]}, retry=3)
await job.wait(check=True)
print(await job.logs(index=1))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client import flows, parse
from skerry.client.calls import jobs as calls
from skerry.client.calls.jobs import JobOptions
from skerry.client.jobs import checked

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.job import Job as Record
    from skerry.model.job import JobState, Progress, Task


class AsyncJobs:
    """A job is named by its name, its id, or the beginning of its id."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def submit(self, image: str, command: str | Sequence[str], **options: Unpack[JobOptions]) -> AsyncJob:
        """Put it into its queue. Text goes through /bin/sh; a list is run as it is."""
        return AsyncJob(self, await self._transport.send(calls.submit(calls.job_body(image, command, options))))

    async def connect(self, ref: str) -> AsyncJob:
        return AsyncJob(self, await self.get(ref))

    async def get(self, ref: str) -> Record:
        return await self._transport.send(calls.get(ref))

    async def list(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> list[AsyncJob]:
        """Those that match all of what is given; `name` is a prefix."""
        items = await self._transport.run(
            flows.gather(
                lambda token: calls.list_page(
                    state=state, queue=queue, labels=labels, name=name, limit=flows.PAGE_ITEMS, page_token=token
                )
            )
        )
        return [AsyncJob(self, parse.job(item)) for item in items]

    async def wait(self, ref: str, *, timeout_s: float | None = None, check: bool = False) -> Record:
        """Until it has ended, however it did. `check` raises Failed unless it succeeded; DeadlineExceeded leaves it
        running."""
        flow = flows.end(lambda wait_s: calls.get(ref, wait_s), calls.FINAL, timeout_s=timeout_s)
        return checked(parse.job(await self._transport.run(flow)), check)

    async def cancel(self, ref: str, reason: str = "", *, indices: Sequence[int] = ()) -> Record:
        """Stop what runs of it and start no more; `indices`: only these tasks. What is running has `grace_s` to end."""
        return await self._transport.send(calls.cancel(ref, reason, indices))

    async def delete(self, ref: str) -> None:
        """What is known of it, and its logs. Raises Conflict before it has ended."""
        await self._transport.json(calls.delete(ref))

    async def tasks(self, ref: str, *, state: str | None = None) -> Sequence[Task]:
        items = await self._transport.run(
            flows.gather(lambda token: calls.tasks_page(ref, state=state, limit=flows.PAGE_ITEMS, page_token=token))
        )
        return [parse.task(item) for item in items]

    async def task(self, ref: str, index: int = 0) -> Task:
        return await self._transport.send(calls.task(ref, index))

    async def logs(
        self, ref: str, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> str:
        """What a task printed, of a gang the member `rank`. `attempt` None: its newest try."""
        call = calls.logs(ref, index, rank=rank, attempt=attempt, tail=tail)
        async with await self._transport.stream(call) as stream:
            return b"".join([chunk async for chunk in stream]).decode(errors="replace")

    async def follow_logs(
        self, ref: str, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> AsyncIterator[str]:
        """The same, and on as it is printed."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        call = calls.logs(ref, index, rank=rank, attempt=attempt, follow=True, tail=tail)
        async with await self._transport.stream(call) as stream:
            async for chunk in stream:
                yield decoder.decode(chunk)


class AsyncJob:
    """Made by `submit`, `connect` and `list`."""

    def __init__(self, jobs: AsyncJobs, record: Record) -> None:
        self.id = record.id
        self._jobs = jobs
        self._record = record

    @property
    def name(self) -> str:
        return self._record.name

    @property
    async def state(self) -> JobState:
        """As it is now; asks the server, as `progress` does."""
        return (await self.info()).state

    @property
    async def progress(self) -> Progress | None:
        """How many of its tasks are in which state."""
        return (await self.info()).progress

    async def info(self) -> Record:
        """The whole record, as it is now."""
        return self._keep(await self._jobs.get(self.id))

    async def wait(self, *, timeout_s: float | None = None, check: bool = False) -> Record:
        return self._keep(await self._jobs.wait(self.id, timeout_s=timeout_s, check=check))

    async def cancel(self, reason: str = "", *, indices: Sequence[int] = ()) -> Record:
        return self._keep(await self._jobs.cancel(self.id, reason, indices=indices))

    async def delete(self) -> None:
        await self._jobs.delete(self.id)

    async def tasks(self, *, state: str | None = None) -> Sequence[Task]:
        return await self._jobs.tasks(self.id, state=state)

    async def task(self, index: int = 0) -> Task:
        return await self._jobs.task(self.id, index)

    async def logs(self, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None) -> str:
        return await self._jobs.logs(self.id, index, rank=rank, attempt=attempt, tail=tail)

    def follow_logs(
        self, index: int = 0, *, rank: int = 0, attempt: int | None = None, tail: int | None = None
    ) -> AsyncIterator[str]:
        return self._jobs.follow_logs(self.id, index, rank=rank, attempt=attempt, tail=tail)

    def __repr__(self) -> str:
        return f"<AsyncJob {self.name} {self.id}>"

    def _keep(self, record: Record) -> Record:
        self._record = record
        return record
