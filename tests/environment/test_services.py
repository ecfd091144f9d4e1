"""Services of a file: what it may say, when one is changed, and what was changed by somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Json, Scene
from skerry.environment.kinds.services import Services
from skerry.environment.load import load
from skerry.environment.outside import named
from skerry.environment.plan import make_plan
from skerry.environment.problems import Problems
from skerry.model.service import ServiceSpec

TEXT = """
name: shop
volumes: {models: {}}
sandboxes:
  db: {image: "debian:12", health: {command: "true"}, folders: []}
services:
  web:
    image: debian:12
    command: serve --port 80
    port: 80
    replicas: 2
    folder: .
    env: [LEVEL=debug]
    model: models:/tiny
    secrets: [token=TOKEN]
    depends_on: {db: healthy}
"""


def loaded(tmp_path: Path, text: str = TEXT) -> Scene:
    file = tmp_path / "skerry.yaml"
    file.write_text(text)
    environment = load([file], environ={}).environment
    return Scene(environment.model_dump(mode="json", by_alias=True), file)


def served(scene: Scene) -> dict[str, Json]:
    body = Services().body(scene, "web")
    spec = ServiceSpec.model_validate(body).model_dump(mode="json")
    return {"shop-web": {"id": "svc-000000000001", "name": "shop-web", "spec": spec, "status": "healthy"}}


def actions(scene: Scene, services: dict[str, Json]) -> list[tuple[Action, list[str], bool]]:
    plan = make_plan(scene, KINDS, {"services": services})
    found = [step for step in plan.steps if step.section == "services"]
    return [
        (step.action, [reason.say for reason in step.reasons], any(reason.drift for reason in step.reasons))
        for step in found
    ]


def test_it_is_made_changed_and_taken_away_and_drift_is_told(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    body = Services().body(scene, "web")
    assert (body["model"], body["env"], body["command"]) == (
        "shop-models:/tiny",
        {"LEVEL": "debug"},
        ["/bin/sh", "-c", "serve --port 80"],
    )
    folder = {"source": str(tmp_path.resolve()), "target": "/workspace", "readonly": True, "owner": True}
    assert (body["mounts"], body["workdir"]) == ([folder], "/workspace")
    assert list(named(scene)) == [str(tmp_path.resolve())]
    plan = make_plan(scene, KINDS, {})
    waits = plan.waits["services", "web"]
    assert (waits["sandboxes", "db"], waits["volumes", "models"]) == ("healthy", "made")
    assert actions(scene, {}) == [(Action.CREATE, [], False)]
    there = served(scene)
    there["shop-web"]["spec"]["image"] = "debian:12"
    assert actions(scene, there) == [(Action.KEEP, [], False)]
    there["shop-web"]["spec"]["replicas"] = 5
    assert actions(scene, there) == [(Action.UPDATE, ["replicas: 5 -> 2"], True)]
    changed = loaded(tmp_path, TEXT.replace("--port 80", "--port 81"))
    [(action, reasons, drift)] = actions(changed, served(scene))
    assert (action, drift) == (Action.UPDATE, False)
    assert reasons[0].startswith("command: ")
    there["shop-web"]["spec"]["replicas"] = 0  # by `skerry down`
    assert actions(scene, there) == [(Action.START, [], False)]
    there["shop-web"]["spec"]["port"] = 81
    assert actions(scene, there) == [(Action.UPDATE, ["port: 81 -> 80"], False)]
    less = loaded(tmp_path, TEXT[: TEXT.index("services:")])
    assert actions(less, there)[0][0] is Action.DELETE


def test_it_waits_for_a_job_to_succeed_but_not_again(tmp_path: Path) -> None:
    job = 'jobs: {train: {image: "debian:12", command: train, output: models}}\nservices:'
    scene = loaded(tmp_path, TEXT.replace("services:", job).replace("{db: healthy}", "[train]"))
    assert make_plan(scene, KINDS, {}).waits["services", "web"]["jobs", "train"] == "succeeded"
    there = served(scene)
    there["shop-web"]["spec"]["image"] = "debian:12"
    assert ("jobs", "train") not in make_plan(scene, KINDS, {"services": there}).waits["services", "web"]
    with pytest.raises(Problems, match="train is a job, to wait for until it has succeeded, failed, finished"):
        loaded(tmp_path, TEXT.replace("services:", job).replace("{db: healthy}", "{train: healthy}"))


def test_services_wait_for_each_other_but_not_in_a_circle(tmp_path: Path) -> None:
    other = "  embed: {image: 'debian:12', port: 80DEPENDS}\n"
    text = TEXT.replace("{db: healthy}", "[embed]") + other
    scene = loaded(tmp_path, text.replace("DEPENDS", ""))
    assert make_plan(scene, KINDS, {}).waits["services", "web"]["services", "embed"] == "healthy"
    with pytest.raises(Problems, match=r"services.embed.depends_on.web: web is a service, to wait for until"):
        loaded(tmp_path, text.replace("DEPENDS", ", depends_on: {web: started}"))
    with pytest.raises(Problems, match=r"services.web.depends_on: these wait for each other: web waits for em"):
        loaded(tmp_path, text.replace("DEPENDS", ", depends_on: web"))
    with pytest.raises(Problems, match=r"services.web.depends_on: these wait for each other: web waits for web"):
        loaded(tmp_path, TEXT.replace("{db: healthy}", "[web]"))
    box = "sandboxes:\n  late: {image: 'debian:12', depends_on: [web]}"
    with pytest.raises(Problems, match=r"sandboxes.late.depends_on.web: web is a service, and only services wait"):
        loaded(tmp_path, TEXT.replace("sandboxes:", box))


def test_what_the_server_would_refuse_when_half_of_it_stands_is_refused_before(tmp_path: Path) -> None:
    other = "  embed: {image: 'debian:12', port: 80, models: [tiny, shop-web]}\n"
    with pytest.raises(Problems) as wrong:
        loaded(tmp_path, TEXT + "    models: [tiny]\n" + other)
    said = str(wrong.value)
    assert "services.embed.models[0]: tiny is what web answers to already" in said
    assert "services.embed.models[1]: shop-web is what web answers to already" in said
    options = "    engine: vllm\n    options: {max-num-seqs: lots}\n"
    with pytest.raises(Problems, match=r"services.web.options.max-num-seqs: 'lots' is not allowed"):
        loaded(tmp_path, TEXT + options)
    with pytest.raises(Problems, match=r"services.web.options.max-num: there is no such field"):
        loaded(tmp_path, TEXT + options.replace("max-num-seqs", "max-num"))
    with pytest.raises(Problems, match=r"services.web.depends_on\[0\]: give the name of what it waits for"):
        loaded(tmp_path, TEXT.replace("{db: healthy}", "[[db]]"))


def test_what_it_names_is_there(tmp_path: Path) -> None:
    text = TEXT.replace("{db: healthy}", "{dp: healthy}").replace("  web:", "  db:")
    with pytest.raises(Problems) as wrong:
        loaded(tmp_path, text.replace("folder: .", "folder: site"))
    said = str(wrong.value)
    assert "a sandbox is called db too" in said
    assert "there is no sandbox, job or service 'dp' in this file" in said
    assert f"{tmp_path / 'site'} is no folder" in said
