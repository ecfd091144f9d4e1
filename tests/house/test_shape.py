"""The shape promised in ARCHITECTURE.md: every noun has its files, every setting its sentence, every arrow an owner."""

from __future__ import annotations

import ast
from importlib import import_module
from typing import Any

import pytest

from skerry.model.checkpoint import CHECKPOINT_MOVES
from skerry.model.image import IMAGE_MOVES
from skerry.model.job import JOB_MOVES, TASK_MOVES
from skerry.model.moves import Moves
from skerry.model.sandbox import MOVES
from skerry.model.service import SERVICE_MOVES
from skerry.model.volume import VOLUME_MOVES
from skerry.model.weights import MODEL_MOVES
from tests.house.source import ROOT, sources

PACKAGE = ROOT / "src/skerry"

API_NOUNS = (
    "sandbox",
    "checkpoint",
    "image",
    "operation",
    "key",
    "event",
    "network",
    "volume",
    "model",
    "secret",
    "queue",
    "node",
    "job",
    "service",
    "token",
)
"""Each has a file of the same name in the model, and of its plural in the store and the API."""
CLI_NOUNS = (
    "sandbox",
    "checkpoint",
    "image",
    "operation",
    "event",
    "key",
    "node",
    "queue",
    "network",
    "volume",
    "model",
    "secret",
    "job",
    "service",
)
"""What a person handles by name: a file in the command line's folder too."""
FILES = {"model": "weights"}
"""model/model.py would be taken for the model of all."""
TABLES: dict[str, Moves[Any]] = {
    "sandboxes": MOVES,
    "checkpoints": CHECKPOINT_MOVES,
    "images": IMAGE_MOVES,
    "volumes": VOLUME_MOVES,
    "models": MODEL_MOVES,
    "jobs": JOB_MOVES,
    "services": SERVICE_MOVES,
}
MORE_TABLES: dict[str, tuple[Moves[Any], ...]] = {"jobs": (TASK_MOVES,)}
ENDS = {"jobs": {"succeeded", "failed", "cancelled", "skipped"}}
"""How those end that are not deleted one by one."""


def test_every_noun_has_its_files() -> None:
    plurals = ["sandboxes" if noun == "sandbox" else f"{noun}s" for noun in API_NOUNS]
    wanted = [f"{folder}/{plural}.py" for plural in plurals for folder in ("store", "control/api")]
    wanted += [f"model/{FILES.get(noun, noun)}.py" for noun in (*API_NOUNS, *CLI_NOUNS)] + [
        f"cli/{noun}.py" for noun in CLI_NOUNS
    ]
    assert [path for path in wanted if not (PACKAGE / path).is_file()] == []


@pytest.mark.parametrize("noun", TABLES)
def test_the_reconcilers_arrows_are_the_tables(noun: str) -> None:
    """Each arrow has exactly one owner, in the file of its name: nothing moves twice, nothing is left standing."""
    owned: dict[tuple[type, Any, Any], str] = {}
    for path in sorted((PACKAGE / "control/reconcile" / noun).glob("[a-z]*.py")):
        module = import_module(f"skerry.control.reconcile.{noun}.{path.stem}")
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == module.__name__ and hasattr(found, "moves"):
                for arrow in (_typed(each) for each in found.moves):  # pyright: ignore
                    assert arrow not in owned, f"{arrow} is moved by {owned[arrow]} and by {path.stem}"
                    owned[arrow] = path.stem
    tables = [TABLES[noun], *MORE_TABLES.get(noun, ())]
    assert owned == {_typed(arrow): owner for table in tables for arrow, owner in table.items() if owner != "api"}


def _typed(arrow: tuple[Any, Any]) -> tuple[type, Any, Any]:
    """States of two tables may be spelled alike, and are then equal."""
    return type(arrow[0]), *arrow


@pytest.mark.parametrize("noun", TABLES)
def test_no_state_is_a_trap(noun: str) -> None:
    """From every state that something can be in, its end can be reached."""
    table = TABLES[noun]
    states = {state for arrow in table for state in arrow}
    ends = {state for state in states if not any(was is state for was, _ in table)}
    assert {end.value for end in ends} == ENDS.get(noun, {"deleted"})
    leads_out = set(ends)
    for _ in states:
        leads_out |= {was for was, now in table if now in leads_out}
    assert states - leads_out == set()


def test_every_setting_says_what_it_is_for() -> None:
    """Unit, meaning of None, reason for the default: in a sentence under the field."""
    plain = {"log_level", "upload_bytes_max"}  # the name says all of it
    tree = next(source.tree for source in sources("src") if source.path == "src/skerry/settings.py")
    settings = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    silent: list[str] = []
    for node, after in zip(settings.body, [*settings.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id not in plain:
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if not told:
                silent.append(node.target.id)
    assert silent == []
