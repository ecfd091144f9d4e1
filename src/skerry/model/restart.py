"""When what has ended by itself is started again: the same for a sandbox's main process and for its services. Pure."""

from __future__ import annotations

from enum import StrEnum

BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 60.0
"""One that never comes up costs one start a minute."""
STABLE_S = 30.0
"""One that ran so long is taken to have worked: its next end begins with the shortest wait again."""


class Restart(StrEnum):
    ALWAYS = "always"
    ON_FAILURE = "on-failure"  # not when it ended with code 0
    NEVER = "never"


def failures_after(restart: Restart, code: int | None, *, ran_s: float, failures: int) -> int | None:
    """Ends in a row with no stable time between, this one too; None: it is not started again. `code` is None for one
    whose end nobody saw: that is taken for a failure, since the work may not be done."""
    if restart is Restart.NEVER or (code == 0 and restart is Restart.ON_FAILURE):
        return None
    return 1 if ran_s >= STABLE_S else failures + 1


def backoff_s(failures: int) -> float:
    return min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** min(failures - 1, 30))
