"""That the gateway is told to end: soon, or in its own time since another has taken its place."""

from __future__ import annotations

import asyncio


class Ending:
    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.hurried = asyncio.Event()
        """Nobody has taken its place, and somebody waits for it to be gone."""

    def stop(self) -> None:
        self.hurried.set()
        self.told.set()

    def give_way(self) -> None:
        self.told.set()
