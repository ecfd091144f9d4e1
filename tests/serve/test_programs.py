"""When a program is started again: back-off that grows, is bounded, and is forgotten after a steady time."""

from __future__ import annotations

from skerry.serve.programs import BACKOFF_FIRST_S, BACKOFF_MAX_S, STEADY_AFTER_S, Program


def delays(program: Program, ups_s: list[float]) -> list[float]:
    now_s, found = 100.0, []
    for up_s in ups_s:
        program.started(1, now_s)
        now_s += up_s
        program.ended(now_s, again=True)
        assert program.start_at_s is not None
        found.append(round(program.start_at_s - now_s, 3))
        now_s = program.start_at_s
    return found


def test_quick_deaths_back_off_up_to_a_bound() -> None:
    found = delays(Program("agent"), [0.1] * 8)
    assert found[:3] == [BACKOFF_FIRST_S, BACKOFF_FIRST_S * 2, BACKOFF_FIRST_S * 4]
    assert found[-1] == BACKOFF_MAX_S


def test_a_steady_run_forgives() -> None:
    assert delays(Program("agent"), [0.1, 0.1, STEADY_AFTER_S])[-1] == BACKOFF_FIRST_S


def test_a_program_told_to_stop_is_not_started_again() -> None:
    program = Program("control")
    program.started(1, 0.0)
    program.ended(1.0, again=False)
    assert program.start_at_s is None
    assert not program.running
