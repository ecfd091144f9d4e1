"""A `copy` step: a file or tree beside `skerry.yaml` into the sandbox, to the same place however often it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.client import copying
from skerry.client.calls import files
from skerry.environment.provision.guest import Guest, OnLine
from skerry.environment.trees.ignore import Ignore
from skerry.environment.trees.local import LocalTree, real_place
from skerry.errors import Invalid


def copy(guest: Guest, body: Mapping[str, Any], folder: Path, on_line: OnLine) -> None:
    source, target, mode = body["source"], body["target"], body.get("mode")
    place = real_place(folder, source)
    if mode is not None and place.is_dir():
        raise Invalid(f"mode is for a single file, and {source} is a folder", field="copy.mode")
    # By the name that it is given, which may be a link's: what is copied is where that leads.
    local = os.path.join(folder, source)
    kind = guest.transport.run(copying.remote_kind(guest.base, target))
    if kind == "directory" and place.is_dir() and not target.endswith("/"):
        kind = None  # `skerry cp` would put it below: there where it was put the first time it is put again
    upload = copying.plan_upload(local, target, kind)
    with LocalTree(place, Ignore(body.get("exclude") or (), field="copy.exclude")) as tree:
        data = tree.pack(
            list(tree.scan().values()),
            prefix=upload.name,
            owner=guest.ids(body.get("owner")),
            mode=None if mode is None else int(mode, 8),
            top=True,
        )
        done: Any = guest.transport.json(files.write_archive(guest.base, upload.folder, data))
    on_line(f"{done['files']} files, {done['bytes']} bytes, to {target}", "stdout")
