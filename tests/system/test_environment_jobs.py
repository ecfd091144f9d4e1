"""Jobs and queues of a skerry.yaml on real sandboxes: made in order, seen through, changed, cancelled, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server
from tests.system.environment_world import Folder

pytestmark = pytest.mark.system

BATCH = """\
version: 1
volumes: {data: {size: 32MiB}}
queues:
  lab: {policy: fifo, quotas: [{project: default, limit: {cpu: 64}}]}
sandboxes:
  db: {image: "debian:12", memory: 64MiB, folders: [], queue: lab}
jobs:
  make:
    image: debian:12
    memory: 64MiB
    command: for n in 1 2 3; do echo $n; done > /data/{index}; echo made {index}
    mounts: [data:/data]
    array: 2
    queue: lab
    depends_on: {db: started}
  count:
    image: debian:12
    memory: 64MiB
    folder: .
    command: sh count.sh
    mounts: ["data:/data:ro"]
    depends_on: [make]
  long:
    image: debian:12
    memory: 64MiB
    command: exec sleep 300
    grace_s: 0
    autostart: false
services:
  web:
    image: debian:12
    memory: 64MiB
    command: exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, Listen => 9); sleep'
    port: 80
    drain: 0s
    scaling: {minimum: 1, maximum: 2}
    depends_on: [count]
"""


@pytest.fixture
def folder(tmp_path: Path, server: Server) -> Iterator[Folder]:
    made = Folder(tmp_path / "batch", server)
    yield made
    made.skerry("destroy", "--yes", "--force", "--volumes")


def test_jobs_live_through_the_changes_of_their_file(folder: Folder) -> None:
    folder.write(BATCH)
    (folder.path / "count.sh").write_text("cat /data/* | wc -l; exit 0\n")
    assert folder.actions() == dict.fromkeys(("data", "lab", "db", "make", "count", "web"), "create")
    folder.skerry("up")
    ended = {"make": "succeeded", "count": "succeeded"}
    assert folder.states() == {"db": "running", **ended, "long": "absent", "web": "healthy"}
    assert folder.actions() == {}
    assert folder.skerry("logs", "count").splitlines() == ["count | 6"]
    assert sorted(folder.skerry("logs", "make").splitlines()) == ["make/0 | made 0", "make/1 | made 1"]

    # What is declared otherwise is another job, and so is what depends on it.
    folder.write(BATCH.replace("array: 2", "array: 3"))
    assert folder.actions() == {"make": "create", "count": "create"}
    folder.skerry("up")
    assert folder.skerry("job", "wait", "count") == "batch-count succeeded\n"
    assert folder.skerry("job", "logs", "count") == "9\n"

    # One that goes on is cancelled for that, once somebody has agreed; its sandboxes are nobody's leftovers.
    folder.skerry("up", "long")
    assert folder.actions() == {}
    folder.write(BATCH.replace("array: 2", "array: 3").replace("sleep 300", "sleep 301"))
    assert "this would replace long" in folder.skerry("up", "long", code=2)
    folder.skerry("up", "long", "--yes")
    assert folder.states()["long"] in ("pending", "running")
    folder.skerry("down")
    assert folder.states() == {"db": "stopped", **ended, "long": "cancelled", "web": "stopped"}
    assert folder.json("service", "info", "web")["replicas"] == []

    folder.write(BATCH[: BATCH.index("  long:")].replace("array: 2", "array: 3") + BATCH[BATCH.index("services:") :])
    assert folder.actions() == {"db": "start", "web": "start", "long": "delete"}
    folder.skerry("up", "--yes")
    assert folder.states() == {"db": "running", **ended, "web": "healthy"}
    assert folder.skerry("destroy", "--yes", "--volumes").count("deleted") == 6
    assert folder.json("job", "list", "-l", "skerry.environment=batch") == []
    assert [queue["name"] for queue in folder.json("queue", "list")] == ["default"]


QUEUES = """\
version: 1
queues:
  lab: {name: lab-of-all, aging_s: null, preemption: false}
sandboxes:
  web: {image: "debian:12", memory: 64MiB, folders: [], queue: lab}
  other: {image: "debian:12", memory: 64MiB, folders: []}
"""


def test_a_queue_changes_in_place_and_goes_when_nothing_is_left_in_it(folder: Folder) -> None:
    folder.write(QUEUES.replace("queue: lab}", "queue: lab-of-al}"))
    said = folder.skerry("up", code=3)
    assert "sandboxes.web.queue: there is no queue lab-of-al; did you mean" in said
    assert folder.json("queue", "list")[1:] == folder.json("ps") == [], "nothing was made"

    folder.write(QUEUES)
    folder.skerry("up")
    assert folder.actions() == {}
    spec = folder.json("queue", "show", "lab-of-all")["spec"]
    assert (spec["aging_s"], spec["preemption"]["enabled"]) == (None, False)

    folder.skerry("queue", "update", "lab-of-all", "--policy", "fifo")
    assert "policy: fifo -> fair-share (changed outside the file)" in folder.skerry("plan")
    folder.write(QUEUES.replace("aging_s: null", "pending_max: 5"))
    folder.skerry("up")
    spec = folder.json("queue", "show", "lab-of-all")["spec"]
    assert (spec["policy"], spec["aging_s"], spec["pending_max"]) == ("fair-share", 3600.0, 5)

    # One that has left the file is shown with what is in it, and deleted after that has left it.
    less = QUEUES.replace("  lab: {name: lab-of-all, aging_s: null, preemption: false}\n", "").replace("queues:\n", "")
    folder.write(less.replace("queue: lab}", "queue: lab-of-all}"))
    assert "1 run and 0 wait in it now; it is deleted if they have left it by then" in folder.skerry("plan")
    assert "queue lab-of-all has work in it: batch-web" in folder.skerry("up", "--yes", code=4)
    folder.write(less.replace(", queue: lab}", "}"))
    assert folder.actions() == {"web": "update", "lab": "delete"}
    folder.skerry("up", "--yes")
    assert folder.states() == {"web": "running", "other": "running"}
    assert [queue["name"] for queue in folder.json("queue", "list")] == ["default"]
