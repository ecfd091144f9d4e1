"""Queues and nodes by the command line with a real server, and what a sandbox in one shows of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from skerry import Client
from skerry.errors import NotFound
from skerry.model.sandbox import S
from tests.server import Server
from tests.system.conftest import IMAGE
from tests.system.test_life import until


def skerry(server: Server, *words: str, code: int = 0) -> str:
    environ = {**os.environ, "SKERRY_ADDRESS": server.address, "SKERRY_KEY": server.key}
    done = subprocess.run(
        [sys.executable, "-m", "skerry.main", *words], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def read(server: Server, *words: str) -> Any:
    return json.loads(skerry(server, *words, "--json"))


def test_a_queue_from_its_making_to_its_end(server: Server, client: Client) -> None:
    node = client.nodes.list()[0].name
    skerry(server, "node", "label", node, "rack=a", "old=x")
    assert "rack=a" in skerry(server, "node", "label", node, "old-")
    skerry(server, "queue", "create", "lab", "--node", "rack=a", "--quota", "project=default,limit.cpu=64,weight=2")
    assert "did you mean 'lab'" in skerry(server, "create", IMAGE, "--queue", "lap", code=3)
    try:
        skerry(server, "create", IMAGE, "--name", "queued", "--queue", "lab", "--tier", "mid", "--cpu", "0.5")
        shown = skerry(server, "queue", "show", "lab")
        assert "1 ready of 1 (rack=a)" in shown
        assert [line.split()[:2] for line in shown.splitlines() if line.startswith("default")] == [
            ["default", "all"],
            ["default", "admin"],
        ]
        assert "lab" in skerry(server, "queue", "list")
        info = skerry(server, "inspect", "queued")
        assert [
            line.split(":", 1)[1].strip() for line in info.splitlines() if line.split(":")[0] in ("queue", "tier")
        ] == [
            "lab",
            "mid, priority 50",
        ]
        skerry(server, "queue", "delete", "lab", "-y", code=4)
        said = skerry(server, "queue", "update", "lab", "--remove-quota", "defualt", code=2)
        assert "queue lab has no quota of defualt; did you mean 'default'?" in said
        skerry(server, "queue", "update", "lab", "--policy", "fifo", "--remove-quota", "default", "--reset", "aging")
        spec = read(server, "queue", "show", "lab")["spec"]
        assert (spec["policy"], spec["quotas"], spec["aging_s"], spec["nodes"]) == ("fifo", [], None, {"rack": ["a"]})
        skerry(server, "node", "cordon", node)
        assert read(server, "node", "show", node)["cordoned"] is True
        assert "cordoned" in skerry(server, "node", "list")
        client.sandboxes.create(IMAGE, name="waits", queue="lab", wait=False)
        lines = skerry(server, "queue", "show", "lab").splitlines()
        assert any("waits" in line.split() for line in lines[lines.index("") :]), lines
    finally:
        skerry(server, "node", "uncordon", node)
        skerry(server, "rm", "-y", "queued", "waits")
        skerry(server, "node", "label", node, "rack-")
    skerry(server, "queue", "delete", "lab", "-y")
    with pytest.raises(NotFound):
        client.queues.get("lab")
    assert "did you mean 'default'" in skerry(server, "queue", "show", "defualt", code=3)


def test_a_drain_is_waited_for_and_all_comes_back_after_it(server: Server, client: Client) -> None:
    node = client.nodes.list()[0].name
    box = client.sandboxes.create(IMAGE, name="stays", command="exec sleep 100000")
    skerry(server, "job", "submit", "--name", "moves", "--grace", "0s", "--", "sleep", "100000")
    until(lambda: read(server, "job", "tasks", "moves")[0]["state"] == "running")
    try:
        told = skerry(server, "node", "drain", "-y", node)
        assert f"{node} is drained" in told
        shown = read(server, "node", "show", node)
        assert (shown["draining"], shown["running"]) == (True, 0)
        assert f"its node {node} is being drained" in skerry(server, "inspect", "stays")
    finally:
        skerry(server, "node", "uncordon", node)
    until(lambda: box.info().state is S.RUNNING)
    until(lambda: read(server, "job", "tasks", "moves")[0]["state"] == "running")
    task = read(server, "job", "tasks", "moves")[0]
    assert (task["attempt"], task["failures"]) == (1, 0)
    skerry(server, "job", "cancel", "moves")
    box.delete()
