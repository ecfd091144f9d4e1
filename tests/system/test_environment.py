"""`skerry up` and its kin on real sandboxes: made in order, changed with the least, put back, taken down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server
from tests.system.environment_world import Folder

pytestmark = pytest.mark.system


@pytest.fixture
def folder(tmp_path: Path, server: Server) -> Iterator[Folder]:
    made = Folder(tmp_path / "shop", server)
    yield made
    made.skerry("destroy", "--yes", "--force", "--volumes")


SHOP = """\
version: 1
sizes: {small: {cpu: 1, memory: 64MiB, disk: 64MiB}}
networks: {backend: {subnet: 10.177.3.0/24}}
volumes: {data: {size: 32MiB}}
templates: {base: {image: "debian:12", size: small}}
sandboxes:
  init:
    extends: base
    folders: []
    mounts: ["data:/data"]
    command: echo ready >> /data/state
  db:
    extends: base
    depends_on: {init: completed}
    mounts: ["data:/data"]
    networks: {backend: 10.177.3.5}
    services:
      db:
        command: "[ -s /data/state ] && touch /run/up && exec sleep 1000"
        health: {command: test -e /run/up, interval: 0.5s}
  web:
    extends: base
    count: 2
    primary: true
    depends_on: {db: healthy}
    networks: [backend]
    env: {NUMBER: "{index}"}
"""


def test_an_environment_lives_through_all_its_changes(folder: Folder) -> None:
    folder.write(SHOP)
    (folder.path / "index.html").write_text("hello")
    os.chown(folder.path / "index.html", 1000, 1000)
    os.chown(folder.path, 1000, 1000)
    assert folder.actions() == dict.fromkeys(("backend", "data", "init", "db", "web-1", "web-2"), "create")
    folder.skerry("up")
    assert folder.actions() == {}
    assert "nothing to do" in folder.skerry("up")
    assert folder.states() == {"init": "stopped", "db": "running", "web-1": "running", "web-2": "running"}

    # They see the folder, each other and their numbers; whose the folder is on the host is root inside.
    look = "stat -c %U /workspace/index.html; touch /workspace/made; getent hosts db; hostname; echo $NUMBER"
    assert folder.skerry("exec", "web-2", "--", "sh", "-c", look).split() == ["root", "10.177.3.5", "db", "web-2", "2"]
    assert (folder.path / "made").stat().st_uid == 1000
    assert folder.skerry("exec", "web-1", "--", "cat", "/data/state", code=1)  # it has not asked for the volume

    # What needs a restart keeps the disk; what does not keeps the processes; what was done by hand is told.
    folder.skerry("exec", "web-1", "--", "sh", "-c", "echo kept > /root/note")
    folder.write(SHOP.replace('NUMBER: "{index}"', 'NUMBER: "n{index}"').replace("memory: 64MiB", "memory: 96MiB"))
    assert folder.actions() == {"init": "update", "db": "update", "web-1": "restart", "web-2": "restart"}
    folder.skerry("up", "web-1", "db")
    assert folder.skerry("exec", "web-1", "--", "sh", "-c", "cat /root/note; echo $NUMBER").split() == ["kept", "n1"]
    folder.skerry("update", "web-1", "--memory", "128MiB")
    told = {step["key"]: step["reasons"] for step in folder.json("plan")}["web-1"]
    assert [(reason["say"], reason["drift"]) for reason in told] == [("memory: 128MiB -> 96.0MiB", True)]
    folder.skerry("up")
    assert folder.actions() == {}
    said = folder.skerry("exec", "db", "--", "cat", "/data/state")
    assert said.split() == ["ready"], "what has done its work is not started again for a change of its limits"

    # What has left the file is deleted only after somebody has agreed.
    folder.write((folder.path / "skerry.yaml").read_text().replace("count: 2", "count: 1"))
    assert folder.actions() == {"web-2": "delete"}
    assert "this would delete web-2" in folder.skerry("up", code=2)
    folder.skerry("up", "--yes")
    assert set(folder.states()) == {"init", "db", "web-1"}

    folder.skerry("down")
    assert set(folder.states().values()) == {"stopped"}
    folder.skerry("up")
    assert folder.states()["db"] == "running"
    folder.skerry("suspend", "web-1")
    assert folder.states()["web-1"] == "asleep"
    assert folder.actions() == {}  # one that sleeps is as it should be
    folder.skerry("resume")
    folder.skerry("restart", "web-1")
    assert folder.states()["web-1"] == "running"
    assert "say --yes" in folder.skerry("destroy", code=2)
    folder.skerry("destroy", "--yes")
    assert set(folder.states().values()) == {"absent"}
    assert [volume["name"] for volume in folder.json("volume", "list") if volume["name"] == "shop-data"]  # data stays


STEPS = """\
sandboxes:
  box:
    image: debian:12
    memory: 64MiB
    folders: []
    provision:
      - {name: first, run: "echo first >> /root/ran"}
      - {name: second, run: "test -e /root/allowed || { echo not yet; exit 7; }; echo second >> /root/ran"}
      - {name: each, run: "echo each >> /root/ran", when: always}
      - {name: tree, copy: "./tree:/srv/tree", when: always}
      - {name: seldom, run: "echo seldom >> /root/ran", when: never}
