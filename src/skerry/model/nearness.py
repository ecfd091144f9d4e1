"""The name that somebody may have meant who gave one that does not exist. Without pydantic, as the command line is."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?", or "" where nothing is close."""
    import difflib  # here only, since most calls of a program make no mistake

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
