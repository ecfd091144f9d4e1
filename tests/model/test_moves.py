"""The tables of moves: what leads where, whatever path is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import IllegalMove
from skerry.model.checkpoint import CHECKPOINT_MOVES, CheckpointState
from skerry.model.image import IMAGE_MOVES, ImageState
from skerry.model.moves import move
from skerry.model.sandbox import AT_REST, FINAL, MOVES, S
from skerry.model.volume import VOLUME_MOVES, VolumeState

states = st.sampled_from(list(S))


@given(states, states)
def test_move_goes_exactly_where_the_table_says(now: S, to: S) -> None:
    if (now, to) in MOVES:
        assert move(MOVES, now, to) is to
    else:
        with pytest.raises(IllegalMove) as refused:
            move(MOVES, now, to)
        assert now.value in refused.value.say
        assert to.value in refused.value.say


def reachable(moves: object, start: object) -> set[object]:
    seen, edge = {start}, [start]
    while edge:
        here = edge.pop()
        for was, to in moves:  # type: ignore[attr-defined]
            if was is here and to not in seen:
                seen.add(to)
                edge.append(to)
    return seen


def test_every_state_is_reached_and_leads_to_its_end() -> None:
    for moves, kind, start, end in (
        (MOVES, S, S.PENDING, S.DELETED),
        (CHECKPOINT_MOVES, CheckpointState, CheckpointState.CREATING, CheckpointState.DELETED),
        (IMAGE_MOVES, ImageState, ImageState.CREATING, ImageState.DELETED),
        (VOLUME_MOVES, VolumeState, VolumeState.CREATING, VolumeState.DELETED),
    ):
        assert reachable(moves, start) == set(kind)
        for state in kind:
            assert end in reachable(moves, state), f"{state} cannot be left"


def test_nothing_leaves_the_final_state_and_deleting_only_ends() -> None:
    assert {to for was, to in MOVES if was in FINAL} == set()
    assert {to for was, to in MOVES if was is S.DELETING} == {S.DELETED}


def test_user_can_get_to_running_from_wherever_it_rests() -> None:
    for state in AT_REST - FINAL:
        assert S.RUNNING in reachable(MOVES, state)
