"""kill -9 of control or agent at every step of every move: start again, and the world converges with nothing lost.

A step is the moment before and after each method of the parts that change something (site/sitecustomize.py). For
each move the Nth step is tried for N = 1, 3, 5 … until the move has fewer steps than that: after one method is mostly
before the next, and to try each takes a quarter of the time of all tests. SKERRY_EVERY_STEP=1 tries each.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable

import pytest

from skerry import Client, Sandbox
from skerry.errors import SkerryError
from skerry.model.checkpoint import CheckpointState
from skerry.model.sandbox import AT_REST, S
from tests import machine
from tests.server import Server
from tests.system.conftest import connect

IMAGE = "debian:12"
STEPS_MAX = 120
STRIDE = 1 if os.environ.get("SKERRY_EVERY_STEP") else 2
CONVERGE_S_MAX = 60.0


def create(client: Client, box: Sandbox) -> None:
    client.sandboxes.create(IMAGE, name="created")


def stop(client: Client, box: Sandbox) -> None:
    box.stop(grace_s=1)


def start(client: Client, box: Sandbox) -> None:
    box.start()


def checkpoint(client: Client, box: Sandbox) -> None:
    box.checkpoint("under fire")


def restore(client: Client, box: Sandbox) -> None:
    box.restore("v1")


def fork(client: Client, box: Sandbox) -> None:
    box.fork(name="forked")


def sleep(client: Client, box: Sandbox) -> None:
    box.sleep(cold=True)


def wake(client: Client, box: Sandbox) -> None:
    box.wake()


def change(client: Client, box: Sandbox) -> None:
    box.update(idle="1h", networks=["back:10.186.0.9"])
    while not box.info().applied:
        time.sleep(0.01)


def delete(client: Client, box: Sandbox) -> None:
    box.delete()


MOVES: list[Callable[[Client, Sandbox], None]] = [
    create,
    checkpoint,
    restore,
    fork,
    sleep,
    wake,
    change,
    stop,
    start,
    delete,
]


def settled(client: Client) -> bool:
    boxes = client.sandboxes.list()
    for box in boxes:
        if box.state in (S.RUNNING, S.ASLEEP):
            client.sandboxes.connect(box.id).stats()  # raises while its machine does not answer
    checkpoints = [c for box in boxes for c in client.sandboxes.connect(box.name).checkpoints()]
    return all(box.state in AT_REST for box in boxes) and all(c.state is CheckpointState.READY for c in checkpoints)


def converge(client: Client, server: Server) -> None:
    deadline = time.monotonic() + CONVERGE_S_MAX
    while time.monotonic() < deadline:
        server.revive()  # again and again: a process that was killed takes a moment to be seen dead
        with contextlib.suppress(SkerryError):
            if settled(client):
                return
        time.sleep(0.02)
    states = [(box.name, box.state) for box in client.sandboxes.list()]
    pytest.fail(f"still unsettled: {states}; log: {server.log.read_text()[-3000:]}")


def whole(client: Client, box: Sandbox) -> None:
    """Whatever happened: the box is there or was deleted, and if it is there it works and has its data."""
    try:
        state = client.sandboxes.get(box.id).state
    except SkerryError:
        return
    if state in (S.STOPPED, S.FAILED):
        box.start()
    assert box.commands.run("cat /root/data").stdout == "precious", client.sandboxes.get(box.id)
    [joined] = box.info().memberships
    assert joined.address in box.commands.run("cat /proc/net/fib_trie").stdout
    [published] = box.ports()
    assert published.listening, published


def clean_up(client: Client, server: Server) -> None:
    for box in client.sandboxes.list():
        client.sandboxes.connect(box.id).delete(force=True)
    agent = server.pid("agent")
    deadline = time.monotonic() + 30
    while True:
        subvolumes = machine.subvolumes(server.settings, agent)
        left = (
            machine.cgroups(server.settings),
            machine.processes(server.settings),
            subvolumes["disks"],
            subvolumes["checkpoints"],
            subvolumes["incoming"],
        )
        if not any(left):
            break
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
    assert machine.mounts(server.settings) == []


def standing_box(client: Client, move: Callable[[Client, Sandbox], None]) -> Sandbox:
    if not client.networks.list():
        client.networks.create("back", "10.186.0.0/24")
    box = client.sandboxes.create(IMAGE, name="box", ports=["80"], networks=["back"])
    box.files.write("/root/data", b"precious")
    box.checkpoint("first")
    if move is start:
        box.stop(grace_s=0)
    if move is wake:
        box.sleep(cold=True)
    return box


@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", ["agent", "control"])
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
def test_killed_at_every_step(server: Server, program: str, move: Callable[[Client, Sandbox], None]) -> None:
    for step in range(1, STEPS_MAX, STRIDE):
        with connect(server) as client:
            box = standing_box(client, move)
            server.arm(program, step)
            with contextlib.suppress(SkerryError):
                server.supervise(functools.partial(move, client, box))
            reached_the_end = server.disarm(program)
            converge(client, server)
            whole(client, box)
            clean_up(client, server)
        if reached_the_end:
            assert step > 3, "the move had no steps: nothing was tested"
            return
    pytest.fail(f"more than {STEPS_MAX} steps")
