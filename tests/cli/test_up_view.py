"""What `skerry up` draws over must fit the screen, or it cannot be drawn over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.cli.output import printed
from skerry.cli.up_view import fitting, row
from skerry.environment.apply import Phase, Progress
from skerry.environment.kinds.contract import Action, Step


@given(st.lists(st.sampled_from(list(Phase)), max_size=60), st.integers(2, 30))
def test_no_more_rows_than_lines_and_none_at_work_left_out_for_one_that_is_done(
    phases: list[Phase], lines: int
) -> None:
    rows = [Progress(Step("sandboxes", str(at), "", Action.CREATE), phase) for at, phase in enumerate(phases)]
    shown = fitting(rows, lines)
    assert len(shown) + (len(shown) < len(rows)) <= lines
    assert shown == [one for one in rows if one in shown]
    if any(one.phase is Phase.FAILED and one not in shown for one in rows):
        assert all(one.phase is Phase.FAILED for one in shown)


@given(st.text("ab", max_size=40), st.text("cd", max_size=200), st.integers(12, 120))
def test_a_row_is_one_line_and_keeps_its_time(key: str, now: str, width: int) -> None:
    text = row(key, now, "  12.3s", key_width=20, width=width)
    assert len(text) <= width
    assert text.endswith("  12.3s")


def test_a_printed_line_is_what_a_terminal_shows_in_the_end() -> None:
    assert printed("5%\r50%\r\x1b[32mdone\x1b[0m\tx\r") == "done    x"
    assert printed("a\x1b]0;title\x07") == "a\\x1b]0;title\\x07"
