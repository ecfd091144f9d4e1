"""Run each reconciler for ever: when it is woken, and every so often in case nobody did."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Protocol

from skerry.control.wakeups import Wakeup
from skerry.errors import SkerryError
from skerry.telemetry import Log

PAUSE_AFTER_FAILURE_S = 1.0


class Reconciler(Protocol):
    moves: ClassVar[frozenset[tuple[Any, Any]]]
    """The arrows of MOVES that it alone takes; a house test holds this against the tables."""

    async def step(self) -> None:
        """Read, decide, act, write. Takes no input, and may be repeated or interrupted anywhere."""
        ...


async def run(reconciler: Reconciler, wakeup: Wakeup, *, every_s: float, log: Log) -> None:
    name = type(reconciler).__name__
    while True:
        try:
            await reconciler.step()
        except SkerryError as error:
            log.warning("step failed", reconciler=name, say=error.say, because=error.because)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        except Exception as error:
            # One reconciler's defect must not take the API and the others down with it.
            log.error("step failed", reconciler=name, because=repr(error))
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        else:
            await wakeup.wait(every_s)
