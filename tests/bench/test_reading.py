"""Plans are read by the limits that they are declared with, and who sends does not carry what reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from skerry.bench.campaign import schema
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.errors import Invalid

GOOD: dict[str, Any] = {"url": "http://h:1", "model": "m", "load": {"rate": 2, "duration": "1m"}}
APART = """
import sys
import skerry.bench.run, skerry.bench.campaign, skerry.cli.bench_runs, skerry.bench.report.html
from skerry.bench.plan import Plan
from skerry.bench.reading import read
from skerry.errors import Invalid
(plan,) = read(Plan, [{"url": "http://h:1", "model": "m", "load": {"rate": 2, "duration": "1m"}, "data": [{}]}])
try:
    read(Plan, [{"url": "http://h:1", "model": "m", "load": {"rate": 0, "duration": "1m"}}])
except Invalid as error:
    print(plan.load.duration, plan.data[0].kind.name, error.field, "pydantic" in sys.modules)
"""


@pytest.mark.parametrize(
    ("body", "say"),
    [
        ({"load": {"rate": 0, "requests": 1}}, "load.rate: 0 is not allowed; give more than 0, at most 1000000"),
        ({"load": {"rate": 1}}, "load: give duration or requests: without them it would never end"),
        ({"load": {"rate": 1, "concurrency": 1}}, "load: give exactly one of rate, steps, concurrency and trace"),
        ({"lod": 1}, "lod: there is no such field; did you mean load?"),
        ({"load": {"steps": [{"rate": 1}]}}, "load.steps[0].duration: this field is required"),
        ({"load": 7}, "load: 7 is not allowed; it should be a mapping of names to values"),
        ({"timeout": "soon"}, "timeout: 'soon' is not allowed; expected seconds or a time such as 30s, 10m or 2h"),
        ({"data": [{"image_sizes": ["big"]}]}, "data[0].image_sizes: 'big' is not allowed; give WIDTHxHEIGHT"),
        ({"data": [{"kind": "jsonl"}]}, "data[0].path: goes with every kind of data but synthetic"),
        ({"workers": 1000}, "workers: 1000 is not allowed; give 1 to 256"),
        ({"engine": "a:b"}, "give one of url, service and engine"),
    ],
)
def test_what_is_wrong_is_told(body: dict[str, Any], say: str) -> None:
    with pytest.raises(Invalid) as told:
        read_here(Plan, {**GOOD, **body})
    assert told.value.say.startswith(say)


def test_who_sends_does_not_carry_what_reads() -> None:
    said = subprocess.run([sys.executable, "-c", APART], capture_output=True, text=True, check=True).stdout
    assert said == "60.0 SYNTHETIC load.rate False\n"


def test_a_schema_for_editors_has_limits_and_no_field_but_these() -> None:
    found = schema()
    assert found["additionalProperties"] is False
    assert found["properties"]["workers"] == {
        "default": 1,
        "maximum": 256,
        "minimum": 1,
        "title": "Workers",
        "type": "integer",
    }
    assert {"service", "runs", "repeat", "load"} <= found["properties"].keys()
    assert not found["required"]
    json.dumps(found)