"""


def test_steps_run_once_go_on_after_a_failure_and_can_be_gone_back_to(folder: Folder) -> None:
    def ran() -> list[str]:
        return folder.skerry("exec", "box", "--", "cat", "/root/ran").split()

    folder.write(STEPS)
    (folder.path / "tree").mkdir()
    (folder.path / "tree" / "leaf").touch()
    steps = {step["key"]: step["steps"] for step in folder.json("plan")}
    assert steps == {"box": ["first", "second", "each", "tree"]}
    assert "step second failed: exit 7" in folder.skerry("up", code=1)
    assert "runs second, each, tree" in folder.skerry("plan")
    assert "not yet" in folder.skerry("logs", "box", "--step", "second")
    folder.skerry("exec", "box", "--", "touch", "/root/allowed")
    folder.skerry("up")
    assert ran() == ["first", "second", "each"]
    folder.skerry("provision", "--only", "seldom", "--only", "tree")
    assert folder.skerry("exec", "box", "--", "ls", "/srv/tree").split() == ["leaf"]  # however often it is copied
    assert ran() == ["first", "second", "each", "seldom"]
    folder.skerry("exec", "box", "--", "rm", "-rf", "/usr", "/root/ran")
    folder.skerry("reset", "box")
    assert ran()[:3] == ["first", "second", "each"]


def test_up_that_was_killed_goes_on(folder: Folder) -> None:
    folder.write(
        "sandboxes: {box: {image: 'debian:12', memory: 64MiB, count: 4, provision: ['sleep 0.1; touch /root/done']}}"
    )
    for after_s in (0.15, 0.3, 0.45, 0.6):
        folder.killed(after_s, "up")
    folder.skerry("up")
    assert folder.actions() == {}
    for number in range(1, 5):
        folder.skerry("exec", f"box-{number}", "--", "test", "-e", "/root/done")


def test_a_file_reaches_no_further_than_its_folder_unasked(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "outside"
    secret.mkdir()
    folder.write(f"sandboxes: {{box: {{image: 'debian:12', memory: 64MiB, folders: ['{secret}:/x']}}}}")
    assert f"uses what lies outside its folder: {secret}" in folder.skerry("up", code=2)
    folder.skerry("up", "--allow-outside")
    folder.skerry("up")  # that was said once

    # Another file of the same name does not take turns with this one.
    other = Folder(tmp_path / "elsewhere" / "shop", folder.server)
    other.write("name: shop\nsandboxes: {box: {image: 'debian:12'}}")
    assert "--adopt" in other.skerry("up", code=4)


def test_mistakes_are_told_with_their_lines_and_nothing_is_done(folder: Folder) -> None:
    folder.write("sandboxes:\n  a: {imag: x}\n  b: {image: i, depends_on: [c]}\n")
    told = folder.skerry("up", code=2).splitlines()
    assert told[0] == "error: skerry.yaml:2: sandboxes.a.imag: there is no such field; did you mean image?"
    assert any(line.startswith("error: skerry.yaml:3: sandboxes.b.depends_on.c: ") for line in told)
    folder.write("sandboxes: {a: {image: 'nothing:1'}}")
    assert "there is no image nothing:1" in folder.skerry("up", code=3)
    folder.write("sandboxes: {}")
