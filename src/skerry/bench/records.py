"""Records as lines of JSON: between processes, and in the file that a run leaves."""

from __future__ import annotations

import json
from array import array
from dataclasses import fields
from typing import Any, TextIO

from skerry.bench.contract import Fault, Record

DIGITS = 7
"""Of a second: tenths of a microsecond."""
NAMES = tuple(field.name for field in fields(Record))


def write_record(out: TextIO, record: Record) -> None:
    body: dict[str, Any] = {"number": record.number}
    for name in NAMES:
        value: Any = getattr(record, name)
        if name == "times_s":
            value = [round(each, DIGITS) for each in record.times_s]
        elif isinstance(value, float):
            value = round(value, DIGITS)
        if value:
            body[name] = value
    for name in ("session", "turn"):  # whose nothing is not 0
        body[name] = getattr(record, name)
    out.write(json.dumps(body, separators=(",", ":")) + "\n")


def read_record(line: str | bytes) -> Record:
    """Raises ValueError, TypeError."""
    body: dict[str, Any] = json.loads(line)
    fault = body.pop("fault", None)
    times = array("d", body.pop("times_s", ()))
    return Record(**body, fault=None if fault is None else Fault(fault), times_s=times)
