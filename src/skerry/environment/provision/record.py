"""What ran on a disk, kept on that disk: so that after a restore, a reset or in a fork it is true by itself.

A guest can write there what it likes. That has its own steps run again or left out, and harms nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from skerry.client.calls import files, sandboxes
from skerry.client.transport import Transport
from skerry.errors import Conflict, NotFound, SkerryError

FOLDER = "/var/lib/skerry"
PATH = f"{FOLDER}/provisioned.json"
VERSION = 1
BYTES_MAX = 256 * 1024
NAMES_MAX = 256
"""Steps and folders, of each; a file has at most 64 and 16, and may change."""


class Record:
    def __init__(
        self, body: Mapping[str, Any] | None = None, *, fresh: bool = True, damaged: str | None = None
    ) -> None:
        body = body or {}
        self.fresh = fresh
        """There was none on this disk."""
        self.damaged = damaged
        """One sentence, where there was one that cannot be read."""
        self.done: dict[str, str] = _texts(body.get("steps"), "digest")
        """Step -> digest of what ran."""
        self.folders: dict[str, str] = _texts(body.get("folders"), "at")
        """Where in the sandbox a snapshot of a folder was put -> when."""
        failed = body.get("failed")
        self.failed: str | None = failed[:100] if isinstance(failed, str) else None
        self._at: dict[str, str] = _texts(body.get("steps"), "at")

    def step_done(self, name: str, digest: str) -> None:
        self.done[name] = digest
        self._at[name] = _now()
        self.failed = None

    def folder_done(self, target: str) -> None:
        self.folders[target] = _now()

    def text(self) -> str:
        steps = {name: {"digest": digest, "at": self._at.get(name, "")} for name, digest in self.done.items()}
        folders = {target: {"at": at} for target, at in self.folders.items()}
        body = {"version": VERSION, "steps": steps, "folders": folders, "failed": self.failed}
        return json.dumps(body, indent=1, ensure_ascii=True) + "\n"


def parse(data: bytes) -> Record:
    """Whatever the bytes are. Raises Conflict for what a newer Skerry wrote."""
    if len(data) > BYTES_MAX:
        return Record(fresh=False, damaged=f"{PATH} is larger than {BYTES_MAX} bytes: its steps count as never run")
    try:
        body: Any = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("version"), int):  # pyright: ignore[reportUnknownMemberType]
        return Record(fresh=False, damaged=f"{PATH} is not what Skerry wrote: its steps count as never run")
    fields: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
    if fields["version"] > VERSION:
        raise Conflict(f"{PATH} was written by a newer Skerry: use that one, or remove the file to run all steps again")
    return Record(fields, fresh=False)


def read(transport: Transport, ref: str, *, wake: bool = True) -> Record:
    try:
        with transport.stream(files.read(sandboxes.path(ref), PATH, wake=wake)) as stream:
            data = bytearray()
            while len(data) <= BYTES_MAX and (chunk := stream.read_some()):
                data += chunk
    except NotFound as error:
        if error.field != "path":
            raise  # it is the sandbox that is not there
        return Record()
    except SkerryError as error:
        if error.field != "path":
            raise
        return Record(fresh=False, damaged=f"{PATH} cannot be read: {error.say}")
    return parse(bytes(data))


def write(transport: Transport, ref: str, record: Record) -> None:
    """Whole or not at all, and root's alone."""
    call = files.write(sandboxes.path(ref), PATH, record.text().encode(), mode="0600")
    transport.json(call)
    record.fresh = False


def _texts(value: object, key: str) -> dict[str, str]:
    """{name: {key: text}} as far as it is that."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        items: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        for name, fields in list(items.items())[:NAMES_MAX]:
            text = fields.get(key) if isinstance(fields, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            if isinstance(name, str) and len(name) <= 4096 and isinstance(text, str):
                found[name] = text[:100]
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
