"""Lengths in tokens, from a few words: `64`, `U(32,256)`, `N(480,240)`, `LN(256,1.2)`, `E(lengths.txt)`.

D, N and U are genai-bench's notation; LN is log-normal by its median and the standard deviation of its logarithm, E is
empirical, drawn from the numbers of a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skerry.errors import Invalid

TOKENS_MAX = 2_000_000
ALLOWED = "a number, D(64), U(32,256), N(mean,deviation), LN(median,sigma) or E(file of numbers)"
_FORM = re.compile(r"(D|U|N|LN|E)\(([^()]+)\)")

Draw = Callable[[np.random.Generator], int]


def lengths(text: str, field: str, *, least: int = 1) -> Draw:
    """Raises Invalid, naming `field`."""
    whole = text.strip()
    if re.fullmatch(r"[0-9]{1,7}", whole):
        whole = f"D({whole})"
    found = _FORM.fullmatch(whole)
    if found is None:
        raise Invalid(f"{field}: {text[:60]!r} is not allowed; give {ALLOWED}", field=field)
    if found[1] == "E":
        return _empirical(Path(found[2]), field, least)
    try:
        numbers: list[float] = [float(part) for part in found[2].split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (1 if found[1] == "D" else 2) or any(not 0 <= number <= TOKENS_MAX for number in numbers):
        raise Invalid(f"{field}: {text[:60]!r} is not allowed; give {ALLOWED}", field=field)
    return _drawn(found[1], numbers, least)


def _drawn(kind: str, numbers: list[float], least: int) -> Draw:
    first, second = numbers[0], numbers[-1]

    def draw(chance: np.random.Generator) -> int:
        value: float
        match kind:
            case "D":
                value = first
            case "U":
                value = min(first, second) + math.floor(chance.random() * (abs(second - first) + 1))
            case "N":
                value = float(chance.normal(first, second))
            case _:
                value = float(chance.lognormal(math.log(max(first, 1.0)), second))
        return min(max(least, round(value)), TOKENS_MAX)

    return draw


def _empirical(path: Path, field: str, least: int) -> Draw:
    try:
        numbers = [min(max(least, int(word)), TOKENS_MAX) for word in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise Invalid(f"{field}: {path} cannot be read as numbers", field=field, because=str(error)) from None
    if not numbers:
        raise Invalid(f"{field}: {path} holds no number", field=field)
    return lambda chance: numbers[int(chance.integers(len(numbers)))]
