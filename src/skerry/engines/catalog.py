"""Every engine there is, by name."""

from __future__ import annotations

from collections.abc import Mapping

from skerry.engines.command import CommandEngine
from skerry.engines.contract import Engine
from skerry.engines.llamacpp import LlamacppEngine
from skerry.engines.nim import NimEngine
from skerry.engines.sglang import SglangEngine
from skerry.engines.simulator.engine import SimulatorEngine
from skerry.engines.transformers.engine import TransformersEngine
from skerry.engines.vllm import VllmEngine
from skerry.model.service import EngineName

ENGINES: Mapping[EngineName, Engine] = {
    engine.name: engine
    for engine in (
        CommandEngine(),
        VllmEngine(),
        SglangEngine(),
        NimEngine(),
        TransformersEngine(),
        LlamacppEngine(),
        SimulatorEngine(),
    )
}


def engine(name: EngineName) -> Engine:
    return ENGINES[name]
