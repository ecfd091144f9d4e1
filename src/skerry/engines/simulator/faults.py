"""Failures on demand: what goes wrong, for whom and for how long."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from skerry.errors import Invalid

FAULTS_MAX = 64


class Kind(StrEnum):
    REFUSE = "refuse"  # nobody listens for `seconds`, and what is connected is broken off
    ERROR = "error"  # `status` instead of an answer
    HANG = "hang"  # the request is taken and never answered
    BREAK = "break"  # broken off after `tokens`
    SLOW = "slow"  # every step takes `factor` times as long
    UNHEALTHY = "unhealthy"  # /health answers `status`


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    count: int = 0
    """So many requests; 0: until it is taken away."""
    share: float = 1.0
    """Of the requests."""
    status: int = 500
    tokens: int = 3
    factor: float = 5.0
    seconds: float = 1.0

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Fault:
        """Raises Invalid with what is allowed."""
        allowed = {"count": int, "share": float, "status": int, "tokens": int, "factor": float, "seconds": float}
        try:
            fault = cls(Kind(given.get("kind", "")))
            return replace(fault, **{name: allowed[name](value) for name, value in given.items() if name != "kind"})
        except (ValueError, KeyError, TypeError):
            kinds, names = ", ".join(Kind), ", ".join(allowed)
            raise Invalid(f"a fault has a kind ({kinds}) and may have {names}, all numbers") from None

    @classmethod
    def from_text(cls, text: str) -> Fault:
        """kind:name=value,name=value."""
        kind, _, rest = text.partition(":")
        pairs = (pair.partition("=") for pair in rest.split(",") if pair)
        return cls.parse({"kind": kind, **{name: value for name, _, value in pairs}})


class Faults:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        if len(self._faults) >= FAULTS_MAX:
            raise Invalid(f"at most {FAULTS_MAX} faults at once")
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def drop(self, kind: Kind) -> None:
        self._faults = [fault for fault in self._faults if fault.kind is not kind]

    def told(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]

    def standing(self, kind: Kind) -> Fault | None:
        return next((fault for fault in self._faults if fault.kind is kind), None)

    def strike(self) -> Fault | None:
        """What befalls the next request."""
        for at, fault in enumerate(self._faults):
            if fault.kind in (Kind.ERROR, Kind.HANG, Kind.BREAK) and self._random.random() < fault.share:
                if fault.count == 1:
                    del self._faults[at]
                elif fault.count:
                    self._faults[at] = replace(fault, count=fault.count - 1)
                return fault
        return None
