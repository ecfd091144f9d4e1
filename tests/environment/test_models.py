"""Models of a file: what is fetched, what waits for it, when one is another, and what stays when it has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Json, Scene
from skerry.environment.kinds.models import Models
from skerry.environment.load import load
from skerry.environment.plan import make_plan
from skerry.environment.problems import Problems
from skerry.model.weights import ModelCard, ModelRequest

TEXT = """
name: shop
volumes: {raw: {}}
models:
  tiny: {source: "hf://org/tiny"}
  brief: {source: "model://tiny", system: Be brief., parameters: {temperature: 0.2}, adapters: [pirate]}
  pirate: {source: "raw:/pirate", name: our-pirate}
sandboxes:
  box: {image: "debian:12", folders: [], mounts: ["model://tiny"]}
services:
  chat: {engine: llamacpp, model: "model://brief"}
  other: {engine: llamacpp, model: "model://elsewhere"}
"""


def loaded(tmp_path: Path, text: str = TEXT) -> Scene:
    file = tmp_path / "skerry.yaml"
    file.write_text(text)
    environment = load([file], environ={}).environment
    return Scene(environment.model_dump(mode="json", by_alias=True), file)


def fetched(scene: Scene, key: str) -> dict[str, Json]:
    """As the server tells of it."""
    given = {field: value for field, value in Models().body(scene, key).items() if value is not None}
    request = ModelRequest.model_validate(given)
    said = ModelCard.model_validate({**request.card, "parameters": request.parameters})
    card = said.model_dump(mode="json")
    told = request.model_dump(mode="json") | {"state": "ready", "reason": None, "said": card, "own": card}
    return {told["name"]: told}


def test_those_of_the_file_are_meant_by_their_keys(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    brief = Models().body(scene, "brief")
    assert (brief["name"], brief["source"], brief["adapters"]) == ("shop-brief", "model://shop-tiny", ["our-pirate"])
    assert Models().body(scene, "pirate")["source"] == "shop-raw:/pirate"
    plan = make_plan(scene, KINDS, {})
    bodies = {step.key: step.body for step in plan.steps}
    assert bodies["box"]["mounts"][0]["model"] == "shop-tiny"
    assert (bodies["chat"]["model"], bodies["other"]["model"]) == ("model://shop-brief", "model://elsewhere")
    assert plan.waits["models", "brief"] == {("models", "tiny"): "made", ("models", "pirate"): "made"}
    assert plan.waits["models", "pirate"] == {("volumes", "raw"): "made"}
    assert plan.waits["sandboxes", "box"]["models", "tiny"] == "made"
    assert plan.waits["services", "chat"]["models", "brief"] == "made"


def test_one_is_kept_replaced_labelled_or_told_to_stay(tmp_path: Path) -> None:
    scene = loaded(tmp_path)
    found = {key: value for one in ("tiny", "brief", "pirate") for key, value in fetched(scene, one).items()}

    def actions(scene: Scene, found: dict[str, Json]) -> dict[str, tuple[Action, list[str], bool]]:
        return {
            step.key: (step.action, [reason.say for reason in step.reasons], any(each.drift for each in step.reasons))
            for step in make_plan(scene, KINDS, {"models": found}).steps
            if step.section == "models" and step.action is not Action.KEEP
        }

    assert actions(scene, found) == {}
    other = loaded(tmp_path, TEXT.replace("Be brief.", "Sing."))
    assert actions(other, found) == {"brief": (Action.UPDATE, ["system: Be brief. -> Sing."], False)}
    moved = loaded(tmp_path, TEXT.replace("Be brief.", "Sing.").replace("adapters: [pirate]", "adapters: []"))
    assert actions(moved, found)["brief"][0] is Action.REPLACE
    unkept = {**found, "shop-brief": {**found["shop-brief"], "own": None}}
    assert actions(other, unkept)["brief"][0] is Action.REPLACE
    drifted = {**found, "shop-tiny": {**found["shop-tiny"], "source": "hf://org/large"}}
    assert actions(scene, drifted) == {"tiny": (Action.REPLACE, ["source: hf://org/large -> hf://org/tiny"], True)}
    labelled = loaded(tmp_path, TEXT.replace('"hf://org/tiny"', '"hf://org/tiny", labels: {team: a}'))
    assert actions(labelled, found)["tiny"][0] is Action.UPDATE
    failed = {**found, "shop-tiny": {**found["shop-tiny"], "state": "failed", "reason": "no room"}}
    assert actions(scene, failed)["tiny"] == (Action.CREATE, ["it could not be fetched: no room"], False)
    left = loaded(tmp_path, TEXT.replace("  pirate:", "  sailor:").replace("our-pirate", "sailor"))
    plan = make_plan(left, KINDS, {"models": found})
    assert plan.kept == (("models", "our-pirate"),)


def test_what_is_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="expected"):
        loaded(tmp_path, TEXT.replace("hf://org/tiny", "hf:org"))
    with pytest.raises(Problems, match="source"):
        loaded(tmp_path, "name: a\nmodels: {x: {}}\n")
