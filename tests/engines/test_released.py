"""What is written on an engine's command line and read of its metrics is what a release has.

The names were listed from its package, so that an option that we misremember fails here and not on a machine of GPUs.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Metrics, Place
from skerry.model.service import EngineName, ServiceSpec

FOLDER = Path(__file__).parent / "released"


@pytest.mark.parametrize(
    ("name", "release"), [(EngineName.VLLM, "vllm-0.33.0.txt"), (EngineName.SGLANG, "sglang-0.5.23.txt")]
)
def test_a_release_knows_all_of_it(name: EngineName, release: str) -> None:
    engine, known = ENGINES[name], set((FOLDER / release).read_text().split())
    place = Place(model="/m", adapters={"pirate": "/a"})
    command = engine.launch(ServiceSpec(engine=name, adapters={"pirate": "/a"}), place, "tide").command or ()
    written = {word for word in command if word.startswith("--")}
    written |= {"--" + option.replace("_", "-") for option in engine.options.model_fields if option != "extra_args"}
    assert written - known == set()
    read = {getattr(engine.metrics, field.name) for field in fields(Metrics) if field.name != "path"} - {""}
    assert read - known == set()
