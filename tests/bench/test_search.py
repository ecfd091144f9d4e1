"""Searching for the most load, comparing runs, files of plans, and what other tools left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.bench import results
from skerry.bench.campaign import campaign, schema
from skerry.bench.capacity import Load, replicas
from skerry.bench.contract import Fault, Record
from skerry.bench.data.traces import Asked
from skerry.bench.frame import frame_of
from skerry.bench.measure.repeats import intervals
from skerry.bench.measure.significance import differences, ranks_p
from skerry.bench.measure.slo import objectives
from skerry.bench.measure.summary import summarize
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.bench.report.compare import changes, side_by_side, worse
from skerry.bench.report.html import comparison, page
from skerry.bench.report.plots import Told
from skerry.bench.report.svg import Series, plot
from skerry.bench.search import Doomed, Trial, best, knee, most
from skerry.bench.watch import is_here, read_gpus, read_metrics
from skerry.bench.watch import summary as server_summary
from skerry.errors import Invalid

NOTHING = summarize(frame_of([]))


def record(number: int, ttft_s: float = 0.1, **more: Any) -> Record:
    made = Record(number, intended_s=number * 0.1, sent_s=number * 0.1, output_tokens=3, **more)
    made.first_s, made.ended_s = made.sent_s + ttft_s, made.sent_s + ttft_s + 0.2
    made.times_s.extend([made.first_s, made.first_s + 0.1, made.ended_s])
    return made


@given(st.floats(0.5, 3000), st.sampled_from([1.0, 10.0]))
@settings(max_examples=40, deadline=None)
def test_the_most_is_found_with_few_trials(true: float, start: float) -> None:
    trials = list(most(lambda load: Trial(load, load <= true, False, NOTHING), start, 10_000, 0.05))
    found = best(trials)
    assert found is not None
    assert true / 1.0501 <= found.load <= true
    assert len(trials) <= 20


def test_where_nothing_is_kept_it_gives_up() -> None:
    trials = list(most(lambda load: Trial(load, False, True, NOTHING), 10, 100, 0.05))
    assert best(trials) is None
    assert len(trials) == 4
    trials = list(most(lambda load: Trial(load, True, False, NOTHING), 10, 35, 0.05))
    assert [each.load for each in trials] == [10, 20, 35]


def test_a_trial_ends_when_it_can_only_fail() -> None:
    doomed = Doomed(objectives("ttft_p99<500ms"), 200)
    assert not any(doomed(record(number)) for number in range(50))
    assert [doomed(record(number, 0.9)) for number in range(4)] == [False, False, False, True]
    doomed = Doomed(objectives("e2e_mean<1s"), 200)
    assert [doomed(record(number, fault=Fault.STATUS)) for number in range(3)] == [False, False, True]


def test_the_knee_is_where_power_is_greatest() -> None:
    def trial(load: float, rate: float, e2e_s: float) -> Trial:
        frame = frame_of([Record(at, sent_s=at / rate, ended_s=at / rate + e2e_s) for at in range(100)])
        return Trial(load, True, False, summarize(frame))

    found = knee([trial(1, 1, 1.0), trial(8, 7.8, 1.05), trial(16, 10, 2.0), trial(32, 10, 4.0)])
    assert found is not None
    assert found.load == 8


def test_what_differs_is_told_from_what_seems_to() -> None:
    chance = np.random.default_rng(1)
    first, same, slower = (chance.lognormal(mean, 0.3, 800) for mean in (-2, -2, -1.9))
    assert not any(each.is_real for each in differences(first, same))
    assert differences(first, slower)[0].is_real
    assert ranks_p(first, same) > 0.05
    assert ranks_p(first, slower) < 0.001
    assert ranks_p(np.ones(5), np.ones(5)) == 1.0


def test_of_few_samples_nothing_is_told_of_their_end() -> None:
    chance = np.random.default_rng(0)
    few, many = chance.normal(1.0, 0.01, 299), chance.normal(2.0, 0.01, 1000)
    assert [each.is_real for each in differences(few, many)] == [True, False]
    assert [each.is_real for each in differences(chance.normal(1.0, 0.01, 300), many)] == [True, True]


def test_repeated_runs_have_an_interval() -> None:
    runs = [summarize(frame_of([record(at, ttft_s) for at in range(20)])) for ttft_s in (0.1, 0.12, 0.14)]
    found = intervals(runs)["ttft_p50"]
    assert found.mean == pytest.approx(0.12)
    assert found.half == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3)
    assert intervals(runs[:1]) == {}


def test_runs_of_a_file_say_only_what_is_their_own() -> None:
    body = {
        "url": "http://h:1",
        "model": "m",
        "load": {"rate": 5, "duration": "10s", "arrival": "constant"},
        "repeat": 3,
        "runs": [{"name": "a"}, {"name": "b", "load": {"concurrency": 4}}, {"load": {"rate": 9}, "model": "n"}],
    }
    found = campaign(body, {"seed": 7})
    assert found.repeat == 3
    assert [run.name for run in found.runs] == ["a", "b", "run-2"]
    assert [run.plan.load.rate for run in found.runs] == [5, None, 9]
    assert [run.plan.load.duration for run in found.runs] == [10.0] * 3
    assert {run.plan.seed for run in found.runs} == {7}
    assert [run.plan.model for run in found.runs] == ["m", "m", "n"]
    for wrong in ({"lod": 3}, {"runs": [{"name": "x"}, {"name": "x"}]}, {"runs": [{"name": "../x"}]}):
        with pytest.raises(Invalid):
            campaign({**body, **wrong}, {})
    assert "runs" in schema()["properties"]


GUIDELLM_ROW = {
    "time_to_first_token_ms": 100.0,
    "inter_token_latency_ms": 20.0,
    "request_latency": 0.5,
    "output_tokens": 4,
}
GUIDELLM = {
    "benchmarks": [
        {
            "requests": {"successful": [GUIDELLM_ROW]},
            "metrics": {"requests_per_second": {"successful": {"mean": 9.5}}},
        }
    ]
}
GENAI = {
    "aggregated_metrics": {"requests_per_second": 9.5, "error_rate": 0.0},
    "individual_request_metrics": [{"ttft": 0.1, "tpot": 0.02, "e2e_latency": 0.5, "num_output_tokens": 4}],
}
VLLM = {
    "request_throughput": 9.5,
    "median_ttft_ms": 100.0,
    "median_tpot_ms": 20.0,
    "p99_tpot_ms": 20.0,
    "ttfts": [0.1],
    "itls": [[0.2, 0.2]],
}


@pytest.mark.parametrize("body", [GUIDELLM, GENAI, VLLM], ids=["guidellm", "genai-bench", "vllm"])
def test_results_of_others_in_our_names(body: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(body))
    (found,) = results.load(tmp_path / "x.json")
    assert found.figures["requests_per_second"] == 9.5
    assert found.figures["ttft_p50"] == pytest.approx(0.1)
    assert found.figures["tpot_p50"] == pytest.approx(0.02)
    assert found.samples["e2e"].tolist() == pytest.approx([0.5])
    (tmp_path / "y.json").write_text(json.dumps(results.document([found])))
    (again,) = results.load(tmp_path / "y.json")
    assert again.figures == pytest.approx(dict(found.figures))
    (tmp_path / "z.json").write_text("{}")
    with pytest.raises(Invalid, match="neither a result of ours"):
        results.load(tmp_path / "z.json")


def test_results_of_aiperf(tmp_path: Path) -> None:
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps({"request_throughput": {"avg": 9.5}}))
    row = {
        "time_to_first_token": {"value": 100.0, "unit": "ms"},
        "inter_chunk_latency": {"value": [1, 3], "unit": "ms"},
    }
    (tmp_path / "profile_export.jsonl").write_text(json.dumps({"metrics": row}) + "\n")
    (found,) = results.load(tmp_path)
    assert found.figures["ttft_p99"] == pytest.approx(0.1)
    assert found.samples["itl"].tolist() == [0.001, 0.003]
    _, rows = side_by_side([found, found])
    assert ("ttft_p50", "100", "100", "ms") in rows
    assert len(changes(found, found)[1]) == 4
    assert worse(found, found) == []
    assert comparison("two", [found, found]).count("<svg") == 2


def test_a_report_asks_nothing_of_the_network() -> None:
    frames = [frame_of([record(at, 0.1 + at % 7 / 100) for at in range(n)]) for n in (40, 60)]
    told = [Told(f"<run {at}>", summarize(frame, objectives("ttft<1ms")), frame) for at, frame in enumerate(frames)]
    text = page("A & B", told)
    assert text.count("<svg") == 4 + 4 + 2 * 5
    assert "http" not in text
    assert "<run" not in text
    assert "nan" not in text
    assert page("none", [Told("", NOTHING, frame_of([]))]).count("<svg") == 0


def test_plots_of_many_long_names_and_of_nothing() -> None:
    line, nothing = np.array([1.0, 2.0]), np.empty(0)
    names = [f"<run {number}> of many words that go on for longer than a line has room" for number in range(4)]
    text = plot("t", "x", "y", [Series("none", nothing, nothing), *(Series(name, line, line) for name in names)])
    assert re.findall(r'class="line (c[0-9])"', text) == ["c1", "c2", "c3", "c4"]
    assert len(set(re.findall(r'<rect x="[0-9]+" y="([0-9]+)"', text))) == 2
    assert "<run" not in text
    labels = [f"users {number}" for number in range(3)]
    near, half = np.array([1.0, 1.001, 50.0]), np.array([25.0, 25.0, 50.0])
    text = plot("t", "x", "y", [Series("", near, half, marks=True, labels=labels)])
    assert re.findall(r"users [0-9]", text) == labels
    assert plot("t", "x", "y", [Series("none", nothing, nothing)]) == ""


def test_what_the_server_says_of_itself() -> None:
    text = """# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a b"} 3
