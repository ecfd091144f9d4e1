"""Names and sentences: every file says why it exists, no module is a drawer for odds and ends, nothing is left over."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.source import sources, texts

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "tools", "lib", "stuff"}
LEFTOVERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE_PATHS = re.compile(r"(/" + r"work/(main|shared)|/Users/\w+/)")


def test_every_file_says_why_it_exists() -> None:
    silent: list[str] = []
    for source in sources():
        if Path(source.path).name in ("__init__.py", "conftest.py") and not source.text.strip():
            continue
        told = (ast.get_docstring(source.tree) or "").split("\n\n")[0]
        if not re.search(r"[.!?:]$", told.strip()) or len(told) < 20:
            silent.append(source.path)
    assert silent == [], "the module docstring opens with one whole sentence"


def test_no_drawers() -> None:
    drawers = [
        source.path
        for source in sources()
        if DRAWERS & ({Path(source.path).stem} | set(Path(source.path).parent.parts)) or "_utils" in source.path
    ]
    assert drawers == [], "name the idea the file holds"


@pytest.mark.parametrize(
    ("pattern", "say"),
    [(LEFTOVERS, "do it or write an issue"), (MACHINE_PATHS, "a path of one machine means nothing on another")],
    ids=["leftovers", "machine-paths"],
)
def test_nothing_is_left_over(pattern: re.Pattern[str], say: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts()
        if not name.endswith((".lock", "openapi.json"))
        for number, line in enumerate(text.split("\n"), 1)
        if pattern.search(line)
    ]
    assert found == [], say


def test_no_module_state() -> None:
    """What an object needs its constructor takes; a `global` statement is how singletons begin."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources("src")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Global)
    ]
    assert found == []


def test_errors_are_ours() -> None:
    """`raise Exception` tells nobody what to do next."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources("src")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Raise) and _name(node.exc) in ("Exception", "BaseException")
    ]
    assert found == []


def _name(raised: ast.expr | None) -> str | None:
    called = raised.func if isinstance(raised, ast.Call) else raised
    return called.id if isinstance(called, ast.Name) else None
