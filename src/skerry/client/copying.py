"""Where a copied file or tree goes, by the rules of `docker cp`; with packing and unpacking, all that copying needs."""

from __future__ import annotations

import os
import posixpath
from typing import Any, NamedTuple

from skerry.client.calls import files as calls
from skerry.client.flows import Flow
from skerry.client.pack import pack
from skerry.client.unpack import Unpacked, download_place, unpack
from skerry.errors import Conflict, Invalid, NotFound, SkerryError

__all__ = [
    "Unpacked",
    "Upload",
    "archive_path",
    "download_place",
    "followed",
    "pack",
    "plan_upload",
    "remote_kind",
    "unpack",
]

LINKS_MAX = 16


class Upload(NamedTuple):
    folder: str
    """Where the archive is extracted."""
    name: str
    """Of its top entry; "" where the content of the local folder goes straight into `folder`."""


def archive_path(remote: str) -> str:
    """SOURCE/. means the content of SOURCE; the archive is the same, only its place differs."""
    path = remote.removesuffix("/.").rstrip("/")
    return path or "/"


def remote_kind(base: str, path: str) -> Flow[str | None]:
    """file, directory, … of what stands at `path`, through links; None where there is nothing."""
    try:
        reply = yield calls.stat(base, path.rstrip("/") or "/")
    except NotFound:
        return None
    if reply.body["kind"] != "symlink":
        return reply.body["kind"]
    try:
        yield calls.list_all(base, path)
    except SkerryError:
        return "file"
    return "directory"


def followed(base: str, path: str) -> Flow[str]:
    """`path` with a link as its last part replaced by what it points to."""
    for _ in range(LINKS_MAX):
        reply = yield calls.stat(base, path)
        body: Any = reply.body
        if body["kind"] != "symlink":
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), body["target"]))
    raise Invalid(f"{path}: too many links lead to each other")


def plan_upload(local: str, remote: str, kind: str | None) -> Upload:
    """`kind` is what stands at `remote` now."""
    if not remote.startswith("/"):
        raise Invalid(f"{remote!r}: a path in a sandbox starts with /")
    is_folder = os.path.isdir(local)
    if is_folder and kind not in (None, "directory"):
        raise Conflict(f"{remote} is a file; a folder cannot be copied over it")
    if local.endswith("/.") and is_folder:
        return Upload(remote, "")
    name = os.path.basename(os.path.abspath(local)) or "root"
    if kind == "directory" or remote.endswith("/"):
        return Upload(remote.rstrip("/") or "/", name)
    return Upload(posixpath.dirname(remote) or "/", posixpath.basename(remote))
