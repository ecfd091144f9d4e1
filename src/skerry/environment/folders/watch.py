"""`skerry sync --watch`: what changes here appears in the sandbox, until we are told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from skerry.client.calls import sandboxes
from skerry.client.transport import Transport
from skerry.environment.folders.sync import Copying, copied_folders, tell
from skerry.environment.provision.events import Event, Report
from skerry.environment.trees.changes import Changes
from skerry.errors import Invalid, NotFound, SkerryError

SETTLE_S = 0.03
"""After a change, to let those that come with it come too: a program that saves a file makes several."""
WAIT_S = 0.5
"""How often to look whether we are to stop."""
RETRY_S = 1.0
"""After a try that failed."""


def watch(
    transport: Transport,
    ref: str,
    member: str,
    machine: Mapping[str, Any],
    folder: Path,
    report: Report,
    stop: threading.Event,
) -> None:
    """Copy the folders with `sync: rsync`, then what changes in them. What cannot be copied now (the sandbox is being
    restored, the server is away) is tried again; one that sleeps is woken by what is copied."""
    with ExitStack() as stack:
        changes = Changes()
        stack.callback(changes.close)
        copyings = [
            stack.enter_context(Copying(transport, ref, machine, each, folder))
            for each in copied_folders(machine, "rsync")
        ]
        if not copyings:
            raise Invalid(f"{member} has no folder with sync: rsync to watch", field="folders")
        _Watching(transport, ref, member, copyings, changes, report).run(stop)


class _Watching:
    def __init__(
        self,
        transport: Transport,
        ref: str,
        member: str,
        copyings: list[Copying],
        changes: Changes,
        report: Report,
    ) -> None:
        self._transport = transport
        self._ref = ref
        self._member = member
        self._copyings = copyings
        self._changes = changes
        self._report = report
        self._disk: object = None
        """Of which life of the sandbox we know what is on its disk."""
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        is_due = True
        while not stop.is_set():
            if not is_due and not self._changes.wait(WAIT_S):
                continue
            time.sleep(SETTLE_S)
            self._changes.forget()
            try:
                self._copy()
                is_due = False
                self._trouble = ""
            except Invalid:
                raise
            except SkerryError as error:
                if isinstance(error, NotFound) and error.field is None:
                    raise  # there is no such sandbox any more
                if error.say != self._trouble:
                    self._trouble = error.say
                    self._report(Event("note", self._member, "", f"{error.say}; trying again"))
                self._disk = None
                is_due = True
                stop.wait(RETRY_S)

    def _copy(self) -> None:
        # A sandbox that was put back or made anew since has another disk than the one we know.
        now: Any = self._transport.json(sandboxes.get(self._ref))
        disk = (now["id"], now["generation"], now["started_at"])
        for copying in self._copyings:
            began = time.monotonic()
            copy = copying.further if disk == self._disk else copying.whole
            synced = copy(on_folder=self._changes.cover)
            if synced.sent or synced.removed:
                tell(self._report, self._member, synced, copying.unsettled, time.monotonic() - began)
        self._disk = disk
