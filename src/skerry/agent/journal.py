"""What this machine was told and did about each sandbox, on disk, so that an agent that died can go on alone.

One small JSON file per sandbox, replaced by rename. Not fsynced: after a power cut no process of a sandbox is left
either, and control's database, which is, sends every order again.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from skerry.model.fields import Frozen
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import Exit, ExitReason
from skerry.model.sleep import Asleep, Lease
from skerry.model.verdict import rules_from_ranges

TOMBSTONES_MAX = 4096
"""Deleted sandboxes remembered, so that an order sent before the deletion and delivered after it is refused."""


class Wanted(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"


class Entry(Frozen):
    sandbox_id: str
    generation: int
    wanted: Wanted
    order: Order | None = None
    slot: int | None = None
    address: str | None = None
    exit: Exit | None = None
    identity_made: bool = False
    """A fork has its own machine-id and host keys."""
    restored_generation: int = -1
    """Generation of the last restore whose disk swap is done."""
    asleep: Asleep | None = None
    """It is RUNNING as far as anybody wants, and frozen or stopped until somebody needs it."""
    woken_by: str | None = None
    leases: tuple[Lease, ...] = ()
    """What was asked to keep it awake; those that have run out may still be here."""
    keep_log: str | None = None
    """Of one that is ABSENT: as what its output is kept."""
    oom_kills: int = 0
    """Of the present start, already reported."""

    @property
    def has_ended(self) -> bool:
        """By itself, in its newest run: nobody stopped it, be it to sleep or to be restored."""
        return self.exit is not None and self.exit.reason is not ExitReason.STOPPED

    def report(self, presence: Presence) -> Report:
        """What control is told of it, but for its services."""
        return Report(
            sandbox_id=self.sandbox_id,
            generation=self.generation,
            presence=presence,
            address=self.address,
            exit=self.exit if presence not in (Presence.RUNNING, Presence.ASLEEP) else None,
            asleep=self.asleep,
            woken_by=self.woken_by,
        )


class Journal:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}

    def open(self) -> None:
        """Read everything; a file that cannot be read is set aside, not dropped: it may name a sandbox that runs."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            try:
                entry = Entry.model_validate(_upgraded(json.loads(path.read_bytes())))
            except (ValidationError, ValueError, OSError):
                path.replace(path.with_suffix(".unreadable"))
                continue
            self._entries[entry.sandbox_id] = entry
        self._forget_old_tombstones()

    def get(self, sandbox_id: str) -> Entry | None:
        return self._entries.get(sandbox_id)

    def all(self) -> list[Entry]:
        return list(self._entries.values())

    def put(self, entry: Entry) -> Entry:
        path = self._folder / f"{entry.sandbox_id}.json"
        scratch = path.with_suffix(".new")
        scratch.write_text(entry.model_dump_json())
        scratch.chmod(0o600)  # the order may hold secrets in env
        os.replace(scratch, path)
        self._entries.pop(entry.sandbox_id, None)
        self._entries[entry.sandbox_id] = entry
        if entry.wanted is Wanted.ABSENT:
            self._forget_old_tombstones()
        return entry

    def begin(self, order: Order) -> Entry:
        """It is to run by this order, from its beginning or anew."""
        fresh = Entry(sandbox_id=order.sandbox_id, generation=order.generation, wanted=Wanted.RUNNING, order=order)
        entry = self.get(order.sandbox_id)
        if entry is not None and entry.wanted is not Wanted.ABSENT:
            change = {"generation": order.generation, "wanted": Wanted.RUNNING, "order": order}
            fresh = entry.model_copy(update={**change, "exit": None, "asleep": None, "oom_kills": 0})
        return self.put(fresh)

    def admit(self, order: Order) -> Entry:
        """It has a disk, and is to run when it is told to."""
        stopped = Wanted.STOPPED
        return self.put(Entry(sandbox_id=order.sandbox_id, generation=order.generation, wanted=stopped, order=order))

    def slots(self) -> dict[str, int]:
        return {entry.sandbox_id: entry.slot for entry in self._entries.values() if entry.slot is not None}

    def _forget_old_tombstones(self) -> None:
        dead = [entry for entry in self._entries.values() if entry.wanted is Wanted.ABSENT and entry.slot is None]
        for entry in dead[: max(0, len(dead) - TOMBSTONES_MAX)]:
            del self._entries[entry.sandbox_id]
            (self._folder / f"{entry.sandbox_id}.json").unlink(missing_ok=True)


def _upgraded(entry: Any) -> Any:
    """What an agent of Skerry 0.1 wrote, in which private ranges were a list of their own, and every sandbox's name was
    its hostname."""
    try:
        order = entry["order"]
        if "hostname" in order:
            order["name"] = order.pop("hostname")
        network = order["spec"]["network"]
        network["rules"] = rules_from_ranges(network.pop("allow"))
    except (KeyError, TypeError):
        pass  # as we write it, or nothing that we wrote
    return entry
