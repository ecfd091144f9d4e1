"""kill -9 of the agent at every step of starting, changing and stopping services: each runs, and none runs twice."""

from __future__ import annotations

import contextlib
import time

import pytest

from skerry import Sandbox
from skerry.errors import SkerryError
from tests.server import Server
from tests.system.conftest import IMAGE, connect
from tests.system.services_world import all_healthy, history, states, until, web

STEPS_MAX = 60


@pytest.mark.timeout(300)
def test_killed_at_every_step(server: Server) -> None:
    with connect(server) as client:
        box = client.sandboxes.create(IMAGE, services={"db": web("db", 5432)})
        until(lambda: all_healthy(box))
        for step in range(1, STEPS_MAX):
            server.arm("agent", step)
            change = {"needs": ["db"], "port": 8080, "env": {"MARK": str(step)}}
            box.services.add("web", web("web", 8080)["command"], **change)
            deadline = time.monotonic() + 60
            while not (all_healthy(box) and "web" in states(box) and box.info().applied and f"web {step}" in said(box)):
                server.revive()
                assert time.monotonic() < deadline, (step, box.info().services, server.died_at("agent")[-1:])
                time.sleep(0.03)
            reached_the_end = server.disarm("agent")
            assert not [line for line in history(box) if line.startswith("twice")], server.died_at("agent")[-1]
            assert history(box).count("began db") == 1, "the other was left alone"
            if reached_the_end:
                assert step > 8, "there were no steps: nothing was tested"
                return
    pytest.fail(f"more than {STEPS_MAX} steps")


def said(box: Sandbox) -> str:
    with contextlib.suppress(SkerryError):
        return box.services.logs("web")
    return ""
