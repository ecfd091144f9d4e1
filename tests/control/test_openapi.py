"""docs/openapi.json is what the server serves, and what it serves is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.control.app import Control
from skerry.control.openapi import DOCUMENT, document, text
from skerry.control.passage.routes import PASSED, SOCKETS, match
from skerry.settings import Settings
from skerry.telemetry import Log

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("openapi")
    return document(Control(Settings(data_dir=folder), Log("openapi")).api)


def test_document_in_docs_is_current(made: dict[str, Any]) -> None:
    assert (ROOT / DOCUMENT).read_text() == text(made), "run: python -m skerry.control.openapi"


def test_document_is_the_same_every_time(tmp_path: Path) -> None:
    api = Control(Settings(data_dir=tmp_path), Log("openapi")).api
    assert document(api) == document(api)


def test_every_reference_leads_somewhere(made: dict[str, Any]) -> None:
    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            found = {part["$ref"]} if "$ref" in part else set()
            return found.union(*(references(each) for each in part.values()))
        return set().union(*(references(each) for each in part)) if isinstance(part, list) else set()

    schemas = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert references(made) <= schemas


def test_no_word_tells_of_our_files(made: dict[str, Any]) -> None:
    assert [name for name in made["components"]["schemas"] if "__" in name] == [], "give it a whole word in openapi.py"


def test_operations_have_names_of_their_own(made: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in made["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_only_health_needs_no_key(made: dict[str, Any]) -> None:
    assert made["security"] == [{"key": []}]
    free = [path for path, methods in made["paths"].items() for each in methods.values() if "security" in each]
    assert free == ["/health"]


def test_each_passed_route_matches_its_own_path_alone() -> None:
    for passed in (*PASSED, *SOCKETS):
        path = passed.path.replace("{image_ref:path}", "team/x:1")
        for name in ("ref", "checkpoint_ref", "session"):
            path = path.replace(f"{{{name}}}", "abc")
        found = match(passed.method, path)
        assert found is not None
        assert found[0] is passed
        assert match(passed.method, path + "/and/so/on") is None
        assert match("PATCH", path) is None
