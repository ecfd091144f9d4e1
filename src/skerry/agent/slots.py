"""Places for sandboxes to live in, made ahead so that no create waits for a network: number, ids, namespaces, cable."""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from skerry.agent.bandwidth import BandwidthLimits
from skerry.agent.firewall import Firewall
from skerry.agent.links import ADDRESSES_PER_SLOT, Cable, cable_of, connect, delete, exists, links_of
from skerry.agent.namespaces import UID_COUNT, Pins, pin_new
from skerry.errors import Failed, LimitReached, SkerryError
from skerry.model.sandbox import Bandwidth
from skerry.runtime.contract import Slot

BATCH_MAX = 4
"""Made at one time: more would keep a small machine busy while sandboxes want it."""
PAUSE_S = 0.1
"""Between batches that nobody waits for."""
RETRY_S = 5.0
"""After a batch that failed with nobody waiting."""
VANISH_S, VANISH_POLL_S = 5.0, 0.05
"""How long a link has to go with its namespace before it is deleted by name."""

log = logging.getLogger(__name__)


class SlotPool:
    """A sandbox has one number, hence one address and one range of ids, from its first lease to its release."""

    def __init__(
        self, *, instance: str, run_path: Path, subnet: str, ahead: int, firewall: Firewall, count_max: int
    ) -> None:
        self._instance = instance
        self._folder = run_path / "slots"
        self._subnet = ipaddress.IPv4Network(subnet)
        self._ahead = ahead
        self._firewall = firewall
        # The last one's addresses are not given out: the resolver has one of them.
        self._count_max = min(count_max + ahead, self._subnet.num_addresses // ADDRESSES_PER_SLOT - 1)
        self._used: dict[str, int] = {}
        self._networked: dict[int, bool] = {}  # of the numbers whose namespaces are pinned
        self._ready: deque[int] = deque()
        self._free: list[int] = []  # a heap: numbers that were given back
        self._fresh = 0  # every number from here on was never taken
        self._reserved: set[int] = set()  # numbers of `taken`, which may lie beyond _fresh
        self._askers: deque[asyncio.Future[int]] = deque()
        self._leaving: deque[int] = deque()
        self._wanted = asyncio.Event()
        self._left = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._changing = threading.Lock()  # a thread goes on after the task that waited for it was cancelled
        self._closed = True
        self._bandwidth = BandwidthLimits()

    async def open(self, taken: dict[str, int]) -> None:
        """Clear away what a killed agent left, but for the numbers of sandboxes that live."""
        self._used = dict(taken)
        self._reserved = set(taken.values())
        addresses = [str(self._cable(number).guest.ip) for number in self._reserved]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        await asyncio.to_thread(self._clear_pins)
        await asyncio.to_thread(self._firewall.open, addresses)
        self._closed = False
        for number in links_of(self._instance):
            if number not in self._reserved:
                self._reserved.add(number)  # until it is gone
                self._leave(number)
        self._tasks = [asyncio.create_task(self._fill(), name="slots-fill")]
        self._tasks.append(asyncio.create_task(self._empty(), name="slots-empty"))

    def _clear_pins(self) -> None:
        with self._changing:
            for entry in self._folder.iterdir():
                if entry.suffix in (".user", ".net"):
                    self._pins(int(entry.stem)).remove()

    async def close(self) -> None:
        """Let go of every namespace; those of running sandboxes live on with their processes."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ready = [*self._ready, *self._leaving]
        await asyncio.to_thread(self._clear_pins)
        if ready:
            await asyncio.to_thread(self._firewall.dismiss, self._pairs(ready))
        self._firewall.close()

    def used(self) -> dict[str, int]:
        return dict(self._used)

    def network_of(self, sandbox_id: str) -> Path:
        """The file that pins its network namespace. Raises Failed for a sandbox without a slot."""
        number = self._used.get(sandbox_id)
        if number is None:
            raise Failed(f"sandbox {sandbox_id} has no network")
        return self._pins(number).network

    def cable(self, sandbox_id: str) -> Cable | None:
        """None for a sandbox without a slot; of one whose network is off, the one that it would have."""
        number = self._used.get(sandbox_id)
        return None if number is None else self._cable(number)

    async def lease(self, sandbox_id: str, *, network: bool) -> Slot:
        """The sandbox's slot with its namespaces in place; the same one again for as long as it is not released."""
        number = self._used.get(sandbox_id)
        if number is not None:
            if self._networked.get(number) is not network:
                await self._make([number], network)
                self._bandwidth.forget(self._cable(number).link)  # another cable, without the limits of the old one
            return self._finished(number, network)
        number = await self._ask() if network else self._take()
        self._used[sandbox_id] = number
        try:
            if not network:
                await self._make([number], network)
            return self._finished(number, network)
        except BaseException:
            await self.release(sandbox_id)
            raise

    async def limit(self, sandbox_id: str, wanted: Bandwidth) -> None:
        """Of a sandbox whose namespaces are in place; without a network there is nothing to limit."""
        number = self._used.get(sandbox_id)
        if number is not None and self._networked.get(number):
            await self._bandwidth.set(self._cable(number).link, self._pins(number).network, wanted)

    async def ensure(self, sandbox_id: str, pid: int | None, *, network: bool) -> Slot:
        """After a restart of the agent: pin again what the running process `pid` lives in, or make it anew."""
        number = self._used.get(sandbox_id)
        if pid is None or number is None:
            return await self.lease(sandbox_id, network=network)
        pins = self._pins(number)
        if not pins.is_home_of(pid):
            raise Failed(f"sandbox {sandbox_id} does not run", because=f"process {pid} is not in slot {number}")
        pins.bind(pid)
        self._networked[number] = network
        if network:
            await asyncio.to_thread(self._firewall.admit, self._pairs([number]))
        return self._finished(number, network)

    async def release(self, sandbox_id: str) -> None:
        """Give the slot back; it is taken down in the background and only then its number is free."""
        number = self._used.pop(sandbox_id, None)
        if number is not None:
            self._leave(number)

    def _finished(self, number: int, network: bool) -> Slot:
        cable, pins = self._cable(number), self._pins(number)
        return Slot(
            number=number,
            uid_base=pins.uid_base,
            uid_count=UID_COUNT,
            user_namespace=pins.user,
            network_namespace=pins.network,
            address=str(cable.guest.ip) if network else None,
            nameserver=str(cable.gateway.ip) if network else None,
        )

    # Numbers

    def _take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        while self._fresh in self._reserved:
            self._fresh += 1
        if self._fresh >= self._count_max:
            raise LimitReached(
                "every network slot of this machine is in use: delete a sandbox, or widen network_subnet"
            )
        self._fresh += 1
        return self._fresh - 1

    def _give_back(self, number: int) -> None:
        self._reserved.discard(number)
        if number < self._fresh:
            heapq.heappush(self._free, number)

    def _pins(self, number: int) -> Pins:
        return Pins(number, self._folder / f"{number}.user", self._folder / f"{number}.net")

    def _cable(self, number: int) -> Cable:
        return cable_of(self._instance, self._subnet, number)

    def _pairs(self, numbers: Iterable[int]) -> list[tuple[str, str]]:
        cables = [self._cable(number) for number in numbers]
        return [(cable.link, str(cable.guest.ip)) for cable in cables]

    # Making

    async def _ask(self) -> int:
        """One that is ready, else the next one made."""
        self._wanted.set()
        if self._ready:
            return self._ready.popleft()
        asker: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        try:
            return await asker
        except asyncio.CancelledError:
            if asker.done() and not asker.cancelled() and asker.exception() is None:
                self._ready.append(asker.result())
            raise

    async def _fill(self) -> None:
        """Keep `ahead` of them ready; asleep when they are."""
        while True:
            missing = self._ahead + len(self._askers) - len(self._ready)
            if missing <= 0:
                self._wanted.clear()
                await self._wanted.wait()
                if not self._askers:
                    await asyncio.sleep(PAUSE_S)  # whoever took one is about to start something: let it go first
                continue
            try:
                numbers = self._take_some(min(missing, BATCH_MAX))
                await self._make(numbers, network=True)
            except (SkerryError, OSError) as error:
                await self._disappoint(error)
                continue
            for number in numbers:
                self._hand_out(number)
            if not self._askers:
                await asyncio.sleep(PAUSE_S)

    async def _disappoint(self, error: Exception) -> None:
        """Tell all who wait; with nobody waiting, rest before the next try."""
        askers, self._askers = self._askers, deque()
        for asker in askers:
            if not asker.done():
                asker.set_exception(error)
        if not askers and not isinstance(error, LimitReached):
            log.warning("could not make slots ahead: %s (%s)", error, getattr(error, "because", None))
        self._wanted.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), RETRY_S)

    def _take_some(self, count: int) -> list[int]:
        numbers = [self._take()]
        try:
            while len(numbers) < count:
                numbers.append(self._take())
        except LimitReached:
            pass
        return numbers

    def _hand_out(self, number: int) -> None:
        while self._askers:
            asker = self._askers.popleft()
            if not asker.done():
                asker.set_result(number)
                return
        self._ready.append(number)

    async def _make(self, numbers: Sequence[int], network: bool) -> None:
        try:
            await asyncio.to_thread(self._make_now, numbers, network)
        except BaseException:
            for number in set(numbers) - set(self._used.values()):
                self._leave(number)
            raise
        self._networked.update(dict.fromkeys(numbers, network))

    def _make_now(self, numbers: Sequence[int], network: bool) -> None:
        with self._changing:
            if self._closed:
                raise Failed("the slots are closed")
            pins = [self._pins(number) for number in numbers]
            pin_new(pins)
            if network:
                self._firewall.admit(self._pairs(numbers))
            for number, pin in zip(numbers, pins, strict=True):
                connect(pin, self._cable(number) if network else None)

    # Taking down

    def _leave(self, number: int) -> None:
        self._networked.pop(number, None)
        self._bandwidth.forget(self._cable(number).link)
        self._leaving.append(number)
        self._left.set()

    async def _empty(self) -> None:
        while True:
            if not self._leaving:
                self._left.clear()
                await self._left.wait()
                await asyncio.sleep(PAUSE_S)  # several at once cost the kernel little more than one
            batch = list(self._leaving)
            try:
                await asyncio.to_thread(self._take_down, batch)
            except (SkerryError, OSError) as error:
                log.warning("could not take slots down: %s (%s)", error, getattr(error, "because", None))
                await asyncio.sleep(RETRY_S)
                continue
            for number in batch:
                await self._vanish(self._cable(number).link)
                self._leaving.remove(number)
                self._give_back(number)

    def _take_down(self, numbers: Sequence[int]) -> None:
        with self._changing:
            self._firewall.dismiss(self._pairs(numbers))
            for number in numbers:
                self._pins(number).remove()

    async def _vanish(self, link: str) -> None:
        """The kernel deletes links with their namespace, many in one go; a process that is stuck would keep one."""
        deadline_s = time.monotonic() + VANISH_S
        while exists(link):
            if time.monotonic() > deadline_s:
                await asyncio.to_thread(delete, link)
                return
            await asyncio.sleep(VANISH_POLL_S)
