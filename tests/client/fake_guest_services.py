"""Services of the fake control plane: what is added is healthy, and each has one line in its log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from skerry.errors import NotFound
from skerry.model.guest_service import GuestService, GuestServiceSpec, GuestServiceState, GuestServiceStatus
from skerry.model.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl

STATES = {
    "start": GuestServiceState.STARTING,
    "stop": GuestServiceState.STOPPED,
    "restart": GuestServiceState.STARTING,
}


class FakeGuestServices:
    def __init__(self, control: FakeControl) -> None:
        self._control = control

    def routes(self, box: str) -> list[web.RouteDef]:
        one = box + "/services/{service}"
        return [
            web.get(box + "/services", self._list),
            web.put(one, self._put),
            web.delete(one, self._remove),
            web.get(one + "/logs", self._logs),
            web.post(one + "/{verb}", self._act),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        sandbox = self._sandbox(request)
        items = ",".join(service(sandbox, name).model_dump_json() for name in sandbox.spec.services)
        return web.json_response(text=f'{{"items":[{items}]}}')

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["service"]
        spec = GuestServiceSpec.model_validate_json(await request.read())
        sandbox = self._with(self._sandbox(request), name, GuestServiceState.HEALTHY, spec)
        return web.json_response(text=service(sandbox, name).model_dump_json())

    async def _remove(self, request: web.Request) -> web.Response:
        sandbox, name = self._named(request)
        services = {key: spec for key, spec in sandbox.spec.services.items() if key != name}
        self._control.change(sandbox, spec=sandbox.spec.model_copy(update={"services": services}))
        return web.json_response(text=service(sandbox, name).model_dump_json())

    async def _act(self, request: web.Request) -> web.Response:
        sandbox, name = self._named(request)
        state = STATES[request.match_info["verb"]]
        sandbox = self._with(sandbox, name, state, sandbox.spec.services[name])
        return web.json_response(text=service(sandbox, name).model_dump_json())

    async def _logs(self, request: web.Request) -> web.Response:
        _, name = self._named(request)
        return web.Response(text=f"{name} says so\n")

    def _sandbox(self, request: web.Request) -> Sandbox:
        return self._control.find(request.match_info["ref"])

    def _named(self, request: web.Request) -> tuple[Sandbox, str]:
        sandbox, name = self._sandbox(request), request.match_info["service"]
        if name not in sandbox.spec.services:
            raise NotFound(f"sandbox {sandbox.name} has no service {name}")
        return sandbox, name

    def _with(self, sandbox: Sandbox, name: str, state: GuestServiceState, spec: GuestServiceSpec) -> Sandbox:
        services = {**sandbox.spec.services, name: spec}
        statuses = [status for status in sandbox.services if status.name != name]
        statuses.append(GuestServiceStatus(name=name, state=state, since=datetime.now(UTC)))
        spec_now = sandbox.spec.model_copy(update={"services": services})
        return self._control.change(sandbox, spec=spec_now, services=tuple(statuses))


def service(sandbox: Sandbox, name: str) -> GuestService:
    status = next((status for status in sandbox.services if status.name == name), None)
    return GuestService(name=name, spec=sandbox.spec.services[name], status=status)
