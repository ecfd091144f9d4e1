"""Rows of a CSV file by the names of their columns: each cell is checked, each mistake told with its place."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from skerry.errors import Invalid

SHOWN_MAX = 60


class Row:
    """`default` stands for a column that is not there and for a cell that is empty; None: neither is allowed."""

    def __init__(self, file: str, line: int, cells: dict[str, str]) -> None:
        self._file = file
        self._line = line
        self._cells = cells

    def has(self, column: str) -> bool:
        return bool(self._cells.get(column))

    def text(self, column: str, default: str | None = None, length_max: int = 256) -> str:
        found = self._cells.get(column) or default
        if found is None:
            raise self.wrong(column, "a value is needed")
        if len(found) > length_max or not found.isprintable():
            raise self.wrong(column, f"at most {length_max} printable characters are allowed")
        return found

    def name(self, column: str, default: str | None = None) -> str:
        found = self.text(column, default, 63).lower()
        if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", found):
            raise self.wrong(column, "letters, digits, '-', '_' and '.' are allowed, at most 63")
        return found

    def whole(self, column: str, least: int, most: int, default: int | None = None) -> int:
        found = self._cells.get(column)
        if not found and default is not None:
            return default
        number = self._parsed(column)
        if number is None or number != int(number) or not least <= number <= most:
            raise self.wrong(column, f"a whole number from {least} to {most} is allowed")
        return int(number)

    def number(self, column: str, least: float, most: float, default: float | None = None) -> float:
        found = self._cells.get(column)
        if not found and default is not None:
            return default
        number = self._parsed(column)
        if number is None or not least <= number <= most:
            raise self.wrong(column, f"a number from {least:g} to {most:g} is allowed")
        return number

    def one_of(self, column: str, allowed: Collection[str], default: str) -> str:
        found = self._cells.get(column) or default
        if found not in allowed:
            raise self.wrong(column, f"allowed are {', '.join(allowed)}")
        return found

    def wrong(self, column: str, allowed: str) -> Invalid:
        found = self._cells.get(column, "")
        told = repr(found if len(found) <= SHOWN_MAX else found[:SHOWN_MAX] + "…") if found else "nothing"
        return Invalid(f"{self._file}, line {self._line}, column {column}: it has {told}; {allowed}", field=column)

    def _parsed(self, column: str) -> float | None:
        try:
            number = float(self._cells.get(column, ""))
        except ValueError:
            return None
        return number if math.isfinite(number) else None


def header(file: str, lines: Iterable[str]) -> tuple[list[str], Iterator[str]]:
    """The names of the columns, and all the lines again."""
    rest = iter(lines)
    first = next(rest, "")
    try:
        names = next(csv.reader([first]), list[str]())
    except csv.Error as error:
        raise Invalid(f"{file}, line 1: it is not CSV ({error})") from None
    return [name.strip() for name in names], chain([first], rest)


def rows(file: str, lines: Iterable[str], needed: tuple[str, ...], rows_max: int) -> Iterator[Row]:
    """Empty lines are passed over; columns that nobody asks for do no harm."""
    names, lines = header(file, lines)
    missing = [column for column in needed if column not in names]
    if missing:
        raise Invalid(f"{file}, line 1: there is no column {missing[0]}; needed are {', '.join(needed)}")
    count = 0
    reader = csv.reader(lines)
    try:
        next(reader)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise Invalid(
                    f"{file}, line {reader.line_num}: it has {len(cells)} cells, where the header has {len(names)}"
                )
            count += 1
            if count > rows_max:
                raise Invalid(f"{file}, line {reader.line_num}: at most {rows_max} rows are read")
            yield Row(file, reader.line_num, {name: cell.strip() for name, cell in zip(names, cells, strict=True)})
    except csv.Error as error:
        raise Invalid(f"{file}, line {reader.line_num}: it is not CSV ({error})") from None
    if not count:
        raise Invalid(f"{file}: there is no row below its header")
