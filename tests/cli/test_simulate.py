"""`skerry simulate` as a user calls it: table, JSON, a folder with pictures, and one sentence for what is wrong."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from skerry.cli.simulate_view import NO_PICTURES
from tests.cli.conftest import Skerry

PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time\n" + "".join(
    f"pod-{number},2000,1024,1,{500 + number % 2 * 500},{number * 10},{number * 10 + 95}\n" for number in range(40)
)
NODES = "sn,cpu_milli,memory_mib,gpu,model\nleft,16000,65536,2,T4\nright,16000,65536,4,G2\n"


@pytest.fixture
def pods(tmp_path: Path) -> str:
    (tmp_path / "pods.csv").write_text("\ufeff" + PODS)
    (tmp_path / "nodes.csv").write_text(NODES)
    return str(tmp_path / "pods.csv")


def test_policies_stand_beside_each_other(skerry: Skerry, pods: str, tmp_path: Path) -> None:
    nodes, out = str(tmp_path / "nodes.csv"), tmp_path / "report"
    ended = skerry(
        *("simulate", pods, "--nodes", nodes, "--check", "3", "--out", str(out)),
        *("--policy", "fair-share", "--policy", "fifo,backfill=no,small-share=0"),
    )
    assert (ended.code, ended.err.count("\n")) == (0, 1)
    first, heading, *rows = ended.out.splitlines()
    assert first.startswith("pods.csv: 40 jobs on 2 nodes (32 cores, 128GiB, 6 GPUs), which ask ")
    assert heading.split() == ["FIGURE", "fair-share", "fifo,backfill=no,small-share=0"]
    assert any(row.startswith("wait p50 / p90 / p99 ") for row in rows)
    assert (out / "report.txt").read_text() == ended.out
    written = {"allocation.png", "jobs.csv", "queue.png", "report.json", "report.txt", "waiting.png"}
    assert {path.name for path in out.iterdir()} == written
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in written if name.endswith(".png"))
    jobs = list(csv.DictReader((out / "jobs.csv").open()))
    assert len(jobs) == 80
    assert {job["run"] for job in jobs} == {"fair-share", "fifo,backfill=no,small-share=0"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_json_is_the_whole_report(skerry: Skerry, pods: str) -> None:
    ended = skerry(
        "simulate", pods, "--nodes", "2", "--strategy", "pack", "--strategy", "auto", "--json", "--limit", "20"
    )
    assert (ended.code, ended.err) == (0, "")
    body = ended.json
    assert body["trace"]["jobs"] == 20
    assert [run["name"] for run in body["runs"]] == ["fair-share pack", "fair-share auto"]
    for run in body["runs"]:
        assert run["ended"] == 20
        assert set(run["waiting"]) == {"jobs", "mean_s", "p50_s", "p90_s", "p99_s", "max_s"}
        assert run["wall"]["decisions_per_s"] > 0
    assert "NaN" not in json.dumps(body)


def test_without_matplotlib_the_rest_is_written(
    skerry: Skerry, pods: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = skerry("simulate", pods, "--nodes", "2", "--out", str(tmp_path / "report"))
    assert ended.code == 0
    assert NO_PICTURES in ended.err
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"jobs.csv", "report.json", "report.txt"}


def test_what_is_wrong_is_one_sentence_and_code_2(skerry: Skerry, pods: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(PODS + "pod-x,2000,much,0,0,1,2\n")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for arguments, says in (
        ((str(bad),), f"{bad}, line 42, column memory_mib: it has 'much'; a whole number from 0 to"),
        ((str(binary),), "it is not text in UTF-8"),
        ((str(tmp_path / "none.csv"),), "none.csv: no such file or directory"),
        ((pods, "--nodes", "0"), "--nodes: 0 is not allowed; give 1 to 100000, or a file"),
        ((pods, "--nodes", pods), "there is no column sn"),
        ((pods, "--policy", "lifo"), "--policy: 'lifo' is not a policy; allowed are fifo, priority, fair-share"),
        ((pods, "--out", pods), "is a file; give a folder"),
        ((pods, "--out", str(tmp_path / "no/folder")), "there is no folder"),
        ((pods, "--tick", "soon"), "'soon' is not a time"),
    ):
        ended = skerry("simulate", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert says in ended.err
        assert ended.err.startswith("error: ")
    assert not (tmp_path / "no").exists()


def test_nothing_is_half_written_when_it_is_interrupted(
    skerry: Skerry, pods: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skerry.cli.simulate_view._draw", interrupted)
    ended = skerry("simulate", pods, "--nodes", "2", "--out", str(tmp_path / "report"))
    assert ended.code == 130
    assert {path.name for path in tmp_path.iterdir()} == {"pods.csv", "nodes.csv"}
