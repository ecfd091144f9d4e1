"""What a create waits for its network: a slot made ahead, put under the sandbox's policy, beside the same by hand."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from harness import Table, arguments
from peers.client import Peers

from skerry.agent.firewall import Firewall, Placed
from skerry.agent.slots import SlotPool
from skerry.runtime.catalog import prepare_process

AHEAD = 12
SLOTS_MAX = 256
REST_S = 0.5
"""Between two creates: slots are made ahead in the background, and a person does not create at the rate of a loop."""


class Ours:
    """The part of the agent that does it, alone on its own addresses."""

    def __init__(self, folder: Path, subnet: str, ahead: int) -> None:
        instance = secrets.token_hex(2)
        folder.mkdir()
        self._firewall = Firewall(instance=instance, subnet=subnet, nameserver=None)
        self._slots = SlotPool(
            instance=instance,
            run_path=folder,
            subnet=subnet,
            ahead=ahead,
            firewall=self._firewall,
            count_max=SLOTS_MAX,
        )

    async def open(self) -> None:
        await self._slots.open({})

    async def set_up_ms(self, name: str) -> float:
        began = time.perf_counter()
        slot = await self._slots.lease(name, network=True)
        assert slot.address is not None
        await asyncio.to_thread(self._firewall.place, slot.address, Placed(), anew=False)
        took_ms = (time.perf_counter() - began) * 1000
        await self._slots.release(name)
        return took_ms

    async def close(self) -> None:
        await self._slots.close()
        self._firewall.open()
        self._firewall.purge()
        self._firewall.close()


async def measure(folder: Path, peers: Peers, rounds: int) -> dict[str, list[float]]:
    pooled = Ours(folder / "pooled", "10.203.0.0/21", AHEAD)
    fresh = Ours(folder / "fresh", "10.203.8.0/21", 0)
    found: dict[str, list[float]] = {"pooled": [], "fresh": [], "hand": []}
    peers.ask("crun", "open_network")
    try:
        await pooled.open()
        await fresh.open()
        for number in range(rounds + 1):
            await asyncio.sleep(REST_S)
            took_ms = {
                "pooled": await pooled.set_up_ms(f"box-{number}"),
                "fresh": await fresh.set_up_ms(f"box-{number}"),
                "hand": peers.ask("crun", "network", f"net-{number}"),
            }
            if number:  # the first round warms up
                for side, took in took_ms.items():
                    found[side].append(took)
    finally:
        await pooled.close()
        await fresh.close()
    return found


def main() -> None:
    chosen = arguments(30, __doc__)
    rounds = 5 if chosen.quick else chosen.rounds
    folder = Path(tempfile.mkdtemp(prefix="skerry-network-", dir="/var/tmp"))
    prepare_process()  # before the first thread: slots are mounts that nobody else is to see
    try:
        with Peers() as peers:
            found = asyncio.run(measure(folder, peers, rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table(f"network_setup: {rounds} rounds")
    table.times("network_setup/create_share_ms", found["pooled"], ip_and_nft_by_hand=found["hand"])
    table.times("network_setup/without_pool_ms", found["fresh"], ip_and_nft_by_hand=found["hand"])
    table.print_figures()


if __name__ == "__main__":
    main()
