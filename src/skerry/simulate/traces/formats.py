"""Which format a file is in, told by the columns of its header."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skerry.errors import Invalid
from skerry.scheduler.snapshot import Node
from skerry.simulate.trace import Arrival, accelerated
from skerry.simulate.traces import openb, philly
from skerry.simulate.traces.columns import header

Reader = Callable[[str, Iterable[str]], tuple[Arrival, ...]]

FORMATS: tuple[tuple[tuple[str, ...], Reader, Node], ...] = (
    (openb.PODS, openb.read_pods, accelerated("node", cores=96, memory_gib=768, devices=8, kind="gpu")),
    (philly.COLUMNS, philly.read_jobs, philly.NODE),
)
"""Columns that tell it, what reads it, and the node of which there are many where none are given."""


def read(file: str, lines: Iterable[str]) -> tuple[tuple[Arrival, ...], Node]:
    names, lines = header(file, lines)

    def lacks(columns: tuple[str, ...]) -> int:
        return sum(column not in names for column in columns)

    columns, reader, node = min(FORMATS, key=lambda each: lacks(each[0]))
    if lacks(columns) == len(columns):
        told = "; or ".join(", ".join(columns) for columns, _, _ in FORMATS)
        raise Invalid(f"{file}, line 1: this is no trace that is known; its columns must be {told}")
    return reader(file, lines), node
