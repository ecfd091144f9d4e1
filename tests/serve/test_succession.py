"""Who takes whose place: only beside one that serves, once for each time that somebody asks."""

from __future__ import annotations

from skerry.serve.programs import Program
from skerry.serve.succession import LEAVING_S_MAX, READY_S_MAX, Succession


def serving(succession: Succession) -> Program:
    program = Program("gateway-1", listening=7)
    program.started(1, 0.0, succession.wanted)
    program.ready = True
    return program


def test_one_is_due_when_others_are_wanted_and_not_twice() -> None:
    succession = Succession()
    program = serving(succession)
    assert not succession.is_due(program)
    succession.wanted += 1
    assert succession.is_due(program)
    successor = succession.begin(program)
    successor.started(2, 1.0, succession.wanted)
    assert (successor.name, successor.kind, successor.listening) == ("gateway-1", "gateway", 7)
    assert not succession.is_due(program)
    succession.left_behind(program, 2.0)
    assert succession.overdue(2.0) == []
    assert succession.overdue(2.0 + LEAVING_S_MAX) == [program]
    assert succession.ended(program), "it was told to go"
    assert succession.all() == []


def test_what_was_asked_while_it_started_is_done_afterwards() -> None:
    succession = Succession()
    program = serving(succession)
    program.ready = False
    succession.wanted += 1
    assert not succession.is_due(program)
    program.ready = True
    assert succession.is_due(program)


def test_a_successor_that_fails_leaves_the_one_before_it() -> None:
    succession = Succession()
    program = serving(succession)
    succession.wanted += 1
    successor = succession.begin(program)
    successor.started(2, 1.0, succession.wanted)
    assert succession.overdue(1.0 + READY_S_MAX) == [successor]
    assert not succession.ended(successor)
    assert not succession.is_due(program), "until somebody asks again"
    succession.wanted += 1
    assert succession.is_due(program)


def test_whoever_was_to_succeed_one_that_dies_does_so_now() -> None:
    succession = Succession()
    program = serving(succession)
    succession.wanted += 1
    successor = succession.begin(program)
    assert succession.inherits(program) is successor
    assert succession.inherits(program) is None
