"""How many requests a replica answers at once, as its options say: more than that wait in the engine's own queue,
which is first come, first served, where the gateway's is fair."""

from __future__ import annotations

from skerry.engines.contract import Engine
from skerry.model.service import ServiceSpec


def slots(engine: Engine, spec: ServiceSpec) -> int:
    """0: not known. Never fewer than there are: that would leave a replica idle beside a queue."""
    told = engine.slots
    if not told.option or spec.command is not None:
        return 0
    given = {name.lstrip("-").replace("-", "_"): value for name, value in spec.options.items()}
    # What is written as a command line, in options or by a variable of Backend.AI's, may say otherwise.
    free_text = [str(given.get("extra_args", "")), *(v for name, v in spec.env.items() if name.endswith("_EXTRA_ARGS"))]
    if any(told.option in text.replace("-", "_") for text in free_text):
        return 0
    return _number(given.get(told.option), told.default) * _number(given.get(told.ranks), 1)


def _number(value: object, default: int) -> int:
    """Options of a service are what a user wrote; that they are numbers was seen when they were taken."""
    try:
        return max(0, int(str(value))) if value is not None else default
    except ValueError:
        return default
