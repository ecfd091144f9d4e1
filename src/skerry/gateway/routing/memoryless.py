"""What a policy does with news that it has no use for: nothing."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.gateway.routing.contract import Ask


class Memoryless:
    """To inherit the half of `Policy` that is about learning."""

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        return None

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        return None

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        return None

    def stored(self, replica: str, ask: Ask) -> None:
        return None

    def removed(self, replica: str, blocks: Sequence[int]) -> None:
        return None

    def cleared(self, replica: str) -> None:
        return None

    def gone(self, replica: str) -> None:
        return None
