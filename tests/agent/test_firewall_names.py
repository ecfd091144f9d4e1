"""What a name's answer opens: for how long, for whom, and what of it outlives an answer, a policy and an agent."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from skerry.agent.egress.egress import placed
from skerry.agent.firewall import Firewall
from skerry.agent.slots import SlotPool
from skerry.model.policy import Action, Policy
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Slot
from tests.agent.internet import internet_in
from tests.agent.world import FAR, HOST, INSTANCE, PATIENCE_S, PUBLIC, SILENCE_S, SUBNET, fetch, within

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
    lab.firewall.pin(lab.address, [FAR], 1)
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    assert lab.reaches(PUBLIC)
    assert not lab.reaches(PUBLIC, lab.other)
    until_pinned(lab, PUBLIC)
    assert not lab.reaches(FAR)
    assert lab.reaches(PUBLIC)


def until_pinned(lab: Lab, *addresses: str) -> None:
    """No others any more: what was pinned for a second has gone."""
    deadline_s = time.monotonic() + 30
    while lab.firewall.pins(lab.address) != set(addresses):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_later_answer_lengthens_a_pin_and_none_shortens_it(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    lab.firewall.pin(lab.address, [PUBLIC], 1)
    time.sleep(1.2)
    assert lab.reaches(PUBLIC)


class Talk:
    """One connection to an echo, which works or is cut off: then it is silent."""

    def __init__(self, lab: Lab) -> None:
        def connect() -> socket.socket:
            return socket.create_connection((PUBLIC, ECHO_PORT), timeout=PATIENCE_S)

        self._connection = within(lab.one.network_namespace, connect)

    def works(self) -> bool:
        return self._answers(PATIENCE_S)

    def is_cut(self) -> bool:
        return not self._answers(SILENCE_S)

    def _answers(self, patience_s: float) -> bool:
        self._connection.settimeout(patience_s)
        try:
            self._connection.sendall(b"x")
            return self._connection.recv(1) == b"x"
        except OSError:
            return False


def talk_begun_within_a_second(lab: Lab) -> Talk:
    """On a slow machine the pin may have gone before: then once more."""
    for _ in range(20):
        lab.firewall.pin(lab.address, [PUBLIC], 1)
        with suppress(OSError):
            return Talk(lab)
    raise AssertionError("no connection was begun while the address was open")


def test_a_connection_outlives_its_pin_and_ends_with_the_policy(lab: Lab) -> None:
    talk = talk_begun_within_a_second(lab)
    assert talk.works()
    until_pinned(lab)
    assert talk.works()
    lab.firewall.place(lab.address, CLOSED, anew=False)
    assert talk.works(), "nothing was tightened"
    lab.firewall.place(lab.address, CLOSED, anew=True, keep=[PUBLIC])
    assert talk.is_cut()


def test_what_a_tighter_policy_keeps_stays_open_and_connected(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC, FAR], 60)
    talk = Talk(lab)
    assert talk.works()
    lab.firewall.place(lab.address, CLOSED, anew=True, keep=[PUBLIC])
    assert talk.works()
    assert within(lab.one.network_namespace, lambda: fetch(FAR, 80)).startswith("refused")


def test_the_next_agent_finds_pins_and_marks_in_the_kernel(lab: Lab) -> None:
    lab.firewall.pin(lab.address, [PUBLIC], 60)
    talk = Talk(lab)
    assert talk.works()
    again = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=None)
    again.open([lab.address, str(lab.other.address)])
    try:
        assert talk.works()
        assert again.pins(lab.address) == {PUBLIC}
        again.place(lab.address, CLOSED, anew=False)
        assert talk.works(), "the same policy changes nothing"
        again.place(lab.address, CLOSED, anew=True)
        assert talk.is_cut()
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
