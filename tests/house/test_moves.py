"""Every arrow of every MOVES table has exactly the owner that the table names, and no owner takes another arrow."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import skerry.control.intents
import skerry.control.reconcile
from skerry.model.checkpoint import CHECKPOINT_MOVES
from skerry.model.image import IMAGE_MOVES
from skerry.model.job import JOB_MOVES, TASK_MOVES
from skerry.model.sandbox import AT_REST, FINAL, MOVES, S
from skerry.model.service import SERVICE_MOVES
from skerry.model.volume import VOLUME_MOVES
from skerry.model.weights import MODEL_MOVES

TABLES: tuple[Mapping[tuple[Any, Any], str], ...] = (
    MOVES,
    CHECKPOINT_MOVES,
    IMAGE_MOVES,
    VOLUME_MOVES,
    MODEL_MOVES,
    JOB_MOVES,
    TASK_MOVES,
    SERVICE_MOVES,
)


def classes_with_moves(package: Any) -> list[tuple[str, type]]:
    """(module, class) of every class in the package that says which arrows it takes."""
    found: list[tuple[str, type]] = []
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        loaded = importlib.import_module(module.name)
        for _, each in inspect.getmembers(loaded, inspect.isclass):
            if each.__module__ == module.name and isinstance(getattr(each, "moves", None), frozenset):
                found.append((module.name, each))
    return found


def spelled(arrow: tuple[Any, Any]) -> tuple[str, str, str]:
    """With its type: states of two nouns may be spelled alike, and are then equal as strings."""
    return type(arrow[0]).__name__, arrow[0].value, arrow[1].value


def declared() -> dict[tuple[str, str, str], list[str]]:
    """arrow -> its owners: a reconciler by its file's name, an intent as `api`."""
    owners: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for module, reconciler in classes_with_moves(skerry.control.reconcile):
        for arrow in reconciler.moves:  # type: ignore[attr-defined]
            owners[spelled(arrow)].append(module.rpartition(".")[2])
    for _, intents in classes_with_moves(skerry.control.intents):
        for arrow in intents.moves:  # type: ignore[attr-defined]
            owners[spelled(arrow)].append("api")
    return owners


def test_each_arrow_has_the_owner_that_its_table_names() -> None:
    wanted = {spelled(arrow): [owner] for table in TABLES for arrow, owner in table.items()}
    assert declared() == wanted


def test_every_reconciler_is_built_into_control() -> None:
    from skerry.control import reconcilers

    source = inspect.getsource(reconcilers)
    for _, reconciler in classes_with_moves(skerry.control.reconcile):
        assert reconciler.__name__ in source, f"{reconciler.__name__} is never run"


def test_step_takes_no_input() -> None:
    for _, reconciler in classes_with_moves(skerry.control.reconcile):
        if reconciler.__name__ != "Reconciler":
            assert list(inspect.signature(reconciler.step).parameters) == ["self"]  # type: ignore[attr-defined]


def test_every_state_can_be_left_by_its_owner_or_is_at_rest() -> None:
    for state in S:
        owners = {owner for (was, _), owner in MOVES.items() if was is state}
        if state in FINAL:
            assert owners == set()
        elif state in AT_REST:
            assert "api" in owners
        else:
            assert owners - {"api"}, f"nobody is responsible for {state}"
            assert "api" in owners or state is S.DELETING, f"{state} cannot be deleted"
