"""`sync: rsync` and `sync: snapshot`: a folder beside the file copied into its sandbox, one way, what differs only."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from skerry.client.calls import files, images, sandboxes
from skerry.client.transport import Transport
from skerry.environment.provision import record
from skerry.environment.provision.events import Event, Report
from skerry.environment.provision.guest import Guest, Ids
from skerry.environment.trees import guest as guest_trees
from skerry.environment.trees.entry import Entry, difference
from skerry.environment.trees.ignore import Ignore
from skerry.environment.trees.local import LocalTree, OnFolder, real_place
from skerry.errors import Invalid, NotFound

ROUNDS_MAX = 3
"""Times a file is sent that changes while it is read."""
REMOVERS = 4
"""Requests at one time that remove what is gone."""


class Synced(NamedTuple):
    target: str
    sent: int
    removed: int
    bytes: int


def sync(
    transport: Transport, ref: str, member: str, machine: Mapping[str, Any], folder: Path, report: Report
) -> list[Synced]:
    """Every folder of `machine` that is copied. A snapshot only where this disk has none yet."""
    done: list[Synced] = []
    kept: record.Record | None = None
    for each in copied_folders(machine):
        target: str = each["target"]
        is_snapshot = each["sync"] == "snapshot"
        if is_snapshot:
            kept = kept or record.read(transport, ref)
            if target in kept.folders:
                continue
        began = time.monotonic()
        with Copying(transport, ref, machine, each, folder) as copying:
            synced = copying.whole()
            tell(report, member, synced, copying.unsettled, time.monotonic() - began)
        if is_snapshot and kept is not None:
            kept.folder_done(target)
            record.write(transport, ref, kept)
        done.append(synced)
    return done


def copied_folders(machine: Mapping[str, Any], *ways: str) -> list[dict[str, Any]]:
    return [each for each in machine.get("folders") or () if each["sync"] in (ways or ("rsync", "snapshot"))]


def tell(report: Report, member: str, synced: Synced, unsettled: Sequence[Entry], seconds: float) -> None:
    said = f"{synced.sent} sent, {synced.removed} removed, {synced.bytes} bytes"
    report(Event("ended", member, synced.target, said, seconds=seconds))
    for entry in unsettled:
        report(Event("note", member, synced.target, f"{entry.name} changed all the while it was copied"))


class Copying:
    """One folder on its way into one sandbox. Close it, or leave its `with` block."""

    def __init__(
        self, transport: Transport, ref: str, machine: Mapping[str, Any], each: Mapping[str, Any], folder: Path
    ) -> None:
        self.target = posixpath.normpath(each["target"])
        if self.target == "/":
            raise Invalid("a folder is not copied over the whole disk", field="folders.target")
        place = real_place(folder, each["source"])
        if not place.is_dir():
            raise Invalid(f"{each['source']} is not a folder", field="folders.source")
        self.unsettled: list[Entry] = []
        """Files that changed each time they were read."""
        self._guest = Guest(transport, ref)
        self._user: str | None = machine.get("user")
        self._owner: Ids | None = None
        self._ignore = Ignore(each.get("exclude") or (), field="folders.exclude")
        self._tree = LocalTree(place, self._ignore)
        self._sent: dict[str, Entry] | None = None
        """What is there, as far as we made it so; None: unknown."""

    def __enter__(self) -> Copying:
        return self

    def __exit__(self, *_: object) -> None:
        self._tree.__exit__()

    def whole(self, *, on_folder: OnFolder | None = None) -> Synced:
        """Compare with what is in the sandbox, and make that as it is here."""
        here = self._tree.scan(on_folder=on_folder)
        guest = self._guest
        found = guest_trees.look(guest.transport, guest.base, self.target, self._ignore, expected=len(here))
        there = found or guest_trees.GuestTree({}, [])
        return self._make(here, there.entries, there.ignored, top=found is None)

    def further(self, *, on_folder: OnFolder | None = None) -> Synced:
        """The same, trusting that what we sent is there still: for watching, where most is as it was."""
        if self._sent is None:
            return self.whole(on_folder=on_folder)
        before = self._sent
        here = self._tree.scan(on_folder=on_folder)
        gone = [name for name in before if name not in here]
        if any(before[name].kind == "directory" for name in gone):
            return self.whole(on_folder=on_folder)  # there may be something in it that is not ours to remove
        return self._make(here, before, [], top=False)

    def _make(self, here: Mapping[str, Entry], there: Mapping[str, Entry], ignored: list[str], *, top: bool) -> Synced:
        self._sent = None
        wanted = difference(here, there, ignored)
        self._remove(wanted.remove)
        sent = size_bytes = 0
        sending = [here[name] for name in wanted.send]
        for _ in range(ROUNDS_MAX):
            if not sending and not top:
                break
            self.unsettled = []
            size_bytes += self._send(sending, top=top)
            sent += len(sending)
            sending, top = list(self.unsettled), False
        # One that changed meanwhile has another time now than we saw, so the next look sends it.
        self._sent = dict(here)
        return Synced(self.target, sent, len(wanted.remove), size_bytes)

    def _send(self, entries: list[Entry], *, top: bool) -> int:
        if self._owner is None:
            self._owner = self._guest.ids(self._user or self._image_user())
        above, name = posixpath.split(self.target)
        data = self._tree.pack(entries, prefix=name, owner=self._owner, top=top, changed=self.unsettled)
        answer: Any = self._guest.transport.json(files.write_archive(self._guest.base, above, data))
        return int(answer["bytes"])

    def _image_user(self) -> str | None:
        """Whom the image names, where the sandbox names nobody."""
        record: Any = self._guest.transport.json(sandboxes.get(self._guest.ref))
        try:
            image: Any = self._guest.transport.json(images.get(record["spec"]["image"]))
        except NotFound:
            return None  # deleted since
        return image["config"]["user"] if image.get("config") else None

    def _remove(self, names: list[str]) -> None:
        if not names:
            return

        def remove(name: str) -> None:
            with suppress(NotFound):
                self._guest.transport.json(files.remove(self._guest.base, f"{self.target}/{name}", recursive=True))

        with ThreadPoolExecutor(REMOVERS) as pool:
            for _ in pool.map(remove, names):
                pass
