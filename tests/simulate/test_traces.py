"""Traces are read as they are meant, and what is wrong in one is told with its place and what is allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skerry.errors import Invalid
from skerry.model.tier import Tier
from skerry.simulate.rules import read_rules
from skerry.simulate.trace import Trace, alike, at_load, capacity, declaring, enough, mean_demand, sizes, staying
from skerry.simulate.traces import borg, formats, openb, philly

PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
JOBS = "timestamp,duration,num_gpus,gpu_time,cluster\n"


def pods(*rows: str) -> list[str]:
    return [PODS, *(f"{row}\n" for row in rows)]


def test_pods_and_nodes_in_openb_columns() -> None:
    arrivals, _ = formats.read(
        "pods.csv",
        pods("late,2000,1024,1,460,V100M16|T4,LS,Running,130,300,140", "", "early,0,512,8,1000,,BE,Failed,100,100,"),
    )
    early, late = arrivals
    assert [arrival.work.id for arrival in arrivals] == ["early", "late"]
    assert (early.work.submitted_s, early.runs_s, early.work.tier) == (0, 1, Tier.BEST_EFFORT)
    assert (late.work.submitted_s, late.runs_s, late.work.tier) == (30, 160, Tier.PRODUCTION)
    shape = late.work.members[0][1]
    assert (shape.cpu_milli, shape.memory_bytes, shape.gpu_count, shape.gpu_milli) == (2000, 2**30, 1, 460)
    assert shape.gpu_kinds == {"v100m16", "t4"}
    nodes = openb.read_nodes(
        "nodes.csv", ["sn,cpu_milli,memory_mib,gpu,model\n", "a,64000,262144,2,P100\n", "b,8000,1,0,\n"]
    )
    assert [(node.id, len(node.devices)) for node in nodes] == [("a", 2), ("b", 0)]
    assert nodes[0].devices[0].kind == "p100"


def test_pods_without_times_come_one_by_one_and_stay() -> None:
    arrivals, _ = formats.read(
        "pods.csv", ["name,cpu_milli,memory_mib,num_gpu,gpu_milli\n", "a,1,1,0,0\n", "b,1,1,0,0\n"]
    )
    assert [(arrival.work.submitted_s, arrival.runs_s) for arrival in arrivals] == [(0, math.inf), (1, math.inf)]
    trace = Trace("pods", alike(1, borg.NODE), arrivals)
    with pytest.raises(Invalid, match="give --nodes, and no --load"):
        at_load(trace, 0.5)


def test_columns_of_ones_own() -> None:
    header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,project,user,tier,max_duration\n"
    (arrival,), _ = formats.read("pods.csv", [header, "a,1,1,0,0,5,15,Lab,ada,mid,60\n"])
    work = arrival.work
    assert (work.project, work.user, work.tier, work.limit_s) == ("lab", "ada", Tier.MID, 60)


def test_philly_jobs_wider_than_a_node_are_gangs() -> None:
    arrivals, node = formats.read(
        "philly.csv", [JOBS, "2017-10-09 07:01:55,66.0,20,66.0,11cb48\n", "2017-10-09 07:00:55,9,0,9,6214e9\n"]
    )
    first, gang = arrivals
    assert (first.work.project, first.runs_s, first.work.members[0][1].gpu_count) == ("6214e9", 9, 0)
    assert (gang.work.submitted_s, [shape.gpu_count for _, shape in gang.work.members]) == (60, [8, 8, 4])
    assert node is philly.NODE


BAD = [
    (["cpu_milli\n", "1\n"], "pods.csv, line 1: there is no column name; needed are name, cpu_milli"),
    (["a,b\n", "1,2\n"], "pods.csv, line 1: this is no trace that is known; its columns must be name, cpu_milli"),
    ([], "this is no trace that is known"),
    ([PODS], "pods.csv: there is no row below its header"),
    (pods("a,1,1,0"), "pods.csv, line 2: it has 4 cells, where the header has 11"),
    (
        pods("a,1,1,0,0,,LS,,1,2,", "b,-1,1,0,0,,LS,,1,2,"),
        "pods.csv, line 3, column cpu_milli: it has '-1'; a whole number",
    ),
    (pods("a,1,many,0,0,,LS,,1,2,"), "line 2, column memory_mib: it has 'many'; a whole number from 0 to"),
    (pods("a,1,1,nan,0,,LS,,1,2,"), "column num_gpu: it has 'nan'; a whole number from 0 to 64 is allowed"),
    (pods("a,1,1,,0,,LS,,1,2,"), "column num_gpu: it has nothing; a whole number from 0 to 64 is allowed"),
    (
        pods("a,1,1,2,500,,LS,,1,2,"),
        "column gpu_milli: it has '500'; 1 to 1000 of one device, or 1000 of each of several",
    ),
    (pods("a,1,1,0,0,,XL,,1,2,"), "column qos: it has 'XL'; allowed are LS, Guaranteed, Burstable, BE"),
    (pods("a,1,1,0,0,,LS,,9,2,"), "column deletion_time: it has '2'; nothing before it was scheduled (9) is allowed"),
    (pods("a,1,1,0,0,,LS,,9,20,3"), "column scheduled_time: it has '3'; nothing before its creation_time (9)"),
    (pods("a,1,1,0,0,,LS,,1,2,", "a,1,1,0,0,,LS,,1,2,"), "line 3, column name: it has 'a'; each name is allowed once"),
    (pods(f"{'a' * 300},1,1,0,0,,LS,,1,2,"), "column name: it has 'aaaa"),
    ([JOBS, "yesterday,1,1,1,a\n"], "column timestamp: it has 'yesterday'; a time such as 2017-10-09 07:01:55"),
    ([JOBS, "2017-10-09 07:01:55,1e99,1,1,a\n"], "column duration: it has '1e99'; a number from 0 to 1e+10 is allowed"),
    ([JOBS, "2017-10-09 07:01:55,1,1,1,a b\n"], "column cluster: it has 'a b'; letters, digits"),
]


@pytest.mark.parametrize(("lines", "says"), BAD)
def test_bad_rows_are_told_with_their_place(lines: list[str], says: str) -> None:
    with pytest.raises(Invalid) as caught:
        formats.read("pods.csv", lines)
    assert says in caught.value.say
    assert "\n" not in caught.value.say


def test_borg_is_heavy_tailed_and_the_same_for_a_seed() -> None:
    nodes = alike(50, borg.NODE)
    arrivals = borg.generate(7, 2000, nodes)
    assert arrivals == borg.generate(7, 2000, nodes)
    assert arrivals != borg.generate(8, 2000, nodes)
    trace = at_load(Trace("borg", nodes, arrivals), 0.6)
    found = np.sort(sizes(trace))
    assert found[-20:].sum() / found.sum() == pytest.approx(0.99, abs=0.01)
    assert mean_demand(trace.arrivals).share_of(capacity(nodes)) == pytest.approx(0.6)
    assert {arrival.work.tier for arrival in arrivals} == set(Tier) - {Tier.MONITORING}
    assert max(len(arrival.work.members) for arrival in arrivals) == 80  # 0.4 of 1,600 cores, 8 each
    assert all(arrival.runs_s <= (arrival.work.limit_s or 0) for arrival in arrivals)


def test_load_nodes_and_what_is_declared() -> None:
    arrivals, node = formats.read(
        "philly.csv", [JOBS, *(f"2017-10-09 07:00:{second:02},30,4,1,a\n" for second in range(0, 60, 10))]
    )
    trace = Trace("p", alike(enough(arrivals, node), node), arrivals)
    assert len(trace.nodes) == 3  # 6 jobs x 4 GPUs x 30 s in 50 s: 14.4 GPUs, 80% of 18
    slower = at_load(trace, 0.3)
    assert mean_demand(slower.arrivals).share_of(capacity(trace.nodes)) == pytest.approx(0.3)
    assert {arrival.work.limit_s for arrival in declaring(trace, 2).arrivals} == {60}
    assert {arrival.work.limit_s for arrival in declaring(declaring(trace, 2), 0).arrivals} == {None}


def test_what_stays_comes_by_lot() -> None:
    nodes = alike(4, borg.NODE)
    trace = Trace("borg", nodes, borg.generate(1, 50, nodes))
    stayed = staying(trace, 3)
    assert stayed == staying(trace, 3)
    assert [arrival.work.submitted_s for arrival in stayed.arrivals] == list(range(50))
    assert {arrival.runs_s for arrival in stayed.arrivals} == {math.inf}
    assert {arrival.work.id for arrival in stayed.arrivals} == {arrival.work.id for arrival in trace.arrivals}
    assert stayed.arrivals != trace.arrivals


def test_rules_are_a_queues() -> None:
    rules = read_rules("fifo,backfill=no,small-share=0,aging=none,preemption=no,grace=5s", "pack")
    assert (rules.policy, rules.strategy, rules.backfill, rules.small_share) == ("fifo", "pack", False, 0)
    assert (rules.aging_s, rules.preemption.enabled, rules.preemption.grace_s) == (None, False, 5)
    for text, says in (
        ("lifo", "--policy: 'lifo' is not a policy; allowed are fifo, priority, fair-share"),
        ("fifo,luck=1", "--policy: 'luck=1' is not allowed after fifo; allowed are strategy=…"),
        ("fifo,small-share=2", "--policy: small-share: input should be less than or equal to 0.9"),
    ):
        with pytest.raises(Invalid) as caught:
            read_rules(text)
        assert says in caught.value.say
