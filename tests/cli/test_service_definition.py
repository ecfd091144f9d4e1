"""`skerry service create --definition`: what it sends, and what it says of a file that is no good."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import UsageError

from skerry.cli.service_definition import bodies
from skerry.errors import Invalid
from skerry.model.service import ServiceSpec
from tests.cli.conftest import Skerry

TWO = """
models:
  - {name: Tide, model_path: /models/tide, service: {start_command: [serve, "{model_path}"], port: 8000}}
  - {name: ebb, model_path: /models/ebb, service: {port: 8001, health_check: {path: /ok}}}
  - {name: flood, model_path: /models/flood}
"""


def test_a_service_for_each_model_that_has_one_with_what_flags_add(tmp_path: Path) -> None:
    file = tmp_path / "model-definition.yml"
    file.write_text(TWO)
    given = {"image": "debian:12", "memory": "2GiB", "replicas": 2}
    tide, ebb = bodies(tmp_path, None, dict(given))
    assert (tide["name"], tide["models"], tide["command"]) == ("tide", ["Tide"], ["serve", "/models/tide"])
    assert (ebb["name"], ebb["port"], ebb["health"]["path"]) == ("ebb", 8001, "/ok")
    assert [ServiceSpec.model_validate(each).memory for each in (tide, ebb)] == [2 << 30, 2 << 30]
    assert "cpu" not in tide, "what nobody said is the server's to fill in"
    with pytest.raises(UsageError, match="has 2 services, which have their names from it: leave sea out"):
        bodies(file, "sea", dict(given))
    file.write_text("models: [{name: Tide, model_path: /m, service: {port: 80}}]")
    assert bodies(file, "sea", dict(given))[0]["name"] == "sea"
    with pytest.raises(UsageError, match=r"give --image$"):
        bodies(file, "sea", {})


def test_what_is_wrong_is_told_with_the_file_and_the_path_in_it(tmp_path: Path, skerry: Skerry) -> None:
    file = tmp_path / "model-definition.yaml"
    words = ("service", "create", "--image", "debian:12", "--definition")
    assert skerry(*words, str(tmp_path)).err == (
        f"error: {tmp_path}: there is no model-definition.yaml or model-definition.yml in it\n"
    )
    assert skerry(*words, str(file)).err == f"error: {file}: No such file or directory\n"
    file.write_text("models: [{name: x, model_path: /m, service: {}}]")
    assert skerry(*words, str(file)).err == f"error: {file}: models[0].service.port: this field is required\n"
    file.write_text(
        "models: [{name: x, model_path: /m, service: {port: 80}}, {name: X, model_path: /m, service: {port: 80}}]"
    )
    assert skerry(*words, str(file)).err == f"error: {file}: models: two of them would be service x\n"
    file.write_text("models: [{name: x, model_path: m, service: {port: 80}}]")
    said = skerry(*words, str(file)).err
    assert said.startswith(f"error: {file}: models[0].model_path: 'm' is not allowed; expected an absolute")
    file.write_text("models: [{name: 'x y', model_path: /m, service: {port: 80}}]")
    with pytest.raises(Invalid, match=r"^memory: "):
        bodies(file, None, {"image": "debian:12", "memory": "much", "models": ["x"]})
