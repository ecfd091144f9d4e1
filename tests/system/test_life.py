"""A sandbox from create to delete, through the SDK, on real parts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import time
from pathlib import Path

import pytest

from skerry import Client, Sandbox
from skerry.client import shares
from skerry.client.agent import AgentClient
from skerry.errors import AlreadyExists, Conflict, Invalid, NotFound, Protected
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import ExitReason, S
from tests.server import Server

IMAGE = "debian:12"


def until(condition, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_create_run_stop_start_delete(client: Client) -> None:
    sandbox = client.sandboxes.create(IMAGE, name="life", env={"GREETING": "hello"}, labels={"team": "a"})
    info = sandbox.info()
    assert info.state is S.RUNNING
    assert info.address is not None
    result = sandbox.commands.run("echo $GREETING from $(hostname); id -u; cat /etc/debian_version")
    assert result.stdout.splitlines()[:2] == ["hello from life", "0"]
    sandbox.files.write("/root/kept", b"still here")
    sandbox.stop()
    assert sandbox.info().state is S.STOPPED
    assert sandbox.info().exit is not None
    with pytest.raises(Conflict, match="start it first"):
        sandbox.commands.run("true")
    assert sandbox.files.read("/root/kept") == b"still here"
    sandbox.start()
    assert sandbox.info().address == info.address
    assert sandbox.commands.run("cat /root/kept").stdout == "still here"
    sandbox.delete()
    with pytest.raises(NotFound):
        client.sandboxes.get("life")


def test_names_ids_and_prefixes_all_name_it(client: Client) -> None:
    with client.sandboxes.create(IMAGE, name="by-any-name") as sandbox:
        for ref in (sandbox.id, sandbox.id[:9], "by-any-name"):
            assert client.sandboxes.get(ref).id == sandbox.id
        with pytest.raises(AlreadyExists, match="by-any-name"):
            client.sandboxes.create(IMAGE, name="by-any-name")


def test_list_filters_by_label_state_and_name(client: Client) -> None:
    with client.sandboxes.create(IMAGE, name="filter-one", labels={"colour": "red"}):
        assert [s.name for s in client.sandboxes.list(labels={"colour": "red"})] == ["filter-one"]
        assert client.sandboxes.list(labels={"colour": "blue"}) == []
        assert [s.name for s in client.sandboxes.list(name="filter-")] == ["filter-one"]
        assert "filter-one" not in [s.name for s in client.sandboxes.list(state="stopped")]


def test_the_main_process_is_logged_and_its_end_stops_the_sandbox(client: Client, server: Server) -> None:
    command = "for n in 1 2 3; do echo line $n; done; exit 7"
    sandbox = client.sandboxes.create(IMAGE, command=command)
    until(lambda: sandbox.info().state is S.STOPPED)
    ended = sandbox.info().exit
    assert ended is not None
    assert (ended.reason, ended.code) == (ExitReason.EXITED, 7)
    assert sandbox.logs() == "line 1\nline 2\nline 3\n"
    assert sandbox.logs(tail=1) == "line 3\n"
    again = asyncio.run(start_again(server, sandbox.id))
    assert (again.presence, again.exit) == (Presence.STOPPED, ended), "an order delivered twice is carried out once"
    assert sandbox.logs() == "line 1\nline 2\nline 3\n"
    sandbox.delete()


async def start_again(server: Server, sandbox_id: str) -> Report:
    """As control does that was cut off before it heard the answer."""
    entry = json.loads((server.settings.data_dir / f"agent/sandboxes/{sandbox_id}.json").read_bytes())
    async with AgentClient(server.settings.agent_socket) as agent:
        return await agent.start(Order.model_validate(entry["order"]))


def test_out_of_memory_is_called_so(client: Client) -> None:
    hog = ["perl", "-e", "my @a; push @a, 'x' x 1048576 while 1"]
    sandbox = client.sandboxes.create(IMAGE, command=hog, memory="64MiB")
    until(lambda: sandbox.info().state is S.STOPPED)
    ended = sandbox.info().exit
    assert ended is not None
    assert ended.reason is ExitReason.OOM
    sandbox.delete()


def test_protected_is_not_deleted_but_by_force(client: Client) -> None:
    sandbox = client.sandboxes.create(IMAGE, protected=True)
    with pytest.raises(Protected):
        sandbox.delete()
    assert sandbox.info().state is S.RUNNING
    sandbox.delete(force=True)


def test_many_are_created_at_once_and_all_answer(client: Client, server: Server) -> None:
    from tests.system.conftest import connect

    def one(number: int) -> str:
        with connect(server) as own, own.sandboxes.create(IMAGE, name=f"many-{number}") as sandbox:
            return sandbox.commands.run("hostname").stdout.strip()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(16))) == sorted(f"many-{number}" for number in range(16))


def test_host_folders_appear_with_their_owners_and_only_shared_ones(client: Client, shared_folder) -> None:
    (shared_folder / "in").mkdir(exist_ok=True)
    (shared_folder / "in" / "data").write_text("from the host")
    mounts = [f"{shared_folder}/in:/data", f"{shared_folder}/in:/ro:ro"]
    with client.sandboxes.create(IMAGE, mounts=mounts) as sandbox:
        assert sandbox.commands.run("cat /data/data; stat -c %u /data/data").stdout == "from the host0\n"
        assert sandbox.commands.run("echo from the guest > /data/reply").exit_code == 0
        assert (shared_folder / "in" / "reply").read_text() == "from the guest\n"
        assert "Read-only" in sandbox.commands.run("touch /ro/x").stderr
        assert sandbox.files.read("/data/reply") == b"from the guest\n"
    with pytest.raises(Invalid, match=r"mounts\[0\].source: /etc is not shared"):
        client.sandboxes.create(IMAGE, mounts=["/etc:/host-etc"])


def test_the_owner_of_a_host_folder_and_the_user_inside_are_one(client: Client, shared_folder: Path) -> None:
    def ids(path: Path) -> tuple[int, int]:
        found = path.lstat()
        return found.st_uid, found.st_gid

    for name, owner, user in (("ann", 1000, None), ("bob", 70_000, "nobody"), ("root", 0, "1000:1000")):
        folder = shared_folder / name
        folder.mkdir()
        (folder / "theirs").touch()
        (folder / "other").touch()
        for path, uid in ((folder, owner), (folder / "theirs", owner), (folder / "other", 5)):
            os.chown(path, uid, uid)
        with client.sandboxes.create(IMAGE, user=user, mounts=[f"{folder}:/srv:owner"]) as box:
            me = box.commands.run("id -u; id -g").stdout.split()
            seen = box.commands.run("cd /srv && touch mine && stat -c '%u %g' theirs mine other").stdout.split()
            assert seen == [*me, *me, "5", "5"], name
            assert ids(folder / "mine") == (owner, owner)
            box.commands.run("cd /srv && touch swapped && chown 1000:1000 swapped", user="root")
            assert ids(folder / "swapped") == {"ann": (0, 0), "bob": (1000, 1000), "root": (0, 0)}[name]


def test_a_folder_is_shared_without_a_restart_and_no_longer(client: Client, server: Server, tmp_path: Path) -> None:
    environ = {"SKERRY_DATA_DIR": str(server.settings.data_dir), "SKERRY_RUN_DIR": str(server.settings.run_path)}
    with pytest.raises(Invalid, match="skerry share add"):
        client.sandboxes.create(IMAGE, mounts=[f"{tmp_path}:/srv"])
    shares.add(tmp_path, environ)
    with client.sandboxes.create(IMAGE, mounts=[f"{tmp_path}:/srv"]) as box:
        box.sleep(cold=True, force=True)
        shares.remove(tmp_path, environ)
        with pytest.raises(Invalid, match="not below a folder this machine shares"):
            box.wake()
        shares.add(tmp_path, environ)
        box.wake()
        box.commands.run("touch /srv/here", check=True)
    shares.remove(tmp_path, environ)
    assert (tmp_path / "here").exists()


def test_nothing_is_left_of_a_deleted_sandbox(client: Client, server: Server) -> None:
    from tests import machine

    sandbox = client.sandboxes.create(IMAGE)
    assert sandbox.id in machine.cgroups(server.settings)
    checkpoint = sandbox.checkpoint()
    sandbox.delete()
    assert sandbox.id not in machine.cgroups(server.settings)
    agent = server.pid("agent")
    until(lambda: sandbox.id not in str(machine.subvolumes(server.settings, agent)["disks"]))
    until(lambda: checkpoint.id not in machine.subvolumes(server.settings, agent)["checkpoints"])
    assert machine.mounts(server.settings) == []


def test_sdk_top_level_create_uses_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_ADDRESS", server.address)
    monkeypatch.setenv("SKERRY_KEY", server.key)
    with Sandbox.create(IMAGE) as sandbox:
        assert sandbox.commands.run(["echo", "hi"]).stdout == "hi\n"
