"""What editors are told of skerry.yaml is what the loader takes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from skerry.cli.init import template
from skerry.environment import schema
from skerry.environment.load import load
from tests.house.source import ROOT

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema.FILE.read_text()))
TEMPLATES = [path.stem for path in (ROOT / "src/skerry/environment/templates").glob("*.yaml")]
EXAMPLES = sorted(ROOT.glob("examples/*/skerry.yaml"))


def test_the_file_is_what_the_models_say() -> None:
    assert schema.FILE.read_text() == schema.text(), "run: python -m skerry.environment.schema"
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_right(name: str, tmp_path: Path) -> None:
    path = tmp_path / "skerry.yaml"
    path.write_text(template(name))
    load([path], environ={})
    assert list(VALIDATOR.iter_errors(yaml.safe_load(template(name)))) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_is_right(path: Path) -> None:
    load([path], environ={})
    assert list(VALIDATOR.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "sandboxes: {a: {imag: x}}",
        "sandboxes: {a: {image: x, ports: [{gest: 1}]}}",
        "sandbox: {}",
        "version: 2",
        "sandboxes: {a: {image: x, depends_on: {b: done}}}",
        "sandboxes: {a: {image: x, provision: [{run: x, when: sometimes}]}}",
    ],
)
def test_an_editor_marks_what_the_loader_refuses(text: str) -> None:
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text)))
