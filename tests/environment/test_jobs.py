"""Jobs of a file: what it may say, what is submitted, and when one that is there is another one than is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Json, Scene
from skerry.environment.kinds.jobs import Jobs
from skerry.environment.load import load
from skerry.environment.needed import check_needed
from skerry.environment.outside import named
from skerry.environment.plan import Plan, choose, make_plan
from skerry.environment.problems import Problems
from skerry.errors import Invalid, NotFound
from skerry.model.job import JobSpec

TEXT = """
name: shop
volumes: {data: {}, results: {}}
sandboxes:
  db: {image: "debian:12", health: {command: "true"}, folders: []}
jobs:
  fetch:
    image: debian:12
    command: curl -o /data/x https://example.org/{index}
    mounts: [data:/data]
    array: 0-2
    retry: 3
    depends_on: {db: healthy}
  train:
    image: debian:12
    command: [python3, train.py, --lr, "{lr}"]
    env: [LEVEL=debug]
    folder: .
    gpu: 0.5
    sweep: {lr: [0.1, 1e-2]}
    output: results
    secrets: [token=TOKEN]
    notify: {slack: "https://hooks.example.org/x", on: failed}
    depends_on: [fetch]
  clean: {image: "debian:12", command: "true", autostart: false, depends_on: train}
