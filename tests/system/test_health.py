"""A sandbox whose main process is looked after: its health, its starting again, and those who wait for either."""

from __future__ import annotations

import pytest

from skerry import Client, Sandbox
from skerry.errors import DeadlineExceeded, Failed
from skerry.model.sandbox import S
from tests.server import Server
from tests.system.conftest import IMAGE
from tests.system.services_world import until, web

pytestmark = pytest.mark.system

HEALTH = {"http": "/health", "port": 8080, "interval": "0.5s", "retries": 2, "restart": True}


def told(box: Sandbox) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for event in box.events()]


def test_one_is_looked_at_started_again_and_waited_for(server: Server, client: Client) -> None:
    command = web("main", 8080)["command"]
    with client.sandboxes.create(IMAGE, command=command, restart="always", health=HEALTH) as box:
        found = box.wait("healthy", timeout_s=60)
        assert found.health
        since = found.health.since
        server.kill("agent")
        server.start("agent")
        until(lambda: box.commands.run("true").exit_code == 0)
        adopted = box.info()
        assert adopted.health
        assert (adopted.health.state.value, adopted.health.since, adopted.restarts) == ("healthy", since, 0)

        box.commands.run("touch /root/sick-main")
        until(lambda: box.info().restarts >= 1)
        box.wait("running")
        with pytest.raises(DeadlineExceeded, match="not healthy yet"):
            box.wait("healthy", timeout_s=0.3)
        box.commands.run("rm /root/sick-main")
        box.wait("healthy", timeout_s=60)
        assert ("unhealthy", "GET /health was answered with 503") in told(box)
        again = "it was unhealthy: GET /health was answered with 503; it is started again in 0.5 s"
        assert ("restarting", again) in told(box)

        before = box.info().restarts
        box.commands.run("kill $(cat /root/pid-main)")
        until(lambda: box.info().restarts > before)
        assert box.wait("healthy", timeout_s=60).state is S.RUNNING
        before = box.info().restarts
        box.sleep(cold=True, force=True)
        assert box.info().health is None
        box.wake()
        assert box.wait("healthy", timeout_s=60).restarts == before

        box.update(health={"command": ["false"], "interval": "0.5s"})
        until(lambda: box.info().applied and box.info().health != found.health)
        with pytest.raises(DeadlineExceeded):
            box.wait("healthy", timeout_s=0.1)
        box.stop(grace_s=0)
        assert box.wait("stopped").exit is not None
        with pytest.raises(Failed, match="it is stopped"):
            box.wait("running")
