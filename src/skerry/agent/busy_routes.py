"""How busy sandboxes of this machine are: one question for many, as an autoscaler asks it each second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from skerry.agent.devices import Devices
from skerry.agent.sandboxes import Sandboxes
from skerry.clock import Clock
from skerry.errors import NotFound
from skerry.model.order import Order
from skerry.model.stats import Work, WorkAsked, Works
from skerry.runtime.contract import Runtime


class BusyRoutes:
    def __init__(self, *, sandboxes: Sandboxes, runtime: Runtime, devices: Devices, clock: Clock) -> None:
        self._sandboxes = sandboxes
        self._runtime = runtime
        self._devices = devices
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        return [Route("/busy", self.busy, methods=["POST"])]

    async def busy(self, request: Request) -> Response:
        asked = WorkAsked.model_validate_json(await request.body())
        orders: list[Order] = []
        for sandbox_id in asked.sandboxes:
            with suppress(NotFound):
                orders.append(self._sandboxes.order_of(sandbox_id))
        shares: list[float | None] = []
        unknown: str | None = None
        if any(order.devices for order in orders):
            shares, unknown = await self._devices.busy()
        found = Works(
            at=self._clock.now(),
            of={
                order.sandbox_id: Work(
                    cpu_s=(await self._runtime.usage(order.sandbox_id)).cpu_s, gpu=share_of(order.devices, shares)
                )
                for order in orders
            },
            gpu_unknown=unknown,
        )
        return Response(found.model_dump_json(), media_type="application/json")


def share_of(devices: Sequence[tuple[int, int, int]], shares: Sequence[float | None]) -> float | None:
    """The mean over the sandbox's devices; None: it has none, or one of them does not tell."""
    told = [shares[index] if index < len(shares) else None for index, _, _ in devices]
    known = [share for share in told if share is not None]
    return sum(known) / len(known) if known and len(known) == len(told) else None
