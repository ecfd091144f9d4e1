"""Hold a sandbox to what its order says of the network: how fast it is, what it may reach, and in whose company."""

from __future__ import annotations

from skerry.agent.egress.egress import Egress
from skerry.agent.networks.memberships import Memberships
from skerry.agent.networks.names import Names
from skerry.agent.slots import SlotPool
from skerry.model.order import Order
from skerry.runtime.contract import Slot


class Reach:
    def __init__(self, *, slots: SlotPool, egress: Egress, memberships: Memberships) -> None:
        self._slots = slots
        self._egress = egress
        self._memberships = memberships

    async def hold(self, order: Order, slot: Slot) -> None:
        """Before its first process, so that it is judged from its first packet on; and on every change."""
        sandbox_id = order.sandbox_id
        await self._slots.limit(sandbox_id, order.spec.bandwidth)
        await self._egress.hold(sandbox_id, slot.address, order.policy, member=bool(order.networks))
        await self._memberships.hold(sandbox_id, _names(order), order.networks)

    def know(self, order: Order) -> None:
        """Of one that sleeps, and whose network is made when it wakes."""
        self._memberships.know(order.sandbox_id, _names(order), order.networks)

    async def leave(self, sandbox_id: str) -> None:
        """It does not run: in its private networks there is nobody to be reached."""
        await self._memberships.leave(sandbox_id)

    async def forget(self, sandbox_id: str) -> None:
        await self._memberships.leave(sandbox_id)
        await self._egress.forget(sandbox_id)


def _names(order: Order) -> Names:
    return Names(order.name, order.hostname)