vllm:num_requests_waiting{engine="1"} 4.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
other 1"""
    sample = read_metrics(text)
    assert sample == {"waiting": 7.0, "kv_use": 0.5}
    gpus = read_gpus("50, 1000, 100.5\n100, 2000, 200\n")
    assert gpus == {"gpu_use": 0.75, "gpu_memory_mib": 3000, "gpu_watts": 300.5}
    told = server_summary([{"at_s": 0.0, **gpus}, {"at_s": 2.0, **gpus, **sample}])
    assert told["gpu_joules"] == 601
    assert told["waiting"] == {"mean": 7.0, "max": 7.0}
    assert server_summary([]) == {}
    where = [{"url": "http://127.0.0.1:8000"}, {"url": "http://far:1"}, {"url": "http://far:1", "socket": "/s"}]
    load = {"rate": 1, "requests": 1}
    assert [is_here(read_here(Plan, {"model": "m", "load": load, **each})) for each in where] == [True, False, True]


def test_capacity_grows_with_the_load_and_falls_with_shared_prefixes() -> None:
    def load(seconds: float, shared: bool) -> Load:
        ids = [list(range(8)) if shared else list(range(8 * at, 8 * at + 8)) for at in range(120)]
        return Load([Asked(at * seconds / 120, 4096, 20, ids[at]) for at in range(120)], 512)

    wanted = objectives("ttft_p99<500ms")
    found = [replicas(load(*given), wanted, 64) for given in ((60.0, False), (2.0, False), (2.0, True))]
    assert all(each.kept for each in found)
    assert found[0].replicas == 1
    assert found[0].replicas < found[1].replicas
    assert found[2].replicas < found[1].replicas
    assert not replicas(load(0.1, False), wanted, 1).kept
