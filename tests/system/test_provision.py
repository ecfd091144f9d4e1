"""Steps and folders of `skerry.yaml` in real sandboxes, with real ansible-core and cloud-init."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import Client, Sandbox
from skerry.client.archive import file_chunks
from skerry.client.calls import files as calls
from skerry.client.calls.sandboxes import path as sandbox_path
from skerry.environment import folders, provision
from skerry.environment.provision import Event
from skerry.environment.provision.record import PATH
from skerry.errors import Invalid, NotFound
from skerry.model.environment import Machine
from tests.server import debian_packages
from tests.system.conftest import IMAGE


def machine(**fields: Any) -> dict[str, Any]:
    given = {"image": IMAGE, "folders": [], **fields}
    return Machine.model_validate(given).model_dump(mode="json", by_alias=True)


class World:
    """One sandbox, called `web` in a file whose folder is `folder`, and all that was told."""

    def __init__(self, client: Client, box: Sandbox, folder: Path, environ: dict[str, str]) -> None:
        self.client = client
        self.box = box
        self.folder = folder
        self.environ = environ
        self.told: list[Event] = []

    def run(self, asked: dict[str, Any], **more: Any) -> provision.Outcome:
        self.told.clear()
        return provision.run(
            self.client.transport, self.box.id, "web", asked, self.folder,
            report=self.told.append, environ=self.environ, **more,
        )  # fmt: skip

    def pending(self, asked: dict[str, Any]) -> provision.Outlook:
        return provision.pending(self.client.transport, self.box.id, asked, self.folder)

    def sync(self, asked: dict[str, Any]) -> list[folders.Synced]:
        return folders.sync(self.client.transport, self.box.id, "web", asked, self.folder, self.told.append)

    def lines(self) -> list[str]:
        return [event.line for event in self.told if event.kind == "line"]

    def guest(self, command: str) -> str:
        return self.box.commands.run(command, user="root", check=True).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    return made


@pytest.fixture
def world(client: Client, folder: Path, tmp_path: Path) -> Iterator[World]:
    box = client.sandboxes.create(IMAGE)
    world = World(client, box, folder, {**os.environ, "SKERRY_CONFIG": str(tmp_path / "config/config.toml")})
    yield world
    world.box.delete()


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_steps_run_once_resume_and_are_right_after_reset_and_fork(world: World) -> None:
    script = world.folder / "setup.sh"
    script.write_text(
        '#!/bin/bash\necho "$0 $* $PLACE $(id -un) $PWD"\ncat /proc/$PPID/cmdline | grep -c secret\ntrue\n'
    )
    steps = [
        {"run": "echo first >> /root/ran\necho token-of-mine >/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"},
        {"name": "set", "script": "setup.sh", "args": ["a b", "c"], "env": {"PLACE": "here"}, "user": "nobody",
         "workdir": "/tmp"},
        {"name": "breaks", "run": "echo before; test -e /root/mended; echo after"},
        {"name": "each", "run": "echo each >> /root/ran", "when": "always"},
        {"name": "rare", "run": "echo rare >> /root/ran", "when": "never"},
    ]  # fmt: skip
    asked = machine(provision=steps)
    assert [step.name for step in world.pending(asked).due] == ["step-1", "set", "breaks", "each"]
    with pytest.raises(provision.StepFailed) as caught:
        world.run(asked)
    failed = caught.value
    assert (failed.member, failed.step, failed.exit_code) == ("web", "breaks", 1)
    assert failed.log.read_text() == "before\n"
    assert failed.log.stat().st_mode & 0o777 == 0o600
    lines = world.lines()
    assert "/bin/sh -e /var/lib/skerry/steps/step-1" in lines[0], "what is run is in no list of processes"
    assert "token" not in lines[0]
    assert "/var/lib/skerry/steps/set a b c here nobody /tmp" in lines
    assert world.guest("ls -A /var/lib/skerry/steps; stat -c %a:%u " + PATH) == "600:0\n"
    assert world.box.checkpoints() == []

    outlook = world.pending(asked)
    assert ([step.name for step in outlook.due], outlook.resumes) == (["breaks", "each"], "breaks")
    world.guest("touch /root/mended")
    done = world.run(asked)
    assert (done.ran, done.skipped, bool(done.checkpoint)) == (["breaks", "each"], ["step-1", "set"], True)
    done = world.run(asked)
    assert (done.ran, done.checkpoint) == (["each"], None), "what is always done makes no new place to go back to"

    script.write_text("#!/bin/bash\necho other\n")
    assert world.pending(asked).changed == ["set"]
    assert world.run(asked, only=["rare", "set"]).ran == ["set", "rare"]
    assert world.pending(asked).changed == []
    until(lambda: len(world.box.checkpoints()) == 1)  # the older one goes
    assert world.guest("cat /root/ran").split() == ["first", "each", "each", "rare"]

    [fork] = world.box.fork()
    mine, world.box = world.box, fork
    assert [step.name for step in world.pending(asked).due] == ["each"]
    with pytest.raises(NotFound, match="never made ready"):
        provision.reset(world.client.transport, fork.id)
    fork.delete()
    world.box = mine
    world.guest("rm -rf /root /var/lib/skerry; mkdir /root")
    assert len(world.pending(asked).due) == 4
    provision.reset(world.client.transport, world.box.id)
    assert [step.name for step in world.pending(asked).due] == ["each"]
    assert "rare" in world.guest("cat /root/ran")


def test_record_is_read_from_one_that_sleeps_or_is_stopped_and_whatever_it_holds(world: World) -> None:
    asked = machine(provision=[{"run": "true"}])
    world.run(asked)
    for rest in (lambda: world.box.sleep(force=True), lambda: world.box.sleep(cold=True, force=True)):
        rest()
        assert world.pending(asked).due == []
        assert world.box.state == "asleep", "a look wakes nobody"
    world.box.stop()
    assert world.pending(asked).due == []
    world.box.start()
    for rubbish in ("head -c 300000 /dev/zero > {}", "echo '[1' > {}", "rm {0}; mkdir {0}", "rm -r {0}; mkfifo {0}"):
        world.guest(rubbish.format(PATH))
        assert len(world.pending(asked).due) == 1, rubbish
    world.guest(f"rm {PATH}; echo nonsense > {PATH}")
    world.run(asked)
    assert [event.kind for event in world.told] == ["note", "began", "ended"]
    assert json.loads(world.guest(f"cat {PATH}"))["steps"].keys() == {"step-1"}


def test_copy_and_what_may_not_be_copied(world: World) -> None:
    conf = world.folder / "conf"
    (conf / "deep").mkdir(parents=True)
    (conf / "a.txt").write_text("a")
    (conf / "deep/b.log").write_text("b")
    (conf / "out").symlink_to("/etc/passwd")
    (world.folder / "leads-out").symlink_to("/etc")
    target = {"source": "conf", "target": "/srv/", "owner": "nobody", "exclude": ["*.log"]}
    single = {"source": "conf/a.txt", "target": "/srv/one", "mode": "0640"}
    world.run(machine(provision=[{"copy": target}, {"copy": single}]))
    found = world.guest("cd /srv; find conf one -printf '%p %u %m %y\\n' | sort").splitlines()
    assert [line.split()[:2] for line in found if line.startswith("conf")] == [
        ["conf", "nobody"], ["conf/a.txt", "nobody"], ["conf/deep", "nobody"], ["conf/out", "nobody"],
    ]  # fmt: skip
    assert found[-1] == "one root 640 f"
    assert found[3].endswith("l"), "a link stays one, and nothing of this machine goes with it"
    for source in ("leads-out/passwd", "leads-out"):
        with pytest.raises(provision.StepFailed, match="leads out of"):
            world.run(machine(provision=[{"name": "out", "copy": {"source": source, "target": "/srv/x"}}]))
    # A guest that has the folder bound may put links where our logs go.
    shutil.rmtree(world.folder / ".skerry")
    (world.folder / ".skerry").symlink_to("/etc")
    with pytest.raises(Exception, match="cannot write"):
        world.run(machine(provision=[{"name": "again", "run": "true"}]))
    assert not Path("/etc/logs").exists()


@pytest.mark.timeout(400)  # the first on a machine fetches the packages of its image
def test_ansible_and_cloud_init(world: World) -> None:
    (world.folder / "play.yml").write_text(
        """
