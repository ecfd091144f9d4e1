"""Sandboxes, checkpoints and forks through the SDK: the same on every transport."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.client import flows
from skerry.client.call import Reply
from skerry.client.calls import sandboxes as calls
from skerry.errors import AlreadyExists, Conflict, Failed, Invalid, NotFound, Protected, RestartNeeded
from skerry.model.sandbox import S
from skerry.model.sleep import Tier
from tests.client.fake_control import FakeControl


def test_create_says_only_what_was_given_and_waits(client: Any, control: FakeControl) -> None:
    box = client.sandboxes.create(
        "debian:12",
        name="web",
        cpu=2,
        memory="512MiB",
        command="echo hi",
        env={"A": "b"},
        mounts=["/srv/data:/data:ro"],
        network=False,
    )
    spec = box.info().spec
    assert (box.name, spec.cpu, spec.memory, spec.env) == ("web", 2, 512 * 1024**2, {"A": "b"})
    assert spec.command == ["/bin/sh", "-c", "echo hi"]
    assert (spec.mounts[0].source, spec.mounts[0].target, spec.mounts[0].readonly) == ("/srv/data", "/data", True)
    assert spec.network.enabled is False
    assert control.requests[0] == "POST /v1/sandboxes"


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("data:/srv", {"volume": "data", "target": "/srv", "readonly": False}),
        ("data:/srv:ro", {"volume": "data", "target": "/srv", "readonly": True}),
        ("/srv:/srv", {"source": "/srv", "target": "/srv", "readonly": False}),
        ("./data:/srv", {"source": "./data", "target": "/srv", "readonly": False}),
        (".:/srv", {"source": ".", "target": "/srv", "readonly": False}),
        ("~:/srv", {"source": "~", "target": "/srv", "readonly": False}),
    ],
)
def test_a_mount_without_a_slash_is_of_a_volume(text: str, mount: dict[str, Any]) -> None:
    assert calls.mount_from_text(text) == mount
    assert calls.mount_text(mount) == text


def test_create_waits_for_an_operation_that_goes_on(client: Any, control: FakeControl) -> None:
    control.slow_operations = True
    box = client.sandboxes.create("debian:12", name="slow")
    assert box.info().state is S.RUNNING
    paths = [path.rsplit("/", 1)[0] for path in control.requests[:3]]
    assert paths == ["POST /v1", "GET /v1/operations", "GET /v1/sandboxes"]


def test_create_without_waiting_is_one_request(client: Any, control: FakeControl) -> None:
    control.slow_operations = True
    client.sandboxes.create("debian:12", wait=False)
    assert len(control.requests) == 1


def test_a_sandbox_that_does_not_start_says_why(client: Any, control: FakeControl) -> None:
    control.fail_start = True
    with pytest.raises(Failed, match="web failed: no such command"):
        client.sandboxes.create("debian:12", name="web")


@pytest.mark.parametrize("state", ["deleting", "deleted"])
def test_what_is_deleted_while_it_is_made_was_not_made(state: str) -> None:
    flow = flows.settle(lambda wait_s: calls.create({}, wait_s), lambda had: calls.get(had["id"]))
    next(flow)
    with pytest.raises(Conflict, match="web was deleted meanwhile"):
        flow.send(Reply(201, {"name": "web", "state": state}))


def test_errors_are_typed_and_name_the_field(client: Any, box: Any) -> None:
    with pytest.raises(NotFound, match="no image 'nope'") as missing:
        client.sandboxes.create("nope")
    assert missing.value.field == "image"
    with pytest.raises(AlreadyExists):
        client.sandboxes.create("debian:12", name="box")
    with pytest.raises(Invalid):
        client.sandboxes.create("debian:12", cpu=-1)
    with pytest.raises(NotFound):
        client.sandboxes.connect("nobody")
    with pytest.raises(Invalid):
        client.sandboxes.connect("")


def test_list_filters_and_reads_every_page(client: Any, box: Any, control: FakeControl) -> None:
    for n in range(3):
        client.sandboxes.create("debian:12", name=f"other-{n}", labels={"team": "b"})
    assert [found.name for found in client.sandboxes.list(labels={"team": "a"})] == ["box"]
    assert len(client.sandboxes.list(name="other-")) == 3
    assert client.sandboxes.list(state="stopped") == []


def test_connect_by_beginning_of_an_id(client: Any, box: Any) -> None:
    assert client.sandboxes.connect(box.id[:6]).name == "box"


def test_stop_start_update_delete(client: Any, box: Any) -> None:
    box.stop(grace_s=0)
    assert box.state is S.STOPPED
    box.start()
    assert box.state is S.RUNNING
    assert box.update(name="renamed", labels={"x": "y"}, protected=True).spec.labels == {"x": "y"}
    assert box.name == "renamed"
    with pytest.raises(Protected):
        box.delete()
    box.delete(force=True)
    with pytest.raises(NotFound):
        box.info()


def test_change_that_takes_a_restart(client: Any, box: Any) -> None:
    with pytest.raises(RestartNeeded):
        box.update(env={"A": "b"}, command="sleep 9")
    changed = box.update(env={"A": "b"}, command="sleep 9", reload=True, grace_s=0)
    assert (changed.state, changed.spec.env, changed.spec.command) == (
        S.RUNNING,
        {"A": "b"},
        ["/bin/sh", "-c", "sleep 9"],
    )
    assert box.update(memory="2GiB", reload=True).spec.memory == 2 * 1024**3
    box.stop()
    assert box.update(command=None).spec.command is None
    box.reload()
    assert box.state is S.RUNNING


def test_reload_says_how_far_it_came() -> None:
    flow = flows.reload("box", {"env": {}})
    next(flow)
    for _ in range(2):  # as it is, updated
        flow.send(Reply(200, {"id": "sb-1", "name": "box", "state": "stopped"}))
    with pytest.raises(Failed, match="no such program; box was stopped and updated: when that is mended"):
        flow.send(Reply(200, {"name": "box", "state": "failed", "reason": "no such program"}))


def test_urls(box: Any) -> None:
    assert box.url(8080) == f"http://{box.name}--8080.localhost:7080/"
    assert box.url(8080, expires_s=60).endswith("/?skerry_token=signed")
    assert box.update(public=True).spec.public is True


def test_sleep_wake_and_leases(client: Any, box: Any) -> None:
    box.sleep(cold=True)
    assert box.info().state is S.ASLEEP
    asleep = box.activity().asleep
    assert (asleep.tier, asleep.why) == (Tier.COLD, "asked")
    box.wake()
    assert box.info().state is S.RUNNING
    lease = box.keep_awake(60, note="a build")
    assert box.activity().leases == [lease]
    with pytest.raises(Conflict, match="kept awake"):
        box.sleep()
    box.end_lease(lease)
    with pytest.raises(NotFound):
        box.end_lease(lease.id)
    assert box.update(idle="90s", cold_after="never").spec.idle == 90.0


def test_keys_for_ssh(client: Any, box: Any) -> None:
    assert box.ssh_access().keys == []
    grant = box.ssh_key(for_s=3600)
    assert grant.private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert [key.fingerprint for key in box.ssh_access().keys] == [grant.fingerprint]
    with pytest.raises(Invalid, match="for_s"):
        box.ssh_key(for_s=1)
    box.revoke_ssh()
    assert box.ssh_access().keys == []


def test_leaving_its_block_deletes_it_even_if_it_is_gone(client: Any, box: Any) -> None:
    with box:
        box.delete()
    assert client.sandboxes.list() == []


def test_checkpoint_restore_fork(client: Any, box: Any) -> None:
    box.files.write("/n", "1")
    first = box.checkpoint("first")
    box.files.write("/n", "2")
    assert [(found.number, found.comment) for found in box.checkpoints()] == [(1, "first")]
    forks = box.fork(2, name="twin", labels={"k": "v"})
    assert [fork.name for fork in forks] == ["twin-1", "twin-2"]
    assert forks[0].info().parent == box.id
    assert forks[1].files.read_text("/n") == "2"
    for ref in (first, first.id, "v1", 1):
        box.files.write("/n", "3")
        box.restore(ref)
        assert box.files.read_text("/n") == "1"
    assert box.checkpoint_files(first).read("/n") == b"1"
    changes = box.diff("v1")
    assert [(item.path, item.change.value) for item in changes.items] == [
        ("/srv/new", "added"),
        ("/srv/old", "removed"),
    ]


def test_logs_stats_events(client: Any, box: Any) -> None:
    assert box.logs() == "one\nzwölf\n"
    assert box.logs(tail=1) == "zwölf\n"
    assert "".join(box.follow_logs()) == "one\nzwölf\n"
    assert box.stats().pids == 1
    assert [event.kind for event in box.events()] == ["created"]
    with client.events.watch(target=box.id) as feed:
        assert [event.name for event in feed] == ["box"]


def test_images(client: Any, control: FakeControl) -> None:
    steps: list[Any] = []
    image = client.images.pull("registry.example:5000/team/tools:1", on_progress=steps.append)
    assert image.name == "team/tools:1"
    assert [step.progress.get("step") for step in steps] == ["copying", "copying", None]
    assert client.images.get("team/tools:1").id == image.id
    with pytest.raises(Failed, match="the registry is gone"):
        client.images.pull("docker://broken:1")
    assert "debian:12" in [found.name for found in client.images.list()]
    assert client.images.upload(b"tar" * 1000, "mine:1").name == "mine:1"
    assert control.uploads["mine:1"] == b"tar" * 1000


def test_export_writes_a_whole_file_or_none(client: Any, tmp_path: Any) -> None:
    assert client.images.export("debian:12", tmp_path / "image.tar") == 7000
    with pytest.raises(NotFound):
        client.images.export("nope", tmp_path / "nope.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]
