"""What a run leaves in its folder: summary.json with a stable form, records, requests.csv, summary.md."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import skerry
from skerry.bench import arrow
from skerry.bench.frame import Frame
from skerry.bench.measure.metrics import ONE
from skerry.bench.measure.summary import Summary
from skerry.bench.plan import Plan, Records
from skerry.bench.records import write_record
from skerry.bench.report import table

SCHEMA = 1
"""Grows when a name changes or goes; new ones may come at any time."""
HIDDEN = ("authorization", "api-key", "x-api-key", "cookie")


def document(plan: Plan, summary: Summary) -> dict[str, Any]:
    """Seconds and tokens throughout. Keys of headers that hold secrets are not written down."""
    declared = asdict(plan, dict_factory=_without_none)
    declared["headers"] = {name: "***" if name.lower() in HIDDEN else value for name, value in plan.headers.items()}
    return {
        "schema": SCHEMA,
        "skerry": skerry.__version__,
        "plan": declared,
        "summary": asdict(summary),
    }


def _without_none(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if value is not None}


def leave(folder: Path, plan: Plan, summary: Summary, frame: Frame) -> None:
    """Raises OSError, and Invalid where Parquet is asked for and pyarrow is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(document(plan, summary), indent=2) + "\n")
    if plan.records is Records.PARQUET:
        arrow.write_records(folder / "records.parquet", frame)
    else:
        with (folder / "records.jsonl").open("w") as out:
            for record in frame:
                write_record(out, record)
    with (folder / "requests.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["number", "worker", "scenario", "user", "session", "turn", "status", "fault", "sent_s", *ONE])
        values = [compute(frame) for compute in ONE.values()]
        for row, record in enumerate(frame):
            cells = ["" if np.isnan(each[row]) or not record.ok else f"{each[row]:.6f}" for each in values]
            about = [record.number, record.worker, record.scenario, record.user, record.session, record.turn]
            rows.writerow([*about, record.status, record.fault or "", f"{record.sent_s:.6f}", *cells])
    (folder / "summary.md").write_text(words(summary))


def words(summary: Summary) -> str:
    lines = [f"- {name + ': ' if name else ''}{value}" for name, value in table.head(summary)]
    for header, rows in (table.latencies(summary), table.others(summary), table.kept(summary)):
        if rows:
            lines += ["", *table.markdown(header, rows)]
    return "\n".join(lines) + "\n"
