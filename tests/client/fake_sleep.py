"""Sleep of the fake control plane: states change at once, leases are remembered and never run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from skerry.errors import Conflict, NotFound
from skerry.model.identity import make_id
from skerry.model.sandbox import S
from skerry.model.sleep import Activity, Asleep, Lease, LeaseRequest, SleepRequest

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl


class FakeSleep:
    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self._leases: dict[str, Lease] = {}

    def routes(self, box: str) -> list[web.RouteDef]:
        return [
            web.post(box + "/sleep", self._sleep),
            web.post(box + "/wake", self._wake),
            web.get(box + "/activity", self._activity),
            web.post(box + "/leases", self._grant),
            web.delete(box + "/leases/{lease}", self._end),
        ]

    async def _sleep(self, request: web.Request) -> web.Response:
        asked = SleepRequest.model_validate_json(await request.read())
        if self._leases and not asked.force:
            raise Conflict("it is kept awake by a lease")
        asleep = Asleep(tier=asked.tier, since=datetime.now(UTC), why="asked")
        sandbox = self._control.find(request.match_info["ref"])
        return _json(self._control.change(sandbox, state=S.ASLEEP, asleep=asleep))

    async def _wake(self, request: web.Request) -> web.Response:
        sandbox = self._control.find(request.match_info["ref"])
        return _json(self._control.change(sandbox, state=S.RUNNING, asleep=None))

    async def _activity(self, request: web.Request) -> web.Response:
        return _json(
            Activity(
                asleep=self._control.find(request.match_info["ref"]).asleep,
                kept_awake_by=[f"lease: {lease.note}" for lease in self._leases.values()],
                leases=list(self._leases.values()),
                last_active_at=datetime.now(UTC),
                last_active_by="exec",
                woken_at=None,
                woken_by=None,
                sleeps_at=None,
                cold_at=None,
            )
        )

    async def _grant(self, request: web.Request) -> web.Response:
        asked = LeaseRequest.model_validate_json(await request.read())
        lease = Lease(
            id=make_id("lease", b"%06d" % len(self._leases)),
            note=asked.note,
            until=datetime.now(UTC) + timedelta(seconds=asked.for_s),
        )
        self._leases[lease.id] = lease
        return _json(lease, 201)

    async def _end(self, request: web.Request) -> web.Response:
        lease = self._leases.pop(request.match_info["lease"], None)
        if lease is None:
            raise NotFound("there is no such lease")
        return _json(lease)


def _json(record: Any, status: int = 200) -> web.Response:
    return web.json_response(text=record.model_dump_json(), status=status)
