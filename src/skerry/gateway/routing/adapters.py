"""Which replica has which LoRA adapter: as its engine says, or because requests for it were sent there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate

SENT_MAX: Final = 100_000
"""(replica, adapter) that are remembered as sent there; beyond it, who was sent longest ago is forgotten."""


class Adapters:
    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str], None] = OrderedDict()

    def has(self, candidate: Candidate, adapter: str) -> bool:
        return adapter in candidate.adapters or (candidate.id, adapter) in self._sent

    def sent(self, ask: Ask, replica: str) -> None:
        if ask.adapter:
            self._sent[replica, ask.adapter] = None
            self._sent.move_to_end((replica, ask.adapter))
            if len(self._sent) > SENT_MAX:
                self._sent.popitem(last=False)

    def failed(self, ask: Ask, replica: str) -> None:
        self._sent.pop((replica, ask.adapter), None)

    def forget(self, replica: str) -> None:
        for key in [key for key in self._sent if key[0] == replica]:
            del self._sent[key]
