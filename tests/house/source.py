"""The project's own source as the house tests read it."""

from __future__ import annotations

import ast
import subprocess
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
    found: list[Source] = []
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            found.append(Source(str(path.relative_to(ROOT)), text, ast.parse(text)))
    return tuple(found)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """(path, text) of every file git keeps or would keep, binary files left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # A tree without git (an unpacked archive) is read whole, but for what tools make.
    names = listed.stdout.split("\n") if listed.returncode == 0 else [str(path) for path in _walk()]
    found: list[tuple[str, str]] = []
    for name in names:
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data[:4096]:
                found.append((name, data.decode(errors="replace")))
    return tuple(found)


def _walk() -> list[Path]:
    made = {".venv", ".git", "__pycache__", ".ruff_cache", ".hypothesis", ".import_linter_cache"}
    return [
        path.relative_to(ROOT)
        for path in ROOT.rglob("*")
        if path.is_file() and not made & set(path.relative_to(ROOT).parts)
    ]