"""


def loaded(tmp_path: Path, text: str = TEXT) -> Scene:
    file = tmp_path / "skerry.yaml"
    file.write_text(text)
    environment = load([file], environ={}).environment
    return Scene(environment.model_dump(mode="json", by_alias=True), file)


def as_submitted(scene: Scene, *keys: str, state: str = "running") -> dict[str, Json]:
    """What the server answers of jobs that were submitted so: it knows others by their ids."""
    found: dict[str, Json] = {}
    for key in keys:
        body = Jobs().body(scene, key)
        spec = JobSpec.model_validate(body).model_dump(mode="json")
        spec["depends_on"] = [{**one, "job": f"job-of-{one['job']}"} for one in spec["depends_on"]]
        name = spec["name"]
        found[name] = {"id": f"job-of-{name}", "name": name, "state": state, "spec": spec}
    return found


def planned(scene: Scene, jobs: dict[str, Json], *names: str) -> Plan:
    return make_plan(scene, KINDS, {"jobs": jobs}, names)


def actions(plan: Plan) -> dict[str, Action]:
    return {step.key: step.action for step in plan.steps if step.section == "jobs"}


def test_what_is_submitted(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    spec = JobSpec.model_validate(Jobs().body(scene, "train"))
    assert (spec.name, spec.command, spec.env) == (
        "shop-train",
        ["python3", "train.py", "--lr", "{lr}"],
        {"LEVEL": "debug"},
    )
    assert (spec.sweep, spec.output, spec.workdir) == ({"lr": [0.1, 0.01]}, "shop-results", "/workspace")
    assert [(one.job, one.outcome.value) for one in spec.depends_on] == [("shop-fetch", "succeeded")]
    (mount,) = spec.mounts
    assert (mount.source, mount.target, mount.readonly) == (str(tmp_path.resolve()), "/workspace", True)
    assert spec.labels["skerry.environment"] == "shop"
    first = JobSpec.model_validate(Jobs().body(scene, "fetch"))
    assert first.command[:2] == ["/bin/sh", "-c"]
    assert "{index}" in first.command[2], "in a job it is the job's own"
    assert (first.indices, first.retry.limit, first.mounts[0].volume, first.depends_on) == (
        [0, 1, 2],
        3,
        "shop-data",
        [],
    )
    assert str(tmp_path.resolve()) in named(scene)


def test_a_job_waits_for_what_it_uses_and_what_it_depends_on(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    waits = planned(scene, {}).waits
    assert waits["jobs", "fetch"] == {("volumes", "data"): "made", ("sandboxes", "db"): "healthy"}
    assert waits["jobs", "train"] == {("volumes", "results"): "made", ("jobs", "fetch"): "made"}
    assert planned(scene, as_submitted(scene, "fetch")).waits["jobs", "fetch"] == {}


def test_each_is_submitted_once_for_each_content(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    assert actions(planned(scene, {})) == {"fetch": Action.CREATE, "train": Action.CREATE}
    for state in ("blocked", "running", "succeeded", "failed", "cancelled"):
        there = as_submitted(scene, "fetch", "train", state=state)
        assert actions(planned(scene, there)) == {"fetch": Action.KEEP, "train": Action.KEEP}
    changed = loaded(tmp_path, TEXT.replace("gpu: 0.5", "gpu: 1"))
    (step,) = planned(changed, as_submitted(scene, "fetch", "train")).changes[3:]
    assert (step.key, step.action, [one.say for one in step.reasons]) == ("train", Action.REPLACE, ["gpu: 0.5 -> 1.0"])
    over = as_submitted(scene, "fetch", "train", state="failed")
    assert actions(planned(changed, over))["train"] is Action.CREATE, "nothing is lost by it"


def test_what_depends_on_another_job_than_it_did_is_submitted_anew(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    there = as_submitted(scene, "fetch", "train", state="succeeded")
    changed = loaded(tmp_path, TEXT.replace("retry: 3", "retry: 4"))
    assert actions(planned(changed, there)) == {"fetch": Action.CREATE, "train": Action.CREATE}
    there["shop-fetch"]["id"] = "job-newer"  # an `up` that was interrupted between the two
    assert actions(planned(scene, there)) == {"fetch": Action.KEEP, "train": Action.CREATE}


def test_names_bring_what_they_depend_on(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    assert choose(scene, ["clean"]) == {"clean", "train", "fetch", "db"}
    assert choose(scene, []) == {"train", "fetch", "db"}
    with pytest.raises(Invalid, match=r"there is no sandbox or job 'trian' in skerry.yaml; did you mean 'train'"):
        choose(scene, ["trian"])
    with pytest.raises(Invalid, match="there is no sandbox 'train'"):
        choose(scene, ["train"], ["sandboxes"])


def test_what_has_left_the_file_is_cancelled_and_deleted(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    there = as_submitted(scene, "clean", "train", "fetch")
    less = loaded(tmp_path, TEXT[: TEXT.index("  clean:")])
    assert [(step.name, step.action) for step in planned(less, there).destructive] == [("shop-clean", Action.DELETE)]


def test_secrets_are_looked_for_before_anything_is_done(tmp_path: Path) -> None:
    class Nothing:
        def run(self, flow: Any) -> list[Any]:
            return []

    with pytest.raises(NotFound, match=r"jobs.train.secrets\[0\]: there is no secret token"):
        check_needed(Nothing(), planned(loaded(tmp_path), {}))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("depends_on: [fetch]", "depends_on: [fetsh]", "there is no job or sandbox 'fetsh' in this file; did you mean"),
        ("depends_on: [fetch]", "depends_on: {fetch: healthy}", "fetch is a job, to wait for until it has succeeded"),
        ("{db: healthy}", "{db: failed}", "db is a sandbox, to wait for until it is started"),
        ("{db: healthy}", "{train: finished}", "these wait for each other: fetch waits for train waits for fetch"),
        ("{db: healthy}", "{db: sometimes}", "jobs.fetch.depends_on.db"),
        ("output: results", "output: result", "there is no volume 'result' in this file; did you mean 'results'?"),
        ("folder: .", "folder: nowhere", "is no folder"),
        ("  clean:", "  db:", "a sandbox is called db too"),
        ("gpu: 0.5", "gpus: 0.5", "there is no such field; did you mean gpu?"),
        ("array: 0-2", "array: 2-0", "the last index is not before the first"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, was: str, now: str, says: str) -> None:
    with pytest.raises(Problems, match=r"skerry.yaml:[0-9]+: jobs") as caught:
        loaded(tmp_path, TEXT.replace(was, now))
    assert says in str(caught.value), caught.value
