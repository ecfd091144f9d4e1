"""What is true here, told to whoever watches: the last report of each sandbox, and every change of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from skerry.model.order import Report

BEAT_S = 5.0
QUEUE_MAX = 10_000


class Reports:
    def __init__(self) -> None:
        self._last: dict[str, Report] = {}
        self._watchers: set[asyncio.Queue[Report]] = set()

    def put(self, report: Report) -> Report:
        if self._last.get(report.sandbox_id) != report:
            self._last[report.sandbox_id] = report
            self._tell(report)
        return report

    def change(self, sandbox_id: str, **changes: object) -> None:
        """Nothing, if there is no report of it."""
        report = self.get(sandbox_id)
        if report is not None:
            self.put(report.model_copy(update=changes))

    def drop(self, report: Report) -> Report:
        """The sandbox is gone from here; the last word about it is `report`."""
        if self._last.pop(report.sandbox_id, None) is not None:
            self._tell(report)
        return report

    def _tell(self, report: Report) -> None:
        for queue in list(self._watchers):
            try:
                queue.put_nowait(report)
            except asyncio.QueueFull:
                # A watcher that cannot keep up is cut off; it comes back and reads the snapshot.
                self._watchers.discard(queue)

    def get(self, sandbox_id: str) -> Report | None:
        return self._last.get(sandbox_id)

    def all(self) -> list[Report]:
        return list(self._last.values())

    async def watch(self) -> AsyncIterator[str]:
        """NDJSON lines: a snapshot, then each change; a beat when there was none for BEAT_S."""
        queue: asyncio.Queue[Report] = asyncio.Queue(maxsize=QUEUE_MAX)
        self._watchers.add(queue)
        try:
            items = ",".join(report.model_dump_json() for report in self._last.values())
            yield f'{{"type":"snapshot","items":[{items}]}}\n'
            while queue in self._watchers:
                try:
                    report = await asyncio.wait_for(queue.get(), BEAT_S)
                except TimeoutError:
                    yield '{"type":"beat"}\n'
                    continue
                yield f'{{"type":"report","item":{report.model_dump_json()}}}\n'
        finally:
            self._watchers.discard(queue)
