"""What a name's answer opens: for how long, for whom, and what of it outlives an answer, a policy and an agent."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from skerry.agent.egress.egress import placed
from skerry.agent.firewall import Firewall
from skerry.agent.slots import SlotPool
from skerry.model.policy import Action, Policy
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Slot
from tests.agent.internet import internet_in
from tests.agent.world import FAR, HOST, INSTANCE, PUBLIC, SUBNET, fetch, within

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CLOSED = placed(Policy(default=Action.DENY))
ECHO_PORT = 7


@dataclass
class Lab:
    firewall: Firewall
    one: Slot
    other: Slot

    @property
    def address(self) -> str:
        return str(self.one.address)

    def reaches(self, address: str, slot: Slot | None = None) -> bool:
        return within((slot or self.one).network_namespace, lambda: fetch(address, 80)) == HOST


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    unshare_mount_namespace()
    folder = tmp_path_factory.mktemp("names")
    firewall = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=None)
    slots = SlotPool(instance=INSTANCE, run_path=folder, subnet=SUBNET, ahead=0, firewall=firewall, count_max=8)

    async def lease() -> tuple[Slot, Slot]:
        await slots.open({})
        return await slots.lease("one", network=True), await slots.lease("other", network=True)

    async def close() -> None:
        await slots.close()
        firewall.open()
        firewall.purge()
        firewall.close()

    with asyncio.Runner() as runner, internet_in(folder / "world"):
        try:
            yield Lab(firewall, *runner.run(lease()))
        finally:
            runner.run(close())


@pytest.fixture(autouse=True)
def closed(lab: Lab) -> None:
    for slot in (lab.one, lab.other):
        lab.firewall.place(str(slot.address), CLOSED, anew=True)


def test_a_pin_opens_one_address_to_one_sandbox_for_its_time(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    assert lab.reaches(PUBLIC)
    assert not lab.reaches(PUBLIC, lab.other)
    assert lab.firewall.pins(lab.address) == {PUBLIC}
    time.sleep(1.2)
    assert not lab.reaches(PUBLIC)
    assert lab.firewall.pins(lab.address) == set()


def test_a_later_answer_lengthens_a_pin_and_none_shortens_it(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    time.sleep(1.2)
    assert lab.reaches(PUBLIC)


def talk(lab: Lab) -> Iterator[bool]:
    """Whether a connection that was begun at the first step still works at each; one that is cut off is silent."""

    def connect() -> socket.socket:
        return socket.create_connection((PUBLIC, ECHO_PORT), timeout=3)

    with within(lab.one.network_namespace, connect) as connection:
        while True:
            try:
                connection.sendall(b"x")
                yield connection.recv(1) == b"x"
            except OSError:
                yield False


def test_a_connection_outlives_its_pin_and_ends_with_the_policy(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    works = talk(lab)
    assert next(works)
    time.sleep(1.2)
    assert next(works)
    lab.firewall.place(lab.address, CLOSED, anew=False)
    assert next(works), "nothing was tightened"
    lab.firewall.place(lab.address, CLOSED, anew=True, keep=[PUBLIC])
    assert not next(works)


def test_what_a_tighter_policy_keeps_stays_open_and_connected(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC, FAR], 60)
    works = talk(lab)
    assert next(works)
    lab.firewall.place(lab.address, CLOSED, anew=True, keep=[PUBLIC])
    assert next(works)
    assert within(lab.one.network_namespace, lambda: fetch(FAR, 80)).startswith("refused")


def test_the_next_agent_finds_pins_and_marks_in_the_kernel(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    works = talk(lab)
    assert next(works)
    again = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=None)
    again.open([lab.address, str(lab.other.address)])
    try:
        assert next(works)
        assert again.pins(lab.address) == {PUBLIC}
        again.place(lab.address, CLOSED, anew=False)
        assert next(works), "the same policy changes nothing"
        again.place(lab.address, CLOSED, anew=True)
        assert not next(works)
        assert not lab.reaches(PUBLIC)
    finally:
        again.close()
        lab.firewall.open([lab.address, str(lab.other.address)])


def test_what_was_a_sandboxs_goes_with_its_address(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    pair = (f"sk{INSTANCE}-{lab.one.number:x}", lab.address)
    lab.firewall.dismiss([pair])
    lab.firewall.admit([pair])
    lab.firewall.place(lab.address, CLOSED, anew=False)
    assert not lab.reaches(PUBLIC)
