"""Words on the command line for queues and for what work asks of machines."""

from __future__ import annotations

from typing import Any

import click
import pytest

from skerry.cli.amount_view import amounts, bar
from skerry.cli.demand_options import demand_from, demand_options
from skerry.cli.node import _changes
from skerry.cli.queue_options import options_from, queue_options, quota_from_text
from skerry.model.queue import QueueSpec
from skerry.model.sandbox import SandboxSpec


def parsed(options: Any, *words: str) -> dict[str, Any]:
    @click.command()
    @options
    def taken(**given: Any) -> None:
        pass

    return taken.make_context("x", list(words)).params


def test_what_a_sandbox_asks_for_in_flags_is_its_spec() -> None:
    words = "--gpu 0.5 --gpu-kind h100 --gpu-kind a100 --gpu-memory 20GiB --extra license=2 --queue lab --tier mid"
    words += " --priority 0 --node-selector rack=a --node-selector disk --tolerate team=x --arch aarch64"
    words += " --near app=db --away app=web@rack"
    made = demand_from(parsed(demand_options("production"), *words.split()))
    spec = SandboxSpec.model_validate({"image": "debian:12", **made})
    assert (spec.gpu, spec.gpu_kind, spec.gpu_memory, spec.extras) == (
        0.5,
        ["h100", "a100"],
        20 * 1024**3,
        {"license": 2},
    )
    assert (spec.queue, spec.tier.value, spec.priority) == ("lab", "mid", 0)
    rules = spec.placement
    assert (rules.nodes, rules.tolerations, rules.arch) == ({"rack": ["a"], "disk": []}, ["team=x"], "aarch64")
    assert [(each.labels, each.topology) for each in rules.near + rules.away] == [
        ({"app": "db"}, "node"),
        ({"app": "web"}, "rack"),
    ]
    assert demand_from(parsed(demand_options("production"))) == {}


@pytest.mark.parametrize("words", ["--near db", "--away app=db@", "--extra license", "--extra license=many"])
def test_bad_demands(words: str) -> None:
    with pytest.raises(click.UsageError):
        demand_from(parsed(demand_options("production"), *words.split()))


def test_a_queues_rules_in_flags_are_its_spec() -> None:
    words = (
        "--node rack=a --policy priority --no-preemption --grace 5s --aging 30m --running-max 4 --cpu-overcommit free=4"
    )
    words += (
        " --quota project=p,user=u,guaranteed.cpu=2,limit.memory=1GiB,limit.gpu_kinds.h100=1.5,weight=2,pending_max=3"
    )
    spec = QueueSpec.model_validate({"name": "lab", **options_from(parsed(queue_options, *words.split()))})
    assert (spec.nodes, spec.policy.value, spec.preemption.enabled, spec.preemption.grace_s) == (
        {"rack": ["a"]},
        "priority",
        False,
        5.0,
    )
    assert (spec.aging_s, spec.running_max, list(spec.cpu_overcommit.values())) == (1800.0, 4, [4.0])
    [quota] = spec.quotas
    assert (quota.project, quota.user, quota.guaranteed.cpu, quota.limit.memory) == ("p", "u", 2, 1024**3)
    assert (quota.limit.gpu_kinds, quota.weight, quota.pending_max) == ({"h100": 1.5}, 2, 3)
    assert options_from(parsed(queue_options)) == {}


@pytest.mark.parametrize("text", ["project", "project=p,limit.cpu=many", "=p", "project=p,,weight=1"])
def test_bad_quotas(text: str) -> None:
    with pytest.raises(click.UsageError):
        quota_from_text(text)


def test_labels_are_set_and_taken_away() -> None:
    assert _changes(("rack=a", "old-", "empty="), "label") == {"rack": "a", "old": None, "empty": ""}
    for bad in ("rack", "-", "=a"):
        with pytest.raises(click.UsageError):
            _changes((bad,), "label")


def test_amounts_are_told_in_words() -> None:
    assert bar(5, 10) == "[##########          ] 5 of 10"
    assert bar(20, 10).startswith("[####################] 20")
    assert bar(0, 0) == "[                    ] 0 of 0"
    assert amounts(
        {"cpu": 2.0, "memory_bytes": 1024**3, "gpu": 0.5, "gpu_kinds": {"h100": 0.5}, "extras": {"x": 1}}
    ) == ("2 cpu, 1.0GiB, 0.5 gpu, 0.5 h100, 1 x")
    assert amounts({}) == ""
