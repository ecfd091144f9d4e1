"""Services in real sandboxes: in order, looked after, asleep with their sandbox, adopted by the next agent."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from skerry import Client, Sandbox
from skerry.errors import InUse, Invalid
from skerry.model.guest_service import GuestServiceState
from skerry.model.sandbox import S
from tests.server import Server
from tests.system.conftest import IMAGE
from tests.system.services_world import all_healthy, ask, history, kinds, states, until, web


@pytest.fixture
def box(client: Client) -> Iterator[Sandbox]:
    made = client.sandboxes.create(
        IMAGE,
        services={
            "web": web("web", 8080, needs=["db"], health={"http": "/health", "interval": 0.5}, env={"MARK": "marked"}),
            "db": web("db", 5432, delay_s=0.2),
        },
    )
    until(lambda: all_healthy(made))
    yield made
    made.delete(force=True)


def test_started_in_order_told_of_and_logged(server: Server, box: Sandbox) -> None:
    assert history(box) == ["began db", "began web"]
    until(lambda: kinds(box) == [("service_started", "db"), ("service_started", "web")])
    until(lambda: box.services.logs("web").startswith("web listens, web marked\n"))
    until(lambda: box.services.logs("db") == "db listens, db \n")
    [web, db] = box.services.list()
    assert (web.name, web.spec.needs, db.name, db.spec.port) == ("web", ["db"], "db", 5432)
    assert (ask(server, box, 8080), ask(server, box, 5432)) == ("web", "db")
    follow = box.services.follow_logs("web", tail=0)
    assert "looked at" in next(follow) + next(follow)


def test_one_that_ends_is_started_again_and_what_it_left_is_gone(box: Sandbox) -> None:
    """A child that holds the port would keep the next one from listening."""
    holder = "use IO::Socket::INET; IO::Socket::INET->new(LocalPort => 9000, Listen => 1, ReuseAddr => 1) or exit 9;"
    script = f"{holder} if (!fork) {{ sleep 1000 }} sleep 1; exit 3"
    box.services.add("leaver", ["perl", "-e", script], port=9000)
    until(lambda: ("service_restarted", "leaver: it ended with code 3") in kinds(box))
    status = next(one.status for one in box.services.list() if one.name == "leaver")
    assert status is not None
    assert (status.restarts >= 1, status.exit_code) == (True, 3)
    until(lambda: next(s for s in box.info().services if s.name == "leaver").restarts >= 2)
    assert next(s for s in box.info().services if s.name == "leaver").exit_code == 3, "and not 9: the port was free"


def test_policies_and_tasks(client: Client) -> None:
    box = client.sandboxes.create(
        IMAGE,
        services={
            "task": {"command": "sleep 0.7; echo made > /root/made", "restart": "never"},
            "after": {"command": "cat /root/made; sleep 1000", "needs": ["task"]},
            "failing": {"command": "exit 3", "restart": "never"},
            "blocked": {"command": "sleep 1000", "needs": ["failing"]},
            "missing": {"command": ["/no/such"]},
            "stranger": {"command": ["true"], "user": "nobody-knows"},
            "tried": {"command": "exit 1", "restart": "on-failure"},
        },
    )
    try:
        until(lambda: states(box).get("after") == "healthy")
        until(lambda: box.services.logs("after") != "")
        assert box.services.logs("after") == "made\n", "who needs a task waits for its end"
        until(lambda: next(s for s in box.info().services if s.name == "tried").restarts >= 2)
        until(lambda: states(box)["failing"] == "failed")
        found = {status.name: (status.state, status.reason) for status in box.info().services}
        assert found["task"] == (GuestServiceState.DONE, "it ended with code 0")
        assert found["failing"] == (GuestServiceState.FAILED, "it ended with code 3")
        assert found["blocked"] == (GuestServiceState.WAITING, "waits for failing")
        assert found["missing"][0] in (GuestServiceState.BACKING_OFF, GuestServiceState.STARTING)
        assert found["stranger"][0] in (GuestServiceState.BACKING_OFF, GuestServiceState.STARTING)
        reasons = {status.name: status.reason for status in box.info().services if status.reason}
        until(lambda: reasons.update({s.name: s.reason for s in box.info().services if s.reason}) or len(reasons) >= 6)
        assert reasons["missing"] == "its command was not found"
        assert "nobody-knows" in (reasons["stranger"] or "")
    finally:
        box.delete()


def test_unhealthy_and_well_again(box: Sandbox) -> None:
    box.files.write("/root/sick-web", b"")
    until(lambda: states(box)["web"] == "unhealthy")
    status = next(status for status in box.info().services if status.name == "web")
    assert status.reason == "GET /health was answered with 503"
    until(lambda: kinds(box)[-1] == ("service_unhealthy", "web: GET /health was answered with 503"))
    box.files.remove("/root/sick-web")
    until(lambda: states(box)["web"] == "healthy")
    assert next(status for status in box.info().services if status.name == "web").restarts == 0
    health = {"command": ["test", "!", "-e", "/root/sick-db"], "interval": 0.5, "retries": 1, "restart": True}
    box.services.add("db", web("db", 5432, delay_s=0.2)["command"], port=5432, health=health)
    box.files.write("/root/sick-db", b"")
    until(lambda: ("service_restarted", "db: its health command ended with code 1") in kinds(box))


def test_a_look_under_way_at_a_restart_does_not_keep_the_next_from_being_looked_at(client: Client) -> None:
    slow = {"command": "sleep 1000", "health": {"command": ["sleep", "0.4"], "interval": 0.5}}
    box = client.sandboxes.create(IMAGE, services={"slow": slow})  # alone: looks at others would hide it
    for count in range(3):
        until(lambda: all_healthy(box))
        time.sleep(0.7)  # a look is under way: they take 0.4 s, every 0.5 s
        box.services.restart("slow")
        until(lambda before=count: box.info().services[0].restarts > before)
    until(lambda: all_healthy(box))
    box.delete()


def test_neither_services_nor_looks_keep_it_awake_and_none_is_made_while_it_sleeps(
    server: Server, box: Sandbox
) -> None:
    health = {"command": ["true"], "interval": 0.5}
    box.services.add("ticking", "while sleep 0.1; do echo tick; done", health=health)
    until(lambda: all_healthy(box))
    box.update(idle="1s")
    until(lambda: box.state is S.ASLEEP)
    until(lambda: stands_still(box))
    assert box.state is S.ASLEEP
    looked_at = box.services.logs("web")
    assert all_healthy(box), "they stand still, and are what they were"
    assert ask(server, box, 8080) == "web"
    until(lambda: box.services.logs("web") != looked_at)
    assert history(box) == ["began db", "began web"], "frozen and woken, not started again"


def stands_still(box: Sandbox) -> bool:
    """For three looks long; what was said before it fell asleep may still be on its way into the log."""
    before = (box.services.logs("web"), box.stats().pids)
    time.sleep(1.5)
    return (box.services.logs("web"), box.stats().pids) == before


def test_cold_they_end_in_order_and_start_again_for_who_connects(server: Server, box: Sandbox) -> None:
    box.sleep()
    box.sleep(cold=True)
    assert box.info().services == ()
    assert ask(server, box, 8080) == "web", "held until it listens"
    assert history(box) == ["began db", "began web", "ended web", "ended db", "began db", "began web"]
    until(lambda: all_healthy(box))


def test_stopped_started_restored_and_forked(client: Client, box: Sandbox) -> None:
    once = ["began db", "began web"]
    kept = box.checkpoint()
    box.stop()
    assert box.info().services == ()
    box.start()
    until(lambda: all_healthy(box))
    assert history(box) == [*once, "ended web", "ended db", *once]
    box.restore(kept)
    until(lambda: all_healthy(box))
    assert history(box) == [*once, *once]
    [fork] = box.fork(checkpoint=kept)
    until(lambda: all_healthy(fork))
    assert history(fork) == [*once, *once]
    fork.delete()


def test_by_hand_and_by_a_request_to_its_port(server: Server, box: Sandbox) -> None:
    stopped = box.services.stop("web")
    assert stopped.status is not None
    assert stopped.status.state is GuestServiceState.STOPPED
    box.services.stop("db")
    assert history(box)[-2:] == ["ended web", "ended db"]
    time.sleep(0.7)
    assert set(states(box).values()) == {"stopped"}
    assert ask(server, box, 8080) == "web", "a request starts it, and what it needs"
    box.services.stop("web")
    assert ask(server, box, 8080) == "web", "and again, however soon"
    assert ask(server, box, 9999) == "nobody listens on port 9999 in the sandbox"
    until(lambda: all_healthy(box))
    box.services.stop("db")
    assert ask(server, box, 8080) == "web", "one that runs does not fall with what it needed to start"
    box.services.start("db")
    until(lambda: all_healthy(box))
    box.services.restart("web")
    until(lambda: history(box)[-2:] == ["ended web", "began web"])


def test_changed_while_it_runs(box: Sandbox) -> None:
    with pytest.raises(InUse, match="service db is needed by web"):
        box.services.remove("db")
    with pytest.raises(Invalid, match=r"services.more.port: 8080 is not allowed; service web has this port already"):
        box.services.add("more", "sleep 1000", port=8080)
    box.services.add("more", "echo one; sleep 1000")
    until(lambda: states(box).get("more") == "healthy" and box.services.logs("more") == "one\n")
    box.services.add("more", "echo two; sleep 1000")
    until(lambda: box.services.logs("more") == "one\ntwo\n")
    assert history(box) == ["began db", "began web"], "the others are left alone"
    box.services.remove("more")
    until(lambda: "sleep 1000" not in box.commands.run("cat /proc/*/cmdline | tr '\\0' ' '").stdout)
    assert [service.name for service in box.services.list()] == ["web", "db"]
    box.update(idle="1h")
    box.sleep()
    box.services.add("later", "sleep 1000")
    time.sleep(0.3)
    assert box.state is S.ASLEEP, "a change of what is wanted does not wake it"
    box.wake()
    until(lambda: states(box).get("later") == "healthy")


def test_they_outlive_the_agent(server: Server, box: Sandbox) -> None:
    before = box.info().services
    server.kill("agent")
    server.start("agent")
    until(lambda: all_healthy(box))
    assert box.info().services == before
    assert history(box) == ["began db", "began web"]
    looked_at = box.services.logs("web")
    until(lambda: box.services.logs("web") != looked_at)
    box.services.stop("db")
    box.sleep()
    server.kill("agent")
    server.start("agent")
    until(lambda: box.state is S.ASLEEP)
    assert states(box) == {"web": "healthy", "db": "stopped"}, "what was stopped by hand stays so"
    box.wake()
    box.services.start("db")
    until(lambda: all_healthy(box))
    pid = box.commands.run("cat /root/pid-db").stdout
    box.commands.start(f"sleep 0.3; kill -9 {pid}")
    server.kill("agent")
    time.sleep(0.6)
    server.start("agent")
    until(lambda: history(box)[-1] == "began db")
    until(lambda: all_healthy(box))
