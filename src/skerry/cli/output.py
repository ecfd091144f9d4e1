"""How the CLI prints: aligned tables, JSON, human ages and sizes; colours on a terminal only, and not with NO_COLOR."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import Any, TextIO

from skerry.model.amounts import format_size

CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "grey": "90", "bold": "1"}
STATE_COLOURS = {
    "running": "green",
    "ready": "green",
    "succeeded": "green",
    "failed": "red",
    "unreachable": "red",
    "asleep": "blue",
    "stopped": "grey",
    "deleted": "grey",
}
"""Any other state is on its way to one of these: yellow."""


LAST_COLUMN_MIN = 20
"""Characters: in less room no sentence is read."""
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Columns = dict[str, Callable[[Any], object]]
"""Heading -> what an item shows there."""


class Output:
    def __init__(self, environ: Mapping[str, str], stream: TextIO | None = None) -> None:
        self.json = False
        self.quiet = False
        self._environ = environ
        self._given = stream

    @property
    def stream(self) -> TextIO:
        return self._given or sys.stdout

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty() and self._environ.get("TERM") != "dumb"

    @property
    def coloured(self) -> bool:
        return self.is_terminal and not self._environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        self.stream.write(text + "\n")

    def note(self, text: str) -> None:
        """For people, beside the result: on stderr, and not with --quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    def paint(self, text: str, colour: str | None) -> str:
        return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if colour and self.coloured else text

    def emit(self, value: Any) -> None:
        """One JSON document."""
        self.line(json.dumps(value, indent=2, ensure_ascii=False))

    def emit_line(self, value: Any) -> None:
        """One JSON line of a stream; seen at once."""
        self.line(json.dumps(value, ensure_ascii=False))
        self.stream.flush()

    def one(self, body: Mapping[str, Any], text: str, name: str = "id") -> None:
        """One object: all of it, its id, or a sentence."""
        if self.json:
            self.emit(body)
        else:
            self.line(str(body.get(name, "")) if self.quiet else text)

    def many(self, items: Sequence[Mapping[str, Any]], columns: Columns, name: str = "id") -> None:
        """A list: JSON array, ids one a line, or a table."""
        if self.json:
            self.emit(list(items))
        elif self.quiet:
            for item in items:
                self.line(str(item[name]))
        else:
            self.table(list(columns), [[str(cell(item)) for cell in columns.values()] for item in items])

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        cells = [[plain(cell) for cell in row] for row in rows]
        widths = [max(len(heading), *(len(row[at]) for row in cells), 0) for at, heading in enumerate(headings)]
        self.line(self.paint(_aligned(headings, widths), "bold"))
        start_of_last = sum(widths[:-1]) + 2 * (len(widths) - 1)
        for row in cells:
            last, *rests = self._last_column(row[-1], start_of_last)
            text = _aligned([*row[:-1], last], widths)
            if "STATE" in headings:
                at = list(headings).index("STATE")
                start = sum(widths[:at]) + 2 * at
                state = row[at]
                text = text[:start] + self.state(state) + text[start + len(state) :]
            self.line(text)
            for rest in rests:
                self.line(" " * start_of_last + rest)

    def _last_column(self, text: str, start: int) -> list[str]:
        """What of it goes into one line each: sentences are broken where a terminal would break them anyway, so that
        the other columns stay columns."""
        room = get_terminal_size().columns - start if self.is_terminal else 0
        if room < LAST_COLUMN_MIN or len(text) <= room:
            return [text]
        from textwrap import wrap  # here only, since most tables fit

        return wrap(text, room, break_on_hyphens=False)

    def state(self, state: str) -> str:
        return self.paint(state, STATE_COLOURS.get(state, "yellow") if state.isalpha() else None)

    def facts(self, pairs: Mapping[str, Any]) -> None:
        """Name and value, one a line; what is empty is left out."""
        shown = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
        width = max((len(name) for name in shown), default=0) + 1
        for name, value in shown.items():
            text = self.state(str(value)) if name == "state" else plain(str(value))
            self.line(f"{name + ':':<{width}}  {text}")


def plain(text: str) -> str:
    """Names of files, comments and the like may come out of a sandbox: they are shown, and command no terminal."""
    return text.translate(CONTROLS)


def printed(line: str) -> str:
    """A line that a program printed, as a terminal would show it in the end: what it wrote over is gone, a tab is some
    spaces, and colours are left out."""
    return plain(_COLOUR.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs())


def is_terminal(stream: TextIO | None) -> bool:
    """A stream that was closed before we started is None, and no terminal."""
    return stream is not None and stream.isatty()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def human_size(size_bytes: int | None) -> str:
    """1536 -> 1.5KiB; - for what is not known."""
    return "-" if size_bytes is None else format_size(size_bytes)


def human_duration(seconds: float) -> str:
    """75 -> 1m15s: two units at most, the smaller left out when it says little."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s" if whole < 600 else f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60}m" if whole < 36_000 else f"{whole // 3600}h"
    return f"{whole // 86_400}d"


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO time was."""
    if not moment:
        return "-"
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(moment)
    return human_duration(max(0.0, passed.total_seconds()))


def local_time(moment: str | None) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def pairs(mapping: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in mapping.items())


def part(body: Any, name: str) -> dict[str, Any]:
    """The object under `name`; {} where there is none."""
    return body.get(name) or {}


def parts(body: Any, name: str) -> list[Any]:
    """The list under `name`; [] where there is none."""
    return body.get(name) or []
