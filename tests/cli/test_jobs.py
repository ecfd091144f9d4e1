"""Jobs at the command line: what is asked of the server, what is printed while they go, which code ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.demand_options import TIERS
from skerry.cli.job import STATES, TASK_STATES, parameters
from skerry.cli.job_options import WHEN
from skerry.cli.job_view import Seen, bar, block, line
from skerry.model.job import JobSpec, JobState, TaskState, When
from skerry.model.tier import Tier
from tests.cli.conftest import Skerry
from tests.client.fake_control import FakeControl


def spec_of(control: FakeControl) -> dict[str, Any]:
    return next(reversed(control.jobs.jobs.values())).spec.model_dump(mode="json")


def test_the_words_are_the_models() -> None:
    assert (set(STATES), set(TASK_STATES)) == ({*JobState}, {*TaskState})
    assert (set(WHEN), set(TIERS)) == ({*When}, {*Tier})
    spec = JobSpec(image="x", command=["x"], sweep={"lr": [0.1, 0.01], "layers": [2, 4, 8]})
    for index in spec.indices:
        told = " ".join(f"{name}={value}" for name, value in spec.parameters(index).items())
        assert parameters({"lr": [0.1, 0.01], "layers": [2, 4, 8]}, index) == told


def test_every_flag_reaches_the_spec(skerry: Skerry, control: FakeControl, tmp_path: Path) -> None:
    flags = """--image debian:13 --name full --cpu 2 -m 2GiB --disk 1GiB --pids 99 --gpu 0.5 --gpu-kind h100
        --gpu-memory 20GiB --extra licenses=2 --nodes 4 --nodes-min 2 --array 0-9%3 --fail-fast
        --retries 3 --retry-on 1,137 --backoff 10s --timeout 1h --max-duration 2h --grace 5s --keep 1m
        --depends-on a --depends-on b:failed --queue q --tier mid --priority 60
        --node-selector zone=a --node-selector zone=b --node-selector ssd --toleration gpu=only --together rack
        -e K=V -l k=v -v data:/data --output results --secret token=TOKEN --no-network --join lab --port 1234
        -u nobody --notify-webhook https://a.test/x --notify-slack https://b.test/y --notify-secret signing
        --on failed,started"""
    ended = skerry("job", "submit", *flags.split(), "--folder", str(tmp_path), "--", "train", "--lr", "{index}")
    assert ended.code == 0, ended.err
    spec = spec_of(control)
    assert spec["command"] == ["train", "--lr", "{index}"]
    assert (spec["image"], spec["name"], spec["cpu"], spec["memory"]) == ("debian:13", "full", 2, 2 * 1024**3)
    assert (spec["gpu"], spec["gpu_kind"], spec["gpu_memory"]) == (0.5, ["h100"], 20 * 1024**3)
    assert (spec["nodes"], spec["nodes_min"], spec["array"], spec["parallel"]) == (4, 2, "0-9", 3)
    assert spec["retry"] | {"limit": 3, "on": [1, 137], "backoff_s": 10} == spec["retry"]
    assert (spec["timeout"], spec["max_duration"], spec["grace_s"], spec["keep_s"]) == (3600, 7200, 5, 60)
    assert spec["depends_on"] == [{"job": "a", "outcome": "succeeded"}, {"job": "b", "outcome": "failed"}]
    assert (spec["queue"], spec["tier"], spec["priority"], spec["fail_fast"]) == ("q", "mid", 60, True)
    placement = spec["placement"]
    assert (placement["nodes"], placement["tolerations"]) == ({"zone": ["a", "b"], "ssd": []}, ["gpu=only"])
    assert (placement["together"], spec["extras"]) == ("rack", {"licenses": 2})
    shown = {
        "source": str(tmp_path),
        "volume": None,
        "model": None,
        "target": "/workspace",
        "readonly": True,
        "owner": True,
    }
    assert (spec["mounts"][0]["volume"], spec["mounts"][1], spec["workdir"]) == ("data", shown, "/workspace")
    assert (spec["output"], spec["network"]["enabled"], spec["port"], spec["user"]) == (
        "results",
        False,
        1234,
        "nobody",
    )
    events = ["failed", "started"]
    assert spec["notify"] == [
        {"webhook": "https://a.test/x", "slack": None, "secret": "signing", "on": events},
        {"webhook": None, "slack": "https://b.test/y", "secret": None, "on": events},
    ]


def test_what_is_not_given_is_not_sent(skerry: Skerry, control: FakeControl) -> None:
    assert skerry("job", "submit", "-c", "echo {lr} | cat", "--sweep", "lr=0.10,1e-4").code == 0
    job = next(iter(control.jobs.jobs.values()))
    assert job.spec.model_fields_set == {"image", "command", "sweep"}
    assert (job.spec.image, job.spec.command) == ("debian:12", ["/bin/sh", "-c", "echo {lr} | cat"])
    assert job.spec.sweep == {"lr": ["0.10", "1e-4"]}


def test_list_show_tasks_logs(skerry: Skerry) -> None:
    ended = skerry("job", "submit", "--name", "sweep", "--sweep", "a=1,2", "--nodes", "2", "--", "true")
    assert ended.out.startswith("sweep (job-")
    assert ended.out.endswith("is running in queue default, 2 tasks\n")
    rows = skerry("job", "ls").out.splitlines()
    assert rows[0].split() == ["NAME", "ID", "STATE", "TASKS", "QUEUE", "BY", "AGE", "TOOK"]
    assert rows[1].split()[0::2][:2] == ["sweep", "running"]
    assert skerry("job", "list", "--state", "failed", "--json").json == []
    assert "2 nodes of 1 cpu, 1.0GiB" in skerry("job", "show", "sweep").out
    assert [row.split()[2] for row in skerry("job", "tasks", "sweep").out.splitlines()] == ["PARAMETERS", "a=1", "a=2"]
    assert "  left  " in skerry("job", "tasks", "sweep").out
    assert skerry("job", "logs", "sweep", "1", "--rank", "0", "-n", "1").out == "task 1 rank 0 ends\n"
    lines = skerry("job", "logs", "sweep", "--tail", "1").out.splitlines()
    assert sorted(lines) == [f"{index}.{rank} | task {index} rank {rank} ends" for index in (0, 1) for rank in (0, 1)]
    assert skerry("job", "cancel", "sweep", "--task", "1").out == "sweep: 1 of its tasks are cancelled\n"
    refused = skerry("job", "rm", "sweep")
    assert (refused.code, "cancel it first" in refused.err) == (4, True)
    assert skerry("job", "cancel", "sweep").out == "sweep is cancelled\n"
    ended = skerry("job", "rm", "none", "sweep")
    assert (ended.out, ended.code) == ("sweep deleted\n", 3), "one that is not there keeps no other from its turn"
    assert "'none'" in ended.err


def test_waiting_ends_as_the_job_did(skerry: Skerry, control: FakeControl, tmp_path: Path) -> None:
    control.jobs.ends.update(bad=3, many=3)
    assert skerry("job", "submit", "--wait", "--name", "good", "--", "true").code == 0
    ended = skerry("job", "submit", "--wait", "--name", "bad", "--", "false")
    assert (ended.code, ended.out) == (3, "bad failed: task 0 ended with code 3\n")
    assert skerry("job", "wait", "bad").code == 3
    assert skerry("job", "submit", "--wait", "--name", "many", "--array", "0-1", "--", "false").code == 1
    assert skerry("job", "wait", "nobody").code == 125
    skerry("job", "submit", "--name", "slow", "--", "true")
    late = skerry("job", "wait", "slow", "--timeout", "0")
    assert (late.code, "slow has not ended yet" in late.err) == (125, True)
    told = tmp_path / "told"
    then = f'echo "$SKERRY_JOB $SKERRY_JOB_STATE $SKERRY_JOB_EXIT_CODE" > {told}'
    assert skerry("job", "wait", "slow", "--then", then).code == 0
    assert told.read_text() == "slow succeeded 0\n"


def test_watching_says_why_it_waits_and_what_it_prints(skerry: Skerry, control: FakeControl) -> None:
    ended = skerry("job", "submit", "--watch", "--name", "one", "--", "true")
    assert (ended.code, ended.out) == (0, "one succeeded\n")
    assert "one: running\n" in ended.err
    assert "0 | task 0 rank 0 begins\n" in ended.err
    control.jobs.why = "no node has 8 cores free"
    skerry("job", "submit", "--name", "two", "--", "true")
    ended = skerry("job", "watch", "two")
    assert "two: pending: no node has 8 cores free; place 3 in queue default\n" in ended.err


@pytest.mark.parametrize("verb", ["watch", "wait"])
def test_an_interrupt_leaves_it_running_and_says_so(
    skerry: Skerry, control: FakeControl, environ: dict[str, str], verb: str
) -> None:
    control.jobs.slow = True
    skerry("job", "submit", "--name", "one", "--", "true")
    words = [str(Path(sys.executable).with_name("skerry")), "job", verb, "one"]
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as running:
        deadline_s = time.monotonic() + 30
        while sum(asked == "GET /v1/jobs/one" for asked in control.requests) < 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 130, told
    assert "one goes on: `skerry job watch one` looks at it again, `skerry job cancel one` stops it" in told
    assert skerry("job", "show", "one", "--json").json["state"] == "running"


def test_the_live_view() -> None:
    now = datetime.now(UTC)
    progress = {"total": 10, "pending": 2, "running": 2, "succeeded": 5, "failed": 1, "cancelled": 0}
    started = (now - timedelta(minutes=6)).isoformat()
    job = {"name": "sweep", "state": "running", "created_at": started, "started_at": started, "progress": progress}
    task = {"index": 7, "attempt": 1, "members": [{"node": "n1"}, {"node": "n2"}], "started_at": started}
    seen = Seen(job, [task], None, {"n1": "left"})
    rows = [row.plain for row in block(seen, ["step 3"], now)]
    assert rows == [
        "sweep  running  6m0s, about 4m0s left",
        bar(progress).plain,
        "  7  left, n2  6m0s  try 2",
        "  … and 1 more run",
        "│ step 3",
    ]
    assert bar(progress, 100).plain == "█" * 32 + "░" * 8 + "  5 succeeded, 1 failed, 2 running, 2 pending of 10"
    assert len(bar(progress).plain) == 80, "a usual terminal"
    many = {state: count + 1000 for state, count in progress.items()}
    assert bar(many).plain.splitlines()[1].startswith("  1005 succeeded, 1001 failed, ")
    assert line(seen) == "sweep: running, 6 of 10 tasks done, 2 running, 1 failed"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("job submit", "give a command behind --"),
        ("job submit -c x -- y", "and not both"),
        ("job submit --sweep lr -- x", "such as lr=0.1,0.01"),
        ("job submit --sweep lr= -- x", "such as lr=0.1,0.01"),
        ("job submit --array 0-9%x -- x", "behind %"),
        ("job submit --retry-on 1 -- x", "--retries N"),
        ("job submit --depends-on a:done -- x", "succeeded, failed, finished"),
        ("job submit --notify-slack http://a --on dead -- x", "there is no such event"),
        ("job submit --on failed -- x", "go with --notify-webhook"),
        ("job submit --extra fpga -- x", "such as licenses=2"),
        ("job submit --partition gpu -- x", "Here: --queue."),
        ("job run -- x", "here it is: skerry job submit --watch"),
        ("sbatch run.sh", "here it is: skerry job submit"),
        ("vcctl job run", "here it is: skerry job submit"),
        ("squeue", "here it is: skerry job list"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(
    skerry: Skerry, control: FakeControl, arguments: str, says: str
) -> None:
    ended = skerry(*arguments.split())
    assert (ended.code, says in ended.err) == (2, True), ended.err
    assert control.requests == []
