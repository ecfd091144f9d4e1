"""What sandboxes ask of whoever makes published ports so; ports need sandboxes, and sandboxes end ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skerry.model.port import PublishedPort


class Publishing(Protocol):
    """What makes published ports so."""

    def claim(self, sandbox_id: str, ports: Sequence[PublishedPort]) -> None:
        """Have these; what comes is held until they are served. Raises InUse, and then it has none."""
        ...

    def serve(self, sandbox_id: str, ports: Sequence[PublishedPort]) -> None:
        """Exactly these, from now on; what cannot be had is tried again and again."""
        ...

    def withdraw(self, sandbox_id: str) -> None:
        """None any more; connections through them end."""
        ...
