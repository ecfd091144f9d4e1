"""The life of a sandbox through the API as it is served: statuses, references, waiting, refusals."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from skerry.client import shares
from skerry.control.app import Control
from skerry.errors import Invalid, Unavailable
from skerry.telemetry import Log
from tests.control.conftest import Api, serving
from tests.reconcile.fake_agent import FakeAgent

pytestmark = pytest.mark.anyio
ONE = "/v1/sandboxes/one"


async def test_create_wait_exec_delete(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one", labels={"team": "a"})
    assert box["address"] == "10.201.0.2"
    assert box["spec"]["image"] == "debian:12"
    done = await api.call("POST", f"{ONE}/exec", {"command": ["echo", "hi"]})
    assert (done.status, done.json["stdout"]) == (200, "echo hi")
    gone = await api.call("DELETE", f"{ONE}?wait_s=30")
    assert (gone.status, gone.json["state"]) == (200, "deleted")
    assert (await api.call("GET", f"/v1/sandboxes/{box['id']}")).status == 404
    assert api.agent.world.boxes == {}


async def test_without_waiting_it_is_202_and_the_operation_tells(api: Api) -> None:
    await api.image()
    api.agent.slow_s["start"] = 0.3
    made = await api.call("POST", "/v1/sandboxes", {"image": "debian:12"})
    assert (made.status, made.json["state"]) == (202, "pending")
    assert made.json["name"].startswith("debian-")
    operation = f"/v1/operations/{made.json['operation']}"
    assert (await api.call("GET", operation)).json["state"] == "running"
    ended = await api.call("GET", f"{operation}?wait_s=30")
    assert (ended.json["state"], ended.json["kind"], ended.json["target"]) == (
        "succeeded",
        "sandbox.create",
        made.json["id"],
    )
    watched = await api.call("GET", f"{operation}/watch")
    assert [line.count("succeeded") for line in watched.text.splitlines()] == [1]


async def test_wait_ends_when_its_time_is_over(api: Api) -> None:
    await api.image()
    api.agent.slow_s["start"] = 60
    began_s = time.monotonic()
    made = await api.call("POST", "/v1/sandboxes?wait_s=0.3", {"image": "debian:12"})
    assert made.status == 202
    assert time.monotonic() - began_s >= 0.3


async def test_failure_while_waiting_is_in_the_record(api: Api) -> None:
    await api.image()
    api.agent.refuse["start"] = Invalid("command: /nope cannot be started")
    made = await api.call("POST", "/v1/sandboxes?wait_s=30", {"image": "debian:12"})
    assert (made.status, made.json["state"]) == (201, "failed")
    assert made.json["reason"] == "command: /nope cannot be started"


async def test_stop_start_are_idempotent(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one")
    same = await api.call("POST", f"{ONE}/start?wait_s=30")
    assert (same.status, same.json["generation"]) == (200, 1)
    stopped = await api.call("POST", f"{ONE}/stop?wait_s=30", {"grace_s": 0})
    assert (stopped.status, stopped.json["state"]) == (200, "stopped")
    assert stopped.json["exit"]["reason"] == "stopped"
    again = await api.call("POST", f"{ONE}/stop")
    assert (again.status, again.json["generation"]) == (200, stopped.json["generation"])
    refused = await api.call("POST", f"{ONE}/exec", {"command": ["true"]})
    assert (refused.status, refused.json["error"]["code"]) == (409, "conflict")
    assert refused.message == "sandbox one is stopped; start it first"
    read = await api.call("GET", f"{ONE}/files?path=/x")
    assert (read.status, read.text) == (200, "hello")  # its files are there
    started = await api.call("POST", f"{ONE}/start?wait_s=30")
    assert (started.status, started.json["state"]) == (200, "running")


async def test_checkpoint_restore_fork(api: Api) -> None:
    image = await api.image()
    box = await api.sandbox(name="one")
    api.agent.world.boxes[box["id"]].disk.append("good")
    made = await api.call("POST", f"{ONE}/checkpoints?wait_s=30", {"comment": "before"})
    assert (made.status, made.json["number"], made.json["state"]) == (201, 1, "ready")
    assert (made.json["comment"], made.json["frozen_ms"]) == ("before", 2.5)
    assert "memory" in made.json["not_contained"]
    api.agent.world.boxes[box["id"]].disk.append("bad")
    restored = await api.call("POST", f"{ONE}/restore?wait_s=30", {"checkpoint": "v1"})
    assert (restored.status, restored.json["state"], restored.json["id"]) == (200, "running", box["id"])
    assert api.agent.world.boxes[box["id"]].disk == [image["digest"], "good"]
    forked = await api.call("POST", f"{ONE}/fork?wait_s=30", {"count": 3, "checkpoint": "1", "labels": {"try": "yes"}})
    assert forked.status == 201
    assert [each["name"] for each in forked.json["items"]] == ["one-1", "one-2", "one-3"]
    assert {each["state"] for each in forked.json["items"]} == {"running"}
    assert {each["parent"] for each in forked.json["items"]} == {box["id"]}
    children = await api.call("GET", "/v1/sandboxes?parent=one&label=try=yes")
    assert len(children.json["items"]) == 3
    kept = await api.call("GET", f"{ONE}/checkpoints")
    assert [each["number"] for each in kept.json["items"]] == [1]
    assert (await api.call("GET", f"{ONE}/checkpoints/v1/files?path=/")).text.endswith("good")
    diff = await api.call("GET", f"{ONE}/checkpoints/v1/diff")
    assert diff.json["asked"] == f"sandbox={box['id']}"
    diff = await api.call("GET", f"{ONE}/checkpoints/v1/diff?to=1")
    assert diff.json["asked"] == f"checkpoint={made.json['id']}"
    removed = await api.call("DELETE", f"{ONE}/checkpoints/v1?wait_s=30")
    assert (removed.status, removed.json["state"]) == (200, "deleted")
    assert (await api.call("GET", f"{ONE}/checkpoints/v1")).status == 404


async def test_of_two_restores_at_once_the_second_is_refused(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one")
    await api.call("POST", f"{ONE}/checkpoints?wait_s=30")
    api.agent.slow_s["restore"] = 0.3
    body = {"checkpoint": "v1"}
    first, second = await asyncio.gather(
        *(api.call("POST", f"{ONE}/restore?wait_s=30", body, headers={"X": str(number)}) for number in range(2))
    )
    assert sorted([first.status, second.status]) == [200, 409]
    refused = first if first.status == 409 else second
    must = "must be running, asleep, stopped or failed"
    assert refused.message == f"cannot restore sandbox one: it is restoring, and {must}"


async def test_protected_is_deleted_by_force_only(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one", protected=True)
    refused = await api.call("DELETE", ONE)
    assert (refused.status, refused.json["error"]["code"]) == (409, "protected")
    assert (await api.call("PATCH", ONE, {"protected": False})).json["spec"]["protected"] is False
    assert (await api.call("PATCH", ONE, {"protected": True})).status == 200
    assert (await api.call("DELETE", f"{ONE}?force=true&wait_s=30")).json["state"] == "deleted"


async def test_update_name_and_labels(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one")
    await api.sandbox(name="two")
    changed = await api.call("PATCH", ONE, {"name": "uno", "labels": {"a": "b"}})
    assert (changed.json["name"], changed.json["spec"]["labels"]) == ("uno", {"a": "b"})
    assert (await api.call("GET", ONE)).status == 404
    taken = await api.call("PATCH", "/v1/sandboxes/uno", {"name": "two"})
    assert (taken.status, taken.json["error"]["code"]) == (409, "already_exists")
    another = await api.call("PATCH", "/v1/sandboxes/uno", {"image": "debian:12"})
    assert (another.status, another.message) == (400, "image: there is no such field")


async def test_limits_change_while_it_runs_but_not_below_what_is_in_use(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one")
    changed = await api.call("PATCH", f"{ONE}?wait_s=30", {"memory": "2GiB", "cpu": 2, "pids": 99, "disk": "20GiB"})
    assert (changed.status, changed.json["applied"], changed.json["state"]) == (200, True, "running")
    assert api.agent.world.boxes[box["id"]].order.spec.memory == 2 * 1024**3
    large = await api.call("PATCH", ONE, {"memory": "512GiB"})
    assert (large.status, large.message) == (400, "memory: 512GiB is not allowed; the largest machine has 8.0GiB")
    api.agent.used = {"memory_bytes": 300 * 1024**2, "disk_bytes": 3 * 1024**3}
    for field, less, used in (("memory", "256MiB", "300MiB"), ("disk", "2.0GiB", "3.0GiB")):
        small = await api.call("PATCH", ONE, {field: less})
        assert (small.status, small.json["error"]["field"]) == (409, field)
        assert small.message.startswith(f"{field}: {less} is less than the {used} in use")
    assert (await api.call("PATCH", ONE, {"memory": "512MiB"})).json["spec"]["memory"] == 512 * 1024**2
    api.agent.refuse["stats"] = Unavailable("it does not answer")
    assert (await api.call("PATCH", ONE, {"disk": "1GiB"})).status == 503, "whether it fits is not known"
    every = await api.call("PATCH", ONE, {"checkpoints": {"every_s": 600}, "cpu": None})
    assert (every.json["spec"]["checkpoints"]["every_s"], every.json["spec"]["cpu"]) == (600, 2)


async def test_what_takes_a_restart_is_refused_while_it_runs_and_written_while_it_is_stopped(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one", env={"A": "1"}, user="nobody")
    change = {"env": {"B": "2"}, "user": None, "cpu": 2}
    refused = await api.call("PATCH", ONE, change)
    assert (refused.status, refused.json["error"]["code"], refused.json["error"]["field"]) == (
        409,
        "restart_needed",
        "env",
    )
    assert "stop it first" in refused.message
    assert (await api.call("GET", ONE)).json["spec"]["cpu"] == 1, "nothing is half done"
    outside = await api.call("PATCH", ONE, {**change, "mounts": [{"source": "/etc", "target": "/mnt"}]})
    assert (outside.status, outside.json["error"]["field"]) == (400, "mounts[0].source")
    await api.call("POST", f"{ONE}/stop?wait_s=30", {"grace_s": 0})
    changed = await api.call("PATCH", ONE, change)
    assert (changed.status, changed.json["state"]) == (200, "stopped")
    twice = {"mounts": [{"source": "/srv", "target": "/a"}, {"source": "/opt", "target": "/a"}]}
    assert (await api.call("PATCH", ONE, twice)).message == "two mounts have the same target"
    started = (await api.call("POST", f"{ONE}/start?wait_s=30")).json
    assert (started["spec"]["env"], started["spec"].get("user"), started["spec"]["cpu"]) == ({"B": "2"}, None, 2)
    assert api.agent.world.boxes[started["id"]].order.spec.env == {"B": "2"}


async def test_names_and_images_that_do_not_fit(api: Api) -> None:
    unknown = await api.call("POST", "/v1/sandboxes", {"image": "nothing:1"})
    assert (unknown.status, unknown.json["error"]["field"]) == (404, "image")
    assert "skerry image pull" in unknown.message
    await api.image()
    await api.sandbox(name="one")
    taken = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "name": "one"})
    assert (taken.status, taken.json["error"]["code"]) == (409, "already_exists")
    large = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "memory": "512GiB"})
    assert (large.status, large.message) == (400, "memory: 512GiB is not allowed; the largest machine has 8.0GiB")
    many = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "cpu": 64})
    assert (many.status, many.message) == (400, "cpu: 64 is not allowed; the largest machine has 4")
    assert len((await api.call("GET", "/v1/sandboxes")).json["items"]) == 1


async def test_create_right_after_pull_waits_for_the_image(api: Api) -> None:
    api.agent.slow_s["docker://slow"] = 0.4
    pulled = await api.call("POST", "/v1/images", {"name": "slow", "source": "docker://slow"})
    assert (pulled.status, pulled.json["state"], pulled.json["name"]) == (202, "creating", "slow:latest")
    made = await api.call("POST", "/v1/sandboxes?wait_s=30", {"image": "slow"})
    assert (made.status, made.json["state"]) == (201, "running")


async def test_mounts_only_below_what_is_shared(agent: FakeAgent, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = agent.path.parent.parent
    shared = folder / "shared"
    (shared / "in").mkdir(parents=True)
    (shared / "out").symlink_to("/etc")

    async def mount(api: Api, source: str) -> tuple[int, str]:
        mounts = [{"source": source, "target": "/mnt", "readonly": True}]
        made = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "mounts": mounts})
        return made.status, made.json.get("error", {}).get("message", "")

    async with serving(folder, agent, share=[shared]) as api:
        await api.image()
        assert (await mount(api, str(shared / "in")))[0] == 202
        for outside in ("/etc", str(shared / "out"), f"{shared}-not", str(shared / "out" / "passwd")):
            status, message = await mount(api, outside)
            assert status == 400
            assert message.startswith("mounts[0].source: ")
            assert str(shared) in message
        other = tmp_path_factory.mktemp("other")
        environ = {"SKERRY_DATA_DIR": str(folder)}
        shares.add(other, environ)
        assert (await mount(api, str(other)))[0] == 202
        shares.remove(other, environ)
        assert (await mount(api, str(other)))[0] == 400


async def test_number_of_sandboxes_is_limited(agent: FakeAgent) -> None:
    async with serving(agent.path.parent.parent, agent, sandboxes_max=3) as api:
        await api.image()
        await api.sandbox(name="one")
        forked = await api.call("POST", f"{ONE}/fork", {"count": 3})
        assert (forked.status, forked.json["error"]["code"]) == (429, "limit_reached")
        assert len((await api.call("GET", "/v1/sandboxes")).json["items"]) == 1


async def test_list_pages(api: Api) -> None:
    await api.image()
    for number in range(5):
        await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "name": f"box-{number}"})
    first = await api.call("GET", "/v1/sandboxes?limit=3")
    rest = await api.call("GET", f"/v1/sandboxes?limit=3&page_token={first.json['next_page_token']}")
    names = [each["name"] for each in first.json["items"] + rest.json["items"]]
    assert names == [f"box-{number}" for number in range(5)]
    assert rest.json["next_page_token"] is None


async def test_control_stops_and_starts_beside_running_sandboxes(agent: FakeAgent) -> None:
    folder = agent.path.parent.parent
    async with serving(folder, agent) as api:
        await api.image()
        box = await api.sandbox(name="one")
        key = api.key
    async with serving(folder, agent) as api:
        assert api.key == key
        found = await api.call("GET", ONE)
        assert (found.json["state"], found.json["restarts"]) == ("running", 0)
    assert agent.world.boxes[box["id"]].starts == 1


async def test_admin_key_is_made_once_for_root_alone(agent: FakeAgent) -> None:
    folder = agent.path.parent.parent
    key_file = Path(folder) / "admin.key"
    async with serving(folder, agent) as api:
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert api.key.startswith("sk_")
        assert len(api.key) == 67
        database = b"".join(path.read_bytes() for path in folder.glob("skerry.db*"))
        assert api.key.encode() not in database
    key_file.unlink()  # taken away by the operator: not made again
    async with Control(api.settings, Log("control", "error")):
        assert not key_file.exists()


async def test_a_policy_is_replaced_whole_and_answered_when_its_machine_goes_by_it(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one", network={"rules": [{"domain": "old.test", "action": "deny"}]})
    policy = {"default": "deny", "rules": [{"domain": "PyPI.org"}, {"cidr": "10.1.2.3/16"}, {"include": "git"}]}
    set_ = await api.call("PATCH", f"{ONE}?wait_s=30", {"policy": policy})
    assert (set_.status, set_.json["applied"]) == (200, True)
    network = set_.json["spec"]["network"]
    assert (network["enabled"], network["default"], network["observe"]) == (True, "deny", False)
    assert [[value for value in rule.values() if value] for rule in network["rules"]] == [
        ["pypi.org", "allow"],
        ["10.1.0.0/16", "allow"],
        ["git", "allow"],
    ]
    told = [event["message"] for event in (await api.call("GET", "/v1/events?noun=sandbox")).json["items"]]
    assert told[-1] == "policy: default deny, 3 rules"
    wrong = await api.call("PATCH", ONE, {"policy": {"rules": [{"domain": "a.test", "cidr": "10.0.0.0/8"}]}})
    assert (wrong.status, "exactly one of domain, cidr and include" in wrong.message) == (400, True)


async def test_a_fork_of_an_old_checkpoint_gets_the_policy_of_today(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one")
    await api.call("POST", f"{ONE}/checkpoints?wait_s=30")
    await api.call("PATCH", f"{ONE}?wait_s=30", {"policy": {"default": "deny"}})
    forked = await api.call("POST", f"{ONE}/fork?wait_s=30", {"checkpoint": "v1"})
    assert forked.json["items"][0]["spec"]["network"]["default"] == "deny"


async def test_a_fork_is_no_member_of_its_parents_environment(api: Api) -> None:
    await api.image()
    labels = {"skerry.environment": "shop", "skerry.member": "one", "team": "blue"}
    await api.sandbox(name="one", labels=labels)
    forked = await api.call("POST", f"{ONE}/fork?wait_s=30")
    assert forked.json["items"][0]["spec"]["labels"] == {"team": "blue"}
