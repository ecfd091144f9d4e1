"""A whole run against a server that knows to the moment what it sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.bench.contract import Fault, Record
from skerry.bench.frame import frame_of
from skerry.bench.measure.metrics import values_of
from skerry.bench.measure.slo import objectives
from skerry.bench.measure.summary import summarize
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.bench.records import read_record
from skerry.bench.report import files
from skerry.bench.run import run
from skerry.errors import Invalid, Unavailable
from tests.bench.server import EACH_S, FIRST_S, TOKENS, Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def plan(port: int, load: dict[str, Any], **more: Any) -> Plan:
    return read_here(Plan, {"url": f"http://127.0.0.1:{port}/v1", "model": "m", "load": load, **more})


def test_what_is_reported_is_what_was_sent(server: Server, tmp_path: Path) -> None:
    wanted = plan(server.port, {"rate": 200, "arrival": "constant", "requests": 20}, headers={"Authorization": "k"})
    records = run(wanted)
    summary = summarize(records, objectives("ttft<60s, e2e_p50<1us"))
    assert (summary.requests, summary.failed) == (20, 0)
    assert {record.output_tokens for record in records} == {TOKENS}
    assert (values_of("ttft", records) >= FIRST_S * 0.99).all()
    # A machine with other work holds up some of them, and not all in the same way.
    gaps_s = [sum(after - before for before, after in pairwise(each.times_s)) / (TOKENS - 1) for each in records]
    assert any(each == pytest.approx(EACH_S, rel=0.5) for each in gaps_s)
    assert values_of("itl", records).mean() == pytest.approx(sum(gaps_s) / len(gaps_s), rel=0.01)
    assert [each.kept for each in summary.objectives] == [True, False]
    gaps = [round(after.intended_s - before.intended_s, 6) for before, after in pairwise(records)]
    assert set(gaps) == {0.005}
    files.leave(tmp_path, wanted, summary, records)
    assert json.loads((tmp_path / "summary.json").read_text())["plan"]["headers"] == {"Authorization": "***"}
    again = [read_record(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [each.number for each in again] == [each.number for each in records]
    assert values_of("itl", frame_of(again)) == pytest.approx(values_of("itl", records), abs=2e-6)


def test_users_keep_their_connections_and_conversations(server: Server) -> None:
    data = [{"turns": "2", "input_tokens": "3", "output_tokens": "4"}]
    records = run(plan(server.port, {"concurrency": 2, "requests": 8}, data=data))
    assert server.connections == 2
    assert sorted((record.session, record.turn) for record in records) == [(s, t) for s in range(4) for t in range(2)]
    second = next(body for body in server.bodies if len(body["messages"]) == 3)
    assert second["messages"][1] == {"role": "assistant", "content": " 0 1 2 3"}


def test_workers_send_what_one_would(server: Server) -> None:
    load = {"rate": 400, "requests": 12}
    alone = run(plan(server.port, load))
    said = sorted(json.dumps(body) for body in server.bodies)
    server.bodies.clear()
    records = run(plan(server.port, load, workers=2))
    assert sorted(json.dumps(body) for body in server.bodies) == said
    assert [round(r.intended_s, 6) for r in records] == [round(r.intended_s, 6) for r in alone]
    assert {record.worker for record in records} == {0, 1}


def test_failures_are_counted_apart_and_time_runs_out() -> None:
    server = Server(fails=2)
    try:
        records = run(plan(server.port, {"concurrency": 1, "requests": 4}))
        late = run(plan(server.port, {"concurrency": 1, "requests": 1}, timeout=0.001))
    finally:
        server.close()
    summary = summarize(records)
    assert (summary.failed, summary.faults, summary.says) == (2, {"status": 2}, {"500: oops": 2})
    assert summary.metrics["ttft"].count == 2
    assert [record.fault for record in late] == ["timeout"]


def test_nobody_there() -> None:
    with pytest.raises(Unavailable, match=r"nobody answers at http://127\.0\.0\.1:1/v1"):
        run(plan(1, {"concurrency": 1, "requests": 1}))


@pytest.mark.parametrize("text", ["ttft", "ttft<", "nonsense<3ms", "ttft_p999<3ms", "tpot<3h"])
def test_objectives_that_are_none(text: str) -> None:
    with pytest.raises(Invalid, match=r"^slo: "):
        objectives(text)


def test_latency_counts_from_when_it_should_have_been_sent() -> None:
    record = Record(0, intended_s=1.0, sent_s=3.0, first_s=4.0, ended_s=5.0, output_tokens=3)
    frame = frame_of([record])
    assert values_of("ttft", frame).tolist() == [1.0]
    assert values_of("intended_ttft", frame).tolist() == [3.0]
    assert values_of("drift", frame).tolist() == [2.0]
    assert values_of("tpot", frame).tolist() == [0.5]


def test_what_a_request_does_not_have_is_not_measured() -> None:
    """One token has no time per token after the first; an answer in one piece no first token; a failure nothing."""
    one = Record(0, sent_s=1.0, first_s=2.0, ended_s=3.0, output_tokens=1)
    whole = Record(1, sent_s=5.0, ended_s=6.0, output_tokens=9, counted=True)
    failed = Record(2, sent_s=5.0, first_s=5.5, ended_s=9.0, output_tokens=3, fault=Fault.CLOSED)
    frame = frame_of([one, whole, failed])
    for name, values in {"ttft": [1.0], "tpot": [], "output_throughput": [], "e2e": [2.0, 1.0]}.items():
        assert values_of(name, frame).tolist() == values, name
    assert values_of("ntpot", frame).tolist() == [2.0, 1 / 9]
    assert summarize(frame).rates["error_rate"] == pytest.approx(1 / 3)


def test_fairness_is_over_users_where_they_are_known_and_one_who_had_nothing_counts() -> None:
    def asked(user: str, tokens: int, fault: Fault | None = None) -> Record:
        return Record(0, user=user, sent_s=1.0, first_s=1.5, ended_s=2.0, output_tokens=tokens, fault=fault)

    alike = [asked("a", 4), asked("b", 4)]
    assert summarize(frame_of(alike)).rates["fairness"] == 1.0
    rates = summarize(frame_of([*alike, asked("c", 4, Fault.CLOSED)])).rates
    assert (rates["fairness"], rates["users"]) == (pytest.approx(2 / 3), 3)
    assert "users" not in summarize(frame_of([asked("", 4)])).rates
    assert [record.user for record in frame_of(alike).take(np.array([1, 0]))] == ["b", "a"]
