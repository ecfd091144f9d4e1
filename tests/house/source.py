"""The project's own source as the house tests read it."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "benchmarks", "scripts", "examples")


@dataclass(frozen=True)
class Source:
    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> list[tuple[str, int]]:
        """(qualified name, lines) of every function, nested ones counted with the one they are in."""
        return [*_functions(self.tree, "")]


def _functions(node: ast.AST, prefix: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            assert child.end_lineno is not None
            found.append((f"{prefix}{child.name}", child.end_lineno - child.lineno + 1))
        elif isinstance(child, ast.ClassDef):
            found += _functions(child, f"{prefix}{child.name}.")
    return found


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    wanted = folders or FOLDERS
    return tuple(_read(name) for name in names() if name.endswith(".py") and name.partition("/")[0] in wanted)


@cache
def _read(name: str) -> Source:
    text = (ROOT / name).read_text()
    return Source(name, text, ast.parse(text))


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """(path, text) of every file of the project, binary files left out."""
    found: list[tuple[str, str]] = []
    for name in names():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:4096]:
            found.append((name, data.decode(errors="replace")))
    return tuple(found)


@cache
def names() -> tuple[str, ...]:
    """Of the files that git keeps or would keep: an example's `site` is not ours, and large."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # A tree without git (an unpacked archive) is read whole, but for what tools make.
    found = set(listed.stdout.split("\n")) if listed.returncode == 0 else {str(path) for path in _walk()}
    return tuple(sorted(name for name in found if name and (ROOT / name).is_file()))


def _walk() -> Iterator[Path]:
    made = {".venv", ".git", "__pycache__", ".ruff_cache", ".hypothesis", ".import_linter_cache"}
    fetched = {"site", "client", "wheels", "output"}  # by an example's ./prepare
    for folder, below, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        left_out = made | (fetched if here.parts[:1] == ("examples",) else set())
        below[:] = [each for each in below if each not in left_out]
        yield from (here / each for each in files)
