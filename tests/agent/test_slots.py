"""Slots in the real kernel: nothing is shared, and nothing is left of a sandbox or a killed agent."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from skerry.agent.firewall import Firewall
from skerry.agent.links import links_of
from skerry.agent.namespaces import UID_COUNT, UID_FIRST
from skerry.agent.slots import SlotPool
from skerry.errors import Failed, LimitReached
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Slot
from tests.agent.world import INSTANCE, PRIVATE, SUBNET, allow, fetch, within, world_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NS_GET_USERNS = 0xB701
WAIT_S = 30.0
Use = Callable[[SlotPool], Coroutine[None, None, None]]


@pytest.fixture(scope="module", autouse=True)
def _own_mounts() -> None:
    unshare_mount_namespace()


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    wait_for_no_links()  # those of another module are taken down in the background
    firewall = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=None)
    yield firewall
    firewall.open()
    firewall.purge()
    firewall.close()
    wait_for_no_links()


def wait_for_no_links() -> None:
    deadline_s = time.monotonic() + WAIT_S
    while links_of(INSTANCE) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert links_of(INSTANCE) == {}, "links were left"


def slots_in(folder: Path, firewall: Firewall, *, ahead: int = 2, count_max: int = 16) -> SlotPool:
    return SlotPool(
        instance=INSTANCE, run_path=folder, subnet=SUBNET, ahead=ahead, firewall=firewall, count_max=count_max
    )


def using(slots: SlotPool, use: Use, taken: dict[str, int] | None = None) -> None:
    async def run() -> None:
        await slots.open(taken or {})
        try:
            await use(slots)
        finally:
            await slots.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 — the kernel tells nobody
            await asyncio.sleep(0.02)


def inode(path: Path | str) -> int:
    return os.stat(path).st_ino


def live_in(slot: Slot) -> subprocess.Popen[bytes]:
    """A process in both namespaces of a slot, as a sandbox's are; ready when it has said so."""
    enter = ["nsenter", f"--user={slot.user_namespace}", f"--net={slot.network_namespace}"]
    process = subprocess.Popen([*enter, "sh", "-c", "echo in; exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    return process


def test_a_slot_has_its_own_ids_and_a_network_that_belongs_to_them(tmp_path: Path, firewall: Firewall) -> None:
    async def use(slots: SlotPool) -> None:
        one, other = [await slots.lease(name, network=True) for name in ("one", "other")]
        assert {one.uid_base, other.uid_base} == {UID_FIRST, UID_FIRST + UID_COUNT}
        assert one.address != other.address
        for slot in (one, other):
            with slot.network_namespace.open("rb") as network:
                owner = fcntl.ioctl(network, NS_GET_USERNS)
            assert os.fstat(owner).st_ino == inode(slot.user_namespace)
            os.close(owner)
            with live_in(slot) as process:
                ids = Path(f"/proc/{process.pid}/uid_map").read_text().split()
                assert ids == ["0", str(slot.uid_base), "65536"]
                process.kill()
        assert len({inode(slot.network_namespace) for slot in (one, other)} | {inode("/proc/self/ns/net")}) == 3

    using(slots_in(tmp_path, firewall), use)


def test_a_sandbox_keeps_its_slot_until_released_and_the_number_waits_for_the_end(
    tmp_path: Path, firewall: Firewall
) -> None:
    async def use(slots: SlotPool) -> None:
        first = await slots.lease("sb", network=True)
        assert await slots.lease("sb", network=True) == first
        assert slots.used() == {"sb": first.number}
        allow(firewall, first, "10.98.0.0/24")
        await slots.release("sb")
        await slots.release("sb")
        assert slots.used() == {}
        second = await slots.lease("sb", network=True)
        assert second.number != first.number
        await until(lambda: not first.network_namespace.exists() and first.number not in links_of(INSTANCE))
        assert not re.search(rf"\b{first.address}\b", nft_elements())

    using(slots_in(tmp_path, firewall, ahead=0), use)


def nft_elements() -> str:
    command = ["nft", "list", "table", "inet", f"skerry_{INSTANCE}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_numbers_come_back_and_run_out_with_a_clear_word(tmp_path: Path, firewall: Firewall) -> None:
    async def use(slots: SlotPool) -> None:
        taken = [await slots.lease(f"sb-{n}", network=True) for n in range(3)]
        with pytest.raises(LimitReached, match="network_subnet"):
            await slots.lease("sb-more", network=True)
        with pytest.raises(LimitReached):
            await slots.lease("sb-more", network=False)
        assert "sb-more" not in slots.used()
        await slots.release("sb-1")
        await until(lambda: slots._free == [taken[1].number])
        again = await slots.lease("sb-more", network=False)
        assert again.number == taken[1].number

    using(slots_in(tmp_path, firewall, ahead=0, count_max=3), use)


def test_without_network_there_is_only_loopback(tmp_path: Path, firewall: Firewall) -> None:
    def names() -> list[str]:
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
        return [line.split(":")[0].strip() for line in lines]

    async def use(slots: SlotPool) -> None:
        off = await slots.lease("sb", network=False)
        assert (off.address, off.nameserver) == (None, None)
        assert within(off.network_namespace, names) == ["lo"]
        on = await slots.lease("sb", network=True)
        assert on.number == off.number
        assert sorted(within(on.network_namespace, names)) == ["eth0", "lo"]
        assert (await slots.lease("sb", network=False)).address is None
        await until(lambda: on.number not in links_of(INSTANCE))

    using(slots_in(tmp_path, firewall, ahead=0), use)


def test_many_at_once_get_different_slots_and_the_pool_fills_again(tmp_path: Path, firewall: Firewall) -> None:
    async def use(slots: SlotPool) -> None:
        await until(lambda: len(links_of(INSTANCE)) == 3)
        leases = (slots.lease(f"sb-{n}", network=True) for n in range(12))
        got = await asyncio.gather(*leases)
        assert len({slot.number for slot in got}) == len({slot.address for slot in got}) == 12
        await until(lambda: len(links_of(INSTANCE)) == 15)
        spent_s = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - spent_s < 0.2, "a full pool rests"
        for n in range(12):
            await slots.release(f"sb-{n}")
        await until(lambda: len(links_of(INSTANCE)) == 3)
        assert len(list((tmp_path / "slots").iterdir())) == 6

    using(slots_in(tmp_path, firewall, ahead=3), use)
    assert list((tmp_path / "slots").iterdir()) == []


def test_a_cancelled_lease_gives_its_slot_back(tmp_path: Path, firewall: Firewall) -> None:
    async def use(slots: SlotPool) -> None:
        tasks = [asyncio.create_task(slots.lease(f"sb-{n}", network=n % 2 == 0)) for n in range(6)]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for number, slot in enumerate(ended):
            if isinstance(slot, Slot):
                await slots.release(f"sb-{number}")
        assert slots.used() == {}
        await until(lambda: len(slots._free) + len(slots._ready) == slots._fresh)
        assert len({(await slots.lease(f"new-{n}", network=True)).number for n in range(8)}) == 8

    using(slots_in(tmp_path, firewall, ahead=0, count_max=8), use)


def killed_agent(folder: Path) -> tuple[int, int]:
    """An agent that leases two slots, puts a sandbox into one, and is killed; the sandbox's pid and slot number."""
    script = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from skerry.agent.firewall import Firewall
from skerry.agent.slots import SlotPool
from skerry.runtime.container.syscalls import unshare_mount_namespace
from tests.agent.test_slots import live_in, slots_in
from tests.agent.world import allow
async def main():
    firewall = Firewall(instance={INSTANCE!r}, subnet={SUBNET!r}, nameserver=None)
    slots = slots_in(Path({str(folder)!r}), firewall)
    await slots.open({{}})
    allow(firewall, await slots.lease("sb-gone", network=True), "10.98.0.0/24")
    slot = await slots.lease("sb-alive", network=True)
    allow(firewall, slot, "10.99.0.0/24")
    print(live_in(slot).pid, slot.number, flush=True)
    await asyncio.sleep(60)
unshare_mount_namespace()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        pid, number = agent.stdout.readline().split()
        agent.kill()
    return int(pid), int(number)


def test_after_a_kill_the_living_keep_their_network_and_the_rest_goes(tmp_path: Path, firewall: Firewall) -> None:
    folder = tmp_path / "run"
    pid, number = killed_agent(folder)

    async def use(slots: SlotPool) -> None:
        slot = await slots.ensure("sb-alive", pid, network=True)
        assert slot.number == number
        assert inode(slot.network_namespace) == inode(f"/proc/{pid}/ns/net")
        assert within(slot.network_namespace, lambda: fetch(PRIVATE, 80)) == "10.99.0.254"
        assert "10.98.0.0" not in nft_elements()
        with pytest.raises(Failed, match="does not run"):
            await slots.ensure("sb-alive", os.getpid(), network=True)
        await until(lambda: set(links_of(INSTANCE)) == {number})
        new = await slots.lease("sb-new", network=True)
        assert new.number != number

    with world_in(tmp_path / "world"):
        try:
            using(slots_in(folder, firewall, ahead=0), use, {"sb-alive": number})
            assert set(links_of(INSTANCE)) >= {number}, "closing hurts nobody who runs"
        finally:
            os.kill(pid, signal.SIGKILL)


def test_a_sandbox_that_does_not_run_gets_its_number_anew(tmp_path: Path, firewall: Firewall) -> None:
    async def use(slots: SlotPool) -> None:
        slot = await slots.ensure("sb-stopped", None, network=True)
        assert slot.number == 5
        assert slot.address == "10.211.0.22"
        assert slot.network_namespace.exists()
        others = [await slots.lease(f"sb-{n}", network=True) for n in range(7)]
        assert 5 not in {other.number for other in others}
        await slots.release("sb-stopped")
        await until(lambda: slots._free == [5])
        assert (await slots.lease("sb-last", network=True)).number == 5

    using(slots_in(tmp_path, firewall, ahead=0), use, {"sb-stopped": 5})


def test_a_stuck_process_does_not_keep_the_number_for_ever(
    tmp_path: Path, firewall: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry.agent.slots.VANISH_S", 0.2)

    async def use(slots: SlotPool) -> None:
        slot = await slots.lease("sb", network=True)
        with live_in(slot) as stuck:
            await slots.release("sb")
            await until(lambda: links_of(INSTANCE) == {})
            stuck.kill()

    using(slots_in(tmp_path, firewall, ahead=0), use)
