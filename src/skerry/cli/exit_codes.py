"""What each exit code of `skerry` means, and which error gets which."""

from __future__ import annotations

from skerry.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    LimitReached,
    NoRoom,
    NotFound,
    SkerryError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

FAILED, USAGE, NOT_FOUND, CONFLICT, NOT_ALLOWED, UNAVAILABLE = 1, 2, 3, 4, 5, 6
SKERRY_FAILED = 125
INTERRUPTED = 130

TEXT = """\
Exit codes of skerry

  0        all right
  1        it failed; the message says why
  2        bad input: a wrong option, or the server refused a value
  3        nothing has that name or id
  4        conflict: busy, in use, protected, name taken, or a limit is full
  5        not allowed: no key, a wrong one, or one without the right
  6        unavailable: not running, no room, or it took too long; try again

  exec, run, shell and session attach end with the code of the command itself:
  124      the command ran longer than --timeout
  125      skerry itself failed, so the command's code is not known
  126      the command cannot be executed
  127      there is no such command
  128+n    signal n killed the command (130: interrupted, 137: killed, perhaps for memory)
"""

_TABLE: tuple[tuple[int, tuple[type[SkerryError], ...]], ...] = (
    (USAGE, (Invalid, TooLarge)),
    (NOT_FOUND, (NotFound,)),
    (CONFLICT, (Conflict, LimitReached)),
    (NOT_ALLOWED, (Unauthenticated, Forbidden)),
    (UNAVAILABLE, (Unavailable, DeadlineExceeded, NoRoom)),
)


def code_of(error: SkerryError) -> int:
    return next((code for code, kinds in _TABLE if isinstance(error, kinds)), FAILED)
