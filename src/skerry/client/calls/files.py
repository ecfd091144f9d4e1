"""Calls about files, of a sandbox as it is now or of one of its checkpoints (read only)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, Data

if TYPE_CHECKING:
    from skerry.model.file import FileInfo, FileList

BYTES = "application/octet-stream"
TAR = "application/x-tar"
STEP_S = 600.0
"""Longest silence while bytes move: the far side may be flushing gigabytes."""


# `base` is the path of a sandbox (sandboxes.path) or of a checkpoint (checkpoints.path).
def read(base: str, path: str, *, wake: bool = True) -> Call[Any]:
    """`wake` False: as it lies on the disk, without waking a sandbox that sleeps; not of a checkpoint."""
    query = {"path": path, "wake": None if wake else False}
    return Call("GET", f"{base}/files", query=query, accept=BYTES, reply_s=STEP_S)


def write(base: str, path: str, data: Data, *, mode: str | None = None, parents: bool = True) -> Call[FileInfo]:
    query = {"path": path, "mode": mode, "parents": parents}
    return Call("PUT", f"{base}/files", parse.file_info, query=query, data=data, reply_s=STEP_S)


def remove(base: str, path: str, recursive: bool = False) -> Call[Any]:
    query = {"path": path, "recursive": recursive}
    return Call("DELETE", f"{base}/files", parse.anything, query=query, reply_s=STEP_S)


def list_all(base: str, path: str, depth: int = 1) -> Call[FileList]:
    return Call("GET", f"{base}/files/list", parse.file_list, query={"path": path, "depth": depth})


def stat(base: str, path: str) -> Call[FileInfo]:
    return Call("GET", f"{base}/files/stat", parse.file_info, query={"path": path})


def mkdir(base: str, path: str, *, parents: bool = True, mode: str = "0755") -> Call[FileInfo]:
    body = {"path": path, "parents": parents, "mode": mode}
    return Call("POST", f"{base}/files/mkdir", parse.file_info, body=body)


def rename(base: str, source: str, target: str) -> Call[FileInfo]:
    return Call("POST", f"{base}/files/rename", parse.file_info, body={"source": source, "target": target})


def read_archive(base: str, path: str) -> Call[Any]:
    return Call("GET", f"{base}/files/archive", query={"path": path}, accept=TAR, reply_s=STEP_S)


def write_archive(base: str, path: str, data: Data, *, parents: bool = True) -> Call[Any]:
    """Extracts the tar `data` below the folder `path`; answers {"files", "bytes"}."""
    query = {"path": path, "parents": parents}
    return Call("PUT", f"{base}/files/archive", parse.anything, query=query, data=data, reply_s=STEP_S)


def watch(base: str, path: str, recursive: bool = False) -> Call[Any]:
    """Lines: {"kind": "ready"} first, then one FileEvent each."""
    query = {"path": path, "recursive": recursive}
    return Call("GET", f"{base}/files/watch", parse.file_event, query=query, reply_s=None)
