"""An agent killed in the middle of a start, a stop or a checkpoint: the next one finds every sandbox usable."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from skerry.errors import Conflict
from skerry.runtime.catalog import CATALOG
from tests.runtime.conftest import IMAGE, Machine
from tests.runtime.test_container import nothing_is_left

AGENT = """
import asyncio, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from tests.runtime.conftest import IMAGE, Machine, make_settings
from skerry.runtime.catalog import CATALOG
from skerry.runtime.contract import Slot

settings = make_settings(Path({folder!r}))
runtime = CATALOG["container"](settings)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
machine = Machine(runtime, loop, Path({folder!r}), settings, iter(()))
at = Path({folder!r}) / "slots" / {slot!r}
slot = Slot(int({slot!r}), {uid_base}, 65536, at / "user", at / "net", None, None)

async def act():
    await runtime.open()
    await runtime.create_disk({box!r}, IMAGE, None)
    if {verb!r} == "start":
        print("go", flush=True)
    await runtime.start(machine.plan({box!r}, slot), lambda _: None)
    if {verb!r} == "checkpoint":
        print("go", flush=True)
        for number in range(1000):
            await runtime.checkpoint({box!r}, "cp-killed-%d" % number)
    if {verb!r} == "stop":
        print("go", flush=True)
        await runtime.stop({box!r}, 0)
    await asyncio.sleep(100)

loop.run_until_complete(act())
"""
MOMENTS = [
    *(("start", delay_ms) for delay_ms in (0, 2, 4, 6, 8, 10, 13, 17)),
    *(("checkpoint", delay_ms) for delay_ms in (1, 2, 4, 7)),
    *(("stop", delay_ms) for delay_ms in (0, 1, 2, 3)),
]


USABLE = (0, "usable\n")


def answer(machine: Machine, box: str) -> tuple[int | None, str]:
    try:
        return machine.sh(box, "echo usable")
    except Conflict as error:
        return None, str(error)


@pytest.mark.parametrize(("verb", "delay_ms"), MOMENTS)
def test_agent_killed(machine: Machine, verb: str, delay_ms: int) -> None:
    box, slot = machine.new_id(), machine.slot()
    machine.run(machine.runtime.close())
    script = AGENT.format(
        repository=str(Path(__file__).parents[2]),
        folder=str(machine.folder),
        slot=str(slot.number),
        uid_base=slot.uid_base,
        box=box,
        verb=verb,
    )
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"go\n"
    time.sleep(delay_ms / 1000)
    agent.kill()
    agent.wait()
    agent.stdout.close()

    machine.runtime = CATALOG["container"](machine.settings)
    machine.run(machine.runtime.open())
    found = {item.sandbox_id: item for item in machine.run(machine.runtime.look())}[box]
    adopted = machine.run(machine.runtime.adopt(box, lambda _: None))
    assert adopted == found.pid
    machine.run(machine.runtime.create_disk(box, IMAGE, None))
    machine.run(machine.runtime.start(machine.plan(box, slot), machine.collect(box)))
    if verb == "stop" and answer(machine, box) != USABLE:
        # Its signal had been sent before it was found running, and had its effect only then.
        machine.run(machine.runtime.wait(box))
        machine.run(machine.runtime.start(machine.plan(box, slot), machine.collect(box)))
    assert answer(machine, box) == USABLE
    machine.run(machine.runtime.destroy(box))
    nothing_is_left(machine, box)
    for checkpoint in machine.run(machine.runtime.checkpoints()):
        machine.run(machine.runtime.delete_checkpoint(checkpoint))
