"""Parquet, Arrow and folders of datasets as data, and records as Parquet."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.bench import results
from skerry.bench.contract import Fault, Record
from skerry.bench.data.rows import rows_of
from skerry.bench.frame import frame_of
from skerry.bench.measure.summary import summarize
from skerry.bench.plan import Plan
from skerry.bench.report import files
from skerry.cli.bench_options import file_of
from skerry.errors import Invalid
from tests.bench.test_data import plan, prompt, sent

pyarrow: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")
ROWS = [{"question": f"what is {number}", "output_tokens": number + 1} for number in range(3)]


def saved_to_disk(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """As `datasets` does it: a stream of Arrow in files that state.json names."""
    folder.mkdir(parents=True)
    for at, part in enumerate((rows[:2], rows[2:])):
        table = pyarrow.Table.from_pylist(part)
        with pyarrow.ipc.new_stream(folder / f"data-0000{at}-of-00002.arrow", table.schema) as out:
            out.write_table(table)
    named = [{"filename": f"data-0000{at}-of-00002.arrow"} for at in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": named, "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def asked(path: Path, **more: Any) -> list[tuple[str, int]]:
    data = [{**file_of(str(path)), **more}]
    return [(prompt(body), body["max_tokens"]) for _, body in sent(plan(data))]


WANTED = [("what is 0", 1), ("what is 1", 2), ("what is 2", 3)]


def test_rows_of_files_and_of_folders(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert asked(tmp_path / "a.parquet") == WANTED
    assert asked(tmp_path / "a.parquet", prompt_column="output_tokens")[0] == ("1", 1)
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_file(tmp_path / "b.arrow", table.schema) as out:
        out.write_table(table)
    assert asked(tmp_path / "b.arrow") == WANTED
    assert asked(saved_to_disk(tmp_path / "one", ROWS)) == WANTED
    saved_to_disk(tmp_path / "several" / "train", ROWS)
    (tmp_path / "several" / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "train"]}))
    assert asked(tmp_path / "several") == WANTED
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for at, part in enumerate((ROWS[:2], ROWS[2:])):
        name = f"train-0000{at}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / "hub" / "data" / name)
    (tmp_path / "hub" / "data" / "test-00000-of-00001.parquet").write_bytes(b"")
    assert asked(tmp_path / "hub") == WANTED
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "x.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    assert asked(tmp_path / "lines") == WANTED


def test_conversations_of_a_dataset(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "a b"}, {"from": "gpt", "value": "c d e"}]
    folder = saved_to_disk(tmp_path / "talks", [{"conversations": said}])
    found = sent(plan([file_of(f"sharegpt:{folder}")]))
    assert [(prompt(body), body["max_tokens"]) for _, body in found] == [("a b", 3)]
    with pytest.raises(Invalid, match=r"neither messages nor a prompt.*give sharegpt:PATH"):
        sent(plan([file_of(str(folder))]))


def test_files_that_are_none_and_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, say in (("x.parquet", "cannot be read as Parquet"), ("x.arrow", "cannot be read as Arrow")):
        (tmp_path / name).write_text("nonsense")
        with pytest.raises(Invalid, match=say):
            list(rows_of(tmp_path / name))
    (tmp_path / "none").mkdir()
    with pytest.raises(Invalid, match="holds no"):
        list(rows_of(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Invalid, match=r"install it with: pip install 'skerry\[bench\]'"):
        list(rows_of(tmp_path / "x.parquet"))


def test_records_as_parquet_are_what_they_were(tmp_path: Path) -> None:
    records = [Record(at, "chat", at, 0, at * 0.1, at * 0.1, at + 0.5, output_tokens=3, counted=True) for at in (0, 1)]
    for record in records:
        record.ended_s, record.last_s = record.first_s + 0.5, record.first_s + 0.5
        record.times_s.extend([record.first_s, record.last_s])
    records.append(Record(2, fault=Fault.TIMEOUT, say="no answer", ended_s=1.0))
    frame = frame_of(records)
    wanted: Plan = plan([{}], records="parquet")
    files.leave(tmp_path / "run", wanted, summarize(frame), frame)
    assert not (tmp_path / "run" / "records.jsonl").exists()
    table = parquet.read_table(tmp_path / "run" / "records.parquet")
    assert table["times_s"].to_pylist()[1] == pytest.approx([1.5, 2.0])
    assert table["fault"].to_pylist() == [None, None, "timeout"]
    (found,) = results.load(tmp_path / "run")
    assert found.samples["itl"].tolist() == pytest.approx([0.5, 0.5])
    assert found.figures["error_rate"] == pytest.approx(1 / 3)
    assert np.isfinite(list(found.figures.values())).all()
