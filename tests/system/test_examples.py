"""The environments of examples/, each brought up from its own file as its README says, and seen to do its work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.packages import folder_of
from tests.house.source import ROOT
from tests.server import CACHE, Server, debian_tree, oci_archive
from tests.system.environment_world import Folder

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SORTED_WORDS = ("hbadfe", "jihgfa", "abcabc", "cgaifb", "eacebd", "fdbhji") * 2
UNTIL_S_MAX = 60.0
TRAINING_S_MAX = 250.0
"""Importing PyTorch for the first time takes long on a machine that is busy."""
TRAINING_STEPS, CHECKPOINT_STEPS = 300, 25
TRAINED = "/output/ddp-train/0"
"""Where the training leaves what it has made."""


@pytest.fixture
def example(tmp_path: Path, server: Server) -> Iterator[Callable[[str], Folder]]:
    made: list[Folder] = []

    def copy(name: str) -> Folder:
        """Away from the sources, so that nothing is written there."""
        source = ROOT / "examples" / name
        shutil.copytree(
            source, tmp_path / name, ignore=shutil.ignore_patterns("site", "client", "skerry.override.yaml")
        )
        folder = Folder(tmp_path / name, server)
        made.append(folder)
        return folder

    yield copy
    for folder in made:
        folder.skerry("destroy", "--yes", "--volumes")


def until(said: Callable[[], str], wanted: str) -> str:
    """What is said, once `wanted` is in it."""
    deadline_s = time.monotonic() + UNTIL_S_MAX
    while True:
        text = said()
        if wanted in text:
            return text
        assert time.monotonic() < deadline_s, text
        time.sleep(0.1)


def test_the_cluster_counts_together(example: Callable[[str], Folder]) -> None:
    folder = example("cluster")
    # An archive that another test makes too, in place of the recipe, which takes half a minute.
    archive = oci_archive(debian_tree("python3", "cloud-init"), CACHE / "debian-12-python3.oci.tar")
    node = f"images: {{node: {{archive: {archive}, recipe: null, include: null}}}}"
    folder.write(node, "skerry.override.yaml")
    folder.skerry("up", "--allow-outside")
    ask = "python3 /opt/cluster/cluster.py status http://localhost:8000 || true"
    look = ("exec", "server", "--", "sh", "-c", ask)
    deadline_s = time.monotonic() + UNTIL_S_MAX
    while (found := json.loads(folder.skerry(*look)))["primes"] is None:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.1)
    assert found["primes"] == 17984  # below 200,000: https://oeis.org/A000720
    assert set(found["agents"]) == {"agent-1", "agent-2"}
    assert all(found["agents"].values()), "both have done some of it"
    # They are on a network without any way outside.
    folder.skerry(
        "exec", "agent-1", "--", "python3", "-c", "import socket; socket.create_connection(('1.1.1.1', 53), 2)", code=1
    )
    folder.skerry("exec", "agent-2", "--", "rm", "-rf", "/opt/cluster", "/usr/lib/python3")
    folder.skerry("reset", "agent-2")
    folder.skerry("exec", "agent-2", "--", "test", "-e", "/opt/cluster/cluster.py")
    assert folder.actions() == {}


def test_the_database_is_replicated(example: Callable[[str], Folder]) -> None:
    def role(name: str) -> dict[str, str]:
        lines = folder.skerry("exec", name, "--", "database-role").splitlines()
        return dict(line.split(": ", 1) for line in lines)

    folder = example("mariadb")
    assert "mariadb-replication" in folder.skerry("up", code=3)  # a secret that is not there is no empty one
    folder.skerry("secret", "set", "mariadb-replication", stdin="s3cret\n")
    folder.skerry("up")
    until(lambda: folder.skerry("exec", "replica", "--", "sh", "-c", "database-role || true"), "lag: 0\n")
    until(lambda: folder.skerry("exec", "primary", "--", "database-role"), "replicas: replica")
    assert role("primary") == {"role": "primary", "replicas": "replica"}
    assert role("replica") == {
        "role": "replica",
        "primary": "primary",
        "lag": "0",
        "io_thread": "Yes",
        "sql_thread": "Yes",
    }
    insert = "INSERT INTO shop.orders (item) VALUES ('a chair')"
    folder.skerry("exec", "primary", "--", "mariadb", "-e", insert)
    select = ("exec", "replica", "--", "mariadb", "-N", "-e", "SELECT item FROM shop.orders")
    until(lambda: folder.skerry(*select), "a chair")

    # A replica that stops says so, and the check fails.
    folder.skerry("exec", "replica", "--", "mariadb", "-e", "STOP SLAVE SQL_THREAD")
    assert "sql_thread: No" in folder.skerry("exec", "replica", "--", "database-role", code=1)

    # One that is replicated from and replicates is both.
    login = "MASTER_USER='replication', MASTER_PASSWORD='s3cret', MASTER_USE_GTID=slave_pos"
    turn = f"CHANGE MASTER TO MASTER_HOST='replica', {login}; START SLAVE"
    folder.skerry("exec", "replica", "--", "mariadb", "-e", "START SLAVE")
    folder.skerry("exec", "primary", "--", "mariadb", "-e", turn)
    until(lambda: folder.skerry("exec", "primary", "--", "sh", "-c", "database-role || true"), "io_thread: Yes")
    assert role("primary")["role"] == "both"
    assert "s3cret" not in folder.skerry("plan") + folder.skerry("inspect", "replica", "--json")


def test_the_sweep_picks_the_best(example: Callable[[str], Folder]) -> None:
    folder = example("sweep")
    folder.skerry("up")
    assert folder.skerry("job", "wait", "best") == "sweep-best succeeded\n"
    assert [task["state"] for task in folder.json("job", "tasks", "descend")] == ["succeeded"] * 9
    assert folder.skerry("job", "logs", "best").splitlines()[-1] == "0.000000006 rate 0.4 momentum 0.5"
    assert folder.json("job", "show", "descend")["used"]["stays"] == 9
    assert folder.actions() == {}


@pytest.mark.timeout(600)
def test_training_goes_on_after_a_worker_was_killed(example: Callable[[str], Folder]) -> None:
    folder = example("ddp-training")
    archive = oci_archive(debian_tree("python3", "cloud-init"), CACHE / "debian-12-python3.oci.tar")
    folder.write(
        f"images: {{python: {{archive: {archive}, recipe: null, include: null}}}}\n"
        f"jobs: {{train: {{env: {{STEPS: '{TRAINING_STEPS}'}}}}}}",
        "skerry.override.yaml",
    )
    kept = ROOT / "examples/ddp-training/site"
    if kept.exists() and kept.stat().st_dev == folder.path.stat().st_dev:  # somebody has prepared it here
        shutil.copytree(kept, folder.path / "site", copy_function=os.link)
    ran = subprocess.run(["./prepare"], cwd=folder.path, env=with_our_python(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    folder.skerry("up", "--allow-outside")

    def losses() -> list[list[str]]:
        look = f"cat {TRAINED}/losses.csv || true"
        return [line.split(",") for line in folder.skerry("exec", "results", "--", "sh", "-c", look).splitlines()]

    deadline_s = time.monotonic() + TRAINING_S_MAX
    while not (before := losses()) or int(before[-1][1]) < CHECKPOINT_STEPS + 5:
        assert time.monotonic() < deadline_s, folder.skerry("job", "tasks", "train")
        time.sleep(0.2)
    worker = folder.json("job", "tasks", "train")[0]["members"][1]["sandbox"]
    folder.skerry("exec", worker, "--", "sh", "-c", "kill -9 $(pidof python3)")
    while (task := folder.json("job", "tasks", "train")[0])["state"] != "succeeded":
        assert time.monotonic() < deadline_s + TRAINING_S_MAX, task
        time.sleep(0.5)

    folder.skerry("cp", f"results:{TRAINED}", "output")
    told = [line.split(",") for line in (folder.path / "output/losses.csv").read_text().splitlines()]
    first, second = ({int(step): float(loss) for attempt, step, loss in told if attempt == each} for each in "01")
    assert {attempt for attempt, _, _ in told} == {"0", "1"}
    resumed = min(second) - 5
    assert resumed >= CHECKPOINT_STEPS
    assert resumed % CHECKPOINT_STEPS == 0, "from a checkpoint"
    assert all(second[step] == pytest.approx(first[step], abs=0.01) for step in first.keys() & second.keys())
    assert max(second) == TRAINING_STEPS
    assert second[TRAINING_STEPS] < 0.1 < 2.0 < first[5]
    assert [path.name for path in sorted((folder.path / "output/checkpoints").iterdir())] == [
        f"step-{step:06}.pt" for step in (TRAINING_STEPS - CHECKPOINT_STEPS, TRAINING_STEPS)
    ]
    picture = (folder.path / "output/loss.svg").read_text()
    assert "attempt 0: steps 5 to" in picture
    assert f"attempt 1: steps {resumed + 5} to {TRAINING_STEPS}" in picture
    sample = [line.split(">") for line in (folder.path / "output/sample.txt").read_text().splitlines()]
    assert sum(answer == "".join(sorted(word)) for word, answer in sample) >= 90


@pytest.fixture
def gateway(server: Server) -> Iterator[Server]:
    server.start("gateway")
    yield server
    server.stop("gateway")


def test_a_model_is_trained_and_served_while_a_replica_is_lost(
    example: Callable[[str], Folder], gateway: Server
) -> None:
    folder = example("train-and-serve")
    archive = oci_archive(debian_tree("python3", "cloud-init"), CACHE / "debian-12-python3.oci.tar")
    folder.write(
        f"images: {{python: {{archive: {archive}, recipe: null, include: null}}}}",
        "skerry.override.yaml",
    )
    if sys.version_info[:2] == (3, 11) and CACHE.stat().st_dev == folder.path.stat().st_dev:
        # The Python of Debian 12 too: what the engine's own test has installed.
        site = folder_of("torch==2.13.0", "transformers")
        shutil.copytree(site, folder.path / "site", copy_function=os.link)
    ran = subprocess.run(["./prepare"], cwd=folder.path, env=with_our_python(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    folder.skerry("up", "--allow-outside")
    assert folder.skerry("job", "wait", "train") == "sort-train succeeded\n"
    key = folder.skerry("service", "token", "create", "tester", "--service", "sorter", "--quiet").strip()

    def ask(*words: str) -> list[str]:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": "client",
            "OPENAI_BASE_URL": f"http://{gateway.settings.url_listen}/v1",
            "OPENAI_API_KEY": key,
        }
        command = [sys.executable, "ask.py", *words]
        asked = subprocess.run(command, cwd=folder.path, env=environ, capture_output=True, text=True, timeout=60)
        assert asked.returncode == 0, asked.stderr
        models, *answers, stream = asked.stdout.splitlines()
        assert models == "models: sorter"
        assert stream.startswith(f"as a stream: {words[0]} -> {' '.join(sorted(words[0]))}, by ")
        assert [line.split(",")[0] for line in answers] == [f"{word} -> {''.join(sorted(word))}" for word in words]
        return [line.rpartition(" by ")[2] for line in answers]

    assert len(set(ask(*SORTED_WORDS))) == 2, "both replicas answer"
    lost, other = (replica["sandbox"] for replica in folder.json("service", "info", "sorter")["replicas"])
    folder.skerry("exec", lost, "--", "sh", "-c", "kill -9 $(pidof python3)")
    assert other in set(ask(*SORTED_WORDS)), "and nobody is told that one of them was lost"
    until(lambda: f"ready {folder.json('service', 'info', 'sorter')['ready']}", "ready 2")
    assert folder.actions() == {}


def with_our_python() -> dict[str, str]:
    """The environment of somebody who has the virtual environment's commands on their path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
