"""What the demo shows as it happens: each step with the time it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


class Steps:
    """Tells each step as it happens and keeps its time."""

    def __init__(self) -> None:
        self.took_ms: dict[str, float] = {}
        self._colour = sys.stdout.isatty()

    def run(self, name: str, say: str, work: Callable[[], Any]) -> Any:
        print(f"{say:<62}", end="", flush=True)
        began = time.perf_counter()
        result = work()
        self.took_ms[name] = (time.perf_counter() - began) * 1000
        print(self._dim(f"{_time(self.took_ms[name]):>10}"), flush=True)
        return result

    def show(self, text: str) -> None:
        for line in text.strip().splitlines():
            print(f"    {self._dim('|')} {line}", flush=True)

    def title(self, text: str) -> None:
        print(f"\n\x1b[1m{text}\x1b[0m" if self._colour else f"\n{text}", flush=True)

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._colour else text


def _time(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms < 10_000 else f"{ms / 1000:,.0f} s"
