"""Parquet and Arrow: data in the files and folders of Hugging Face's datasets, and records for whoever reads tables.

pyarrow is as large as all of Skerry, so it is brought by an extra and imported where a file asks for it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from skerry.bench.contract import Fault, Record
from skerry.bench.frame import COUNTS, FAULTS, MOMENTS, TICK_S, Frame
from skerry.errors import Invalid

ROWS_AT_ONCE = 1024
Fields = Mapping[str, Any]


def library(part: str, field: str) -> Any:
    """Raises Invalid where it is missing."""
    try:
        return importlib.import_module(part)
    except ImportError:
        say = f"{field}: Parquet and Arrow need the package pyarrow; install it with: pip install 'skerry[bench]'"
        raise Invalid(say, field=field) from None


def table_rows(path: Path) -> Iterator[Fields]:
    """Of one file. Raises Invalid."""
    pyarrow = library("pyarrow", "data.path")
    try:
        if path.suffix == ".parquet":
            batches = library("pyarrow.parquet", "data.path").ParquetFile(path).iter_batches(ROWS_AT_ONCE)
            yield from _rows(batches)
        else:
            yield from _rows(_batches(pyarrow, path))
    except (OSError, pyarrow.ArrowException) as error:
        kind = "Parquet" if path.suffix == ".parquet" else "Arrow"
        raise Invalid(f"{path} cannot be read as {kind}", field="data.path", because=str(error)) from None


def _rows(batches: Iterable[Any]) -> Iterator[Fields]:
    for batch in batches:
        for since in range(0, batch.num_rows, ROWS_AT_ONCE):
            yield from cast("list[Fields]", batch.slice(since, ROWS_AT_ONCE).to_pylist())


def _batches(pyarrow: Any, path: Path) -> Iterator[Any]:
    """Of either form: `datasets` writes the one for streams."""
    with pyarrow.memory_map(str(path)) as source:
        try:
            yield from pyarrow.ipc.open_stream(source)
        except pyarrow.ArrowInvalid:
            file = pyarrow.ipc.open_file(source)
            yield from (file.get_batch(at) for at in range(file.num_record_batches))


def dataset_files(folder: Path) -> list[Path]:
    """In the order of their rows: of a folder that `save_to_disk` wrote, or of one as repositories on the hub have it.
    Of several splits `train`, or the first. Raises Invalid."""
    try:
        if (folder / "dataset_dict.json").exists():
            splits: list[str] = json.loads((folder / "dataset_dict.json").read_text())["splits"]
            return dataset_files(folder / ("train" if "train" in splits else splits[0]))
        if (folder / "state.json").exists():
            state = json.loads((folder / "state.json").read_text())
            return [folder / each["filename"] for each in state["_data_files"]]
        found = sorted(path for path in folder.rglob("*") if path.is_file())
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise Invalid(f"{folder}: not a dataset's folder", field="data.path", because=repr(error)) from None
    for suffix in (".parquet", ".arrow", ".jsonl", ".csv"):
        if several := [path for path in found if path.suffix == suffix]:
            return [path for path in several if path.name.startswith("train")] or several
    raise Invalid(f"{folder} holds no .parquet, .arrow, .jsonl or .csv", field="data.path")


def write_records(path: Path, frame: Frame) -> None:
    """Raises Invalid where pyarrow is missing, OSError."""
    pyarrow = library("pyarrow", "records")
    whose = np.repeat(frame["sent_s"], np.diff(frame.ends))
    times = pyarrow.ListArray.from_arrays(pyarrow.array(frame.ends, pyarrow.int32()), frame.ticks * TICK_S + whose)
    rows = range(len(frame))
    faults: list[int] = frame.faults.tolist()
    columns: dict[str, Any] = {
        **{name: frame[name] for name in (*COUNTS, *MOMENTS)},
        "fault": [None if fault < 0 else str(FAULTS[fault]) for fault in faults],
        "scenario": [frame.scenarios[at] for at in frame.scenario.tolist()],
        "user": [frame.users[at] for at in frame.user.tolist()],
        "say": [frame.says.get(row, "") for row in rows],
        "text": [frame.texts.get(row, "") for row in rows],
        "times_s": times,
    }
    library("pyarrow.parquet", "records").write_table(pyarrow.table(columns), path, compression="zstd")


def read_records(path: Path) -> Iterator[Record]:
    """Raises Invalid, TypeError, ValueError."""
    for row in table_rows(path):
        body = dict(row)
        fault, times = body.pop("fault"), body.pop("times_s")
        record = Record(**body, fault=None if fault is None else Fault(fault))
        record.counted = bool(record.counted)
        record.times_s.extend(times)
        yield record
