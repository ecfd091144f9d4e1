"""Results of a run as they are compared: figures, and what each request took, whichever tool measured them.

Other tools' names are put into ours: what guidellm and AIPerf call inter-token latency is a request's mean, so TPOT.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from skerry.bench.arrow import read_records
from skerry.bench.frame import Floats, frame_of
from skerry.bench.measure.metrics import NAMES, values_of
from skerry.bench.measure.repeats import figures
from skerry.bench.measure.summary import summarize
from skerry.bench.records import read_record
from skerry.errors import Invalid

Fields = Mapping[str, Any]
RATES = ("requests_per_second", "output_tokens_per_second")
AT = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class Result:
    name: str
    tool: str
    samples: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    """Seconds and tokens of each request, by our names."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """`requests_per_second`, `ttft_p99`: what the tool reports, or what its samples come to."""

    @property
    def label(self) -> str:
        return f"{self.name} ({self.tool})"


def load(path: Path) -> list[Result]:
    """Of a folder or a file of any tool. Raises Invalid."""
    try:
        return _load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say = f"{path}: neither a result of ours nor of guidellm, AIPerf, genai-bench or vllm"
        raise Invalid(say, because=repr(error)) from None


def _load(path: Path) -> list[Result]:
    if path.is_dir():
        if (path / "records.jsonl").exists() or (path / "records.parquet").exists():
            return [_ours(path)]
        if (path / "profile_export_aiperf.json").exists():
            return [_aiperf(path)]
        found = [each for inner in sorted(path.iterdir()) if inner.is_dir() for each in _load(inner)]
        return found or [each for inner in sorted(path.glob("*.json")) for each in _load(inner)]
    body: Any = json.loads(path.read_text())
    if "imported" in body:
        return [_result(each["name"], each["tool"], each["samples"], each["figures"]) for each in body["imported"]]
    if "benchmarks" in body:
        return [_guidellm(path, at, each) for at, each in enumerate(body["benchmarks"])]
    if "aggregated_metrics" in body:
        return [_genai_bench(path, body)]
    if "request_throughput" in body:
        return [_vllm(path, body)]
    raise ValueError("no known names")


def document(results: Sequence[Result]) -> dict[str, Any]:
    """As `load` reads it again."""
    rows = [
        {
            "name": each.name,
            "tool": each.tool,
            "figures": each.figures,
            "samples": {name: np.round(values, 6).tolist() for name, values in each.samples.items()},
        }
        for each in results
    ]
    return {"schema": 1, "imported": rows}


def _result(name: str, tool: str, samples: Mapping[str, Sequence[float]], rates: Mapping[str, Any]) -> Result:
    arrays = {key: np.asarray(values, np.float64) for key, values in samples.items() if len(values)}
    found = {key: float(value) for key, value in rates.items() if value is not None}
    for key, values in arrays.items():
        found[f"{key}_mean"] = float(values.mean())
        for at, value in zip(AT, np.percentile(values, [float(each[1:]) for each in AT]), strict=True):
            found[f"{key}_{at}"] = float(value)
    return Result(name, tool, arrays, found)


def _ours(path: Path) -> Result:
    if (path / "records.parquet").exists():
        frame = frame_of(read_records(path / "records.parquet"))
    else:
        with (path / "records.jsonl").open() as lines:
            frame = frame_of(read_record(line) for line in lines)
    samples = {name: values_of(name, frame) for name in NAMES}
    return Result(path.name, "skerry", {k: v for k, v in samples.items() if v.size}, figures(summarize(frame)))


def _column(rows: Iterable[Fields], name: str, scale: float = 1.0) -> list[float]:
    return [float(row[name]) * scale for row in rows if isinstance(row.get(name), int | float)]


def _guidellm(path: Path, at: int, body: Fields) -> Result:
    rows: list[Fields] = body["requests"]["successful"]
    samples = {
        "ttft": _column(rows, "time_to_first_token_ms", 1e-3),
        "tpot": _column(rows, "inter_token_latency_ms", 1e-3),
        "e2e": _column(rows, "request_latency"),
        "output_tokens": _column(rows, "output_tokens"),
    }
    metrics: Fields = body["metrics"]
    names = {"requests_per_second": "requests_per_second", "output_tokens_per_second": "output_tokens_per_second"}
    rates = {ours: _deep(metrics, theirs, "successful", "mean") for ours, theirs in names.items()}
    return _result(f"{path.stem}-{at}", "guidellm", samples, rates)


def _deep(body: Any, *names: str) -> Any:
    for name in names:
        body = cast(Fields, body).get(name) if isinstance(body, dict) else None
    return body


def _aiperf(path: Path) -> Result:
    body: Fields = json.loads((path / "profile_export_aiperf.json").read_text())
    rows: list[Fields] = []
    if (lines := path / "profile_export.jsonl").exists():
        rows = [json.loads(line).get("metrics") or {} for line in lines.read_text().splitlines() if line.strip()]
    scales = {"ms": 1e-3, "s": 1.0, "us": 1e-6, "ns": 1e-9}

    def column(name: str) -> list[float]:
        cells: list[Fields] = [row[name] for row in rows if name in row]
        return [value * scales.get(str(cell.get("unit")), 1.0) for cell in cells for value in _each(cell["value"])]

    names = {
        "ttft": "time_to_first_token",
        "ttfct": "time_to_first_output_token",
        "tpot": "inter_token_latency",
        "itl": "inter_chunk_latency",
        "e2e": "request_latency",
        "input_tokens": "input_sequence_length",
        "output_tokens": "output_sequence_length",
    }
    samples = {ours: column(theirs) for ours, theirs in names.items()}
    rates = {
        "requests_per_second": _deep(body, "request_throughput", "avg"),
        "output_tokens_per_second": _deep(body, "output_token_throughput", "avg"),
    }
    return _result(path.name, "aiperf", samples, rates)


def _each(value: Any) -> list[float]:
    return [float(each) for each in cast("list[Any]", value)] if isinstance(value, list) else [float(value)]


def _genai_bench(path: Path, body: Fields) -> Result:
    rows: list[Fields] = body.get("individual_request_metrics") or []
    names = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2e_latency", "output_latency": "output_latency"}
    samples = {ours: _column(rows, theirs) for ours, theirs in names.items()}
    samples["input_tokens"] = _column(rows, "num_input_tokens")
    samples["output_tokens"] = _column(rows, "num_output_tokens")
    whole: Fields = body["aggregated_metrics"]
    rates = {
        "requests_per_second": whole.get("requests_per_second"),
        "output_tokens_per_second": whole.get("mean_output_throughput_tokens_per_s"),
        "error_rate": whole.get("error_rate"),
    }
    return _result(path.stem, "genai-bench", samples, rates)


def _vllm(path: Path, body: Fields) -> Result:
    rates: dict[str, Any] = {
        "requests_per_second": body["request_throughput"],
        "output_tokens_per_second": body.get("output_throughput"),
        "goodput": body.get("request_goodput"),
    }
    for ours, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        for at, name in (("mean", "mean"), ("p50", "median"), *((each, each) for each in AT)):
            value = body.get(f"{name}_{theirs}_ms")
            if value is not None and (at != "p50" or name == "median" or f"{ours}_p50" not in rates):
                rates[f"{ours}_{at}"] = value / 1000
    detailed: Callable[[str], list[Any]] = lambda name: body.get(name) or []  # noqa: E731
    gaps = detailed("itls")
    samples = {"ttft": detailed("ttfts"), "itl": [gap for each in gaps for gap in each]}
    if gaps:
        samples["e2e"] = [first + sum(each) for first, each in zip(detailed("ttfts"), gaps, strict=True)]
    return _result(path.stem, "vllm", samples, rates)