- hosts: apps
  gather_subset: [min, distribution]
  tasks:
    - copy: {content: "{{ said }} {{ inventory_hostname }} {{ ansible_facts.distribution }}", dest: /root/said}
    - copy: {content: x, dest: /root/not}
      tags: [never-this]
    - fail: {msg: as asked}
      when: breaks | bool
"""
    )
    ansible = {"playbook": "play.yml", "groups": ["apps"], "skip_tags": ["never-this"]}
    user_data = (
        "#cloud-config\nwrite_files:\n- {path: /root/by-cloud-init, content: hello}\n"
        "users:\n- name: tess\nruncmd:\n- [touch, /root/last]\n"
    )
    steps = [{"name": "play", "ansible": {**ansible, "vars": {"said": "hi; $(id) 'x'", "breaks": False}}}]
    asked = machine(user_data=user_data, provision=steps)
    with pytest.raises(provision.StepFailed, match="user_data is for cloud-init, which this image does not have"):
        world.run(asked)
    with pytest.raises(provision.StepFailed):
        world.run(machine(provision=steps))
    assert "the sandbox has no python3, which ansible's modules need: install it in a step before" in world.lines()
    layer = file_chunks(debian_packages("python3", "cloud-init"))
    world.client.transport.json(calls.write_archive(sandbox_path(world.box.id), "/", layer))
    assert world.run(asked).ran == ["user-data", "play"]
    assert world.guest("cat /root/said /root/by-cloud-init") == "hi; $(id) 'x' web Debianhello"
    assert world.guest("ls /root/last /root/not 2>/dev/null; id -un tess") == "/root/last\ntess\n"
    broken = [{"name": "play", "ansible": {**ansible, "vars": {"said": "", "breaks": True}}}]
    with pytest.raises(provision.StepFailed) as caught:
        world.run(machine(provision=broken), only=["play"])
    assert caught.value.exit_code == 2
    assert any("as asked" in line for line in world.lines())


def test_rsync_makes_the_copy_as_the_folder_is(world: World) -> None:
    tree = world.folder
    for name in ("src/app.py", "src/old.py", "gone/deep/x", "build/out", "swap", "node_modules/kept-here/index.js"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "tool.sh").write_text("#!/bin/sh\n")
    (tree / "tool.sh").chmod(0o755)
    (tree / "link").symlink_to("../../etc/hostname")
    (tree / "ünï ☃").write_text("x")
    os.mkfifo(tree / "pipe")
    each = {"sync": "rsync", "exclude": ["node_modules/", "/build"]}
    asked = machine(folders=[each, {"sync": "snapshot", "source": "src", "target": "/opt/src"}])
    first, snapshot = world.sync(asked)
    assert (snapshot.target, snapshot.sent) == ("/opt/src", 2)
    listed = world.guest("cd /workspace; find . -printf '%P %y %m %l\\n' | sort")
    assert "build" not in listed
    assert "tool.sh f 755" in listed
    assert "link l 777 ../../etc/hostname" in listed
    assert "ünï ☃" in listed
    [again] = world.sync(asked)
    assert (again.sent, again.removed, first.removed) == (0, 0, 0), "nothing to do, and a snapshot is taken once"

    world.guest("cd /workspace; mkdir -p node_modules/theirs gone/node_modules; echo new > src/extra; rm src/app.py;"
                "echo theirs > src/old.py; rm -r link; mkdir -p link/in; ln -s / gone/root")  # fmt: skip
    shutil.rmtree(tree / "gone")
    (tree / "swap").unlink()
    (tree / "swap").mkdir()
    (tree / "swap/in").write_text("in")
    os.utime(tree / "tool.sh", (1, 1))
    [third] = world.sync(asked)
    assert world.guest("cd /workspace; cat src/app.py src/old.py swap/in; readlink link; stat -c %Y tool.sh") == (
        "src/app.pysrc/old.pyin../../etc/hostname\n1\n"
    )
    assert world.guest("cd /workspace; find . -name extra -o -name deep -o -name root") == ""
    assert world.guest("cd /workspace; ls -d node_modules/theirs gone/node_modules").count("\n") == 2, "not ours"
    assert third.sent == 6
    with pytest.raises(Invalid, match="not a folder"):
        world.sync(machine(folders=[{"source": "tool.sh", "sync": "rsync"}]))


def test_watch_over_sleep_and_restore(world: World) -> None:
    asked = machine(folders=[{"sync": "rsync", "exclude": ["*.tmp"]}], user="nobody")
    (world.folder / "a").write_text("1")
    kept = world.box.checkpoint()
    stop = threading.Event()
    arguments = (world.client.transport, world.box.id, "web", asked, world.folder, world.told.append, stop)
    watching = threading.Thread(target=folders.watch, args=arguments)
    watching.start()
    delays: list[float] = []

    def comes(path: str, text: str) -> None:
        began = time.monotonic()
        until(lambda: text in world.box.commands.run(["cat", f"/workspace/{path}"]).stdout)
        delays.append(time.monotonic() - began)

    try:
        comes("a", "1")
        for number in range(5):
            (world.folder / f"new-{number}/deep").mkdir(parents=True)
            (world.folder / f"new-{number}/deep/file").write_text(f"text {number}")
            comes(f"new-{number}/deep/file", f"text {number}")
        assert min(delays[1:]) < 1.0, delays
        world.box.sleep(cold=True, force=True)
        (world.folder / "a").write_text("2")
        comes("a", "2")
        world.box.restore(kept)
        (world.folder / "no.tmp").write_text("x")
        (world.folder / "b").write_text("b")
        comes("b", "b")
        assert world.guest("stat -c %U /workspace /workspace/a; ls /workspace") == (
            "nobody\nnobody\na\nb\nnew-0\nnew-1\nnew-2\nnew-3\nnew-4\n"
        )
    finally:
        stop.set()
        watching.join(30)
    assert not watching.is_alive()
    print(f"seen after {sorted(delays[1:6])[2] * 1000:.0f} ms")
