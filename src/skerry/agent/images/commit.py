"""A sandbox's disk as an image: a frozen copy that shares its blocks, without what makes that one computer itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from skerry.agent.commands import run
from skerry.agent.images.layout import LAYER, config_document, digest_of, manifest_document
from skerry.agent.images.progress import Progress, Step
from skerry.agent.images.tool_errors import from_local
from skerry.agent.images.tree_tar import tar_of_tree
from skerry.model.image import ImageConfig

REPORT_BYTES = 32 * 1024 * 1024
_EXCLUDED = ("etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh/ssh_host_*", "var/lib/systemd/random-seed")


async def digest_of_tree(tree: Path, config: ImageConfig, environment: Mapping[str, str], progress: Progress) -> str:
    """Of the canonical manifest over the tree's tar without identity; the tar itself is never stored."""
    content = hashlib.sha256()
    size_bytes = reported_bytes = 0
    async with aclosing(tar_of_tree(tree, environment, exclude=_EXCLUDED)) as chunks:
        async for chunk in chunks:
            await asyncio.to_thread(content.update, chunk)
            size_bytes += len(chunk)
            if size_bytes - reported_bytes > REPORT_BYTES:
                reported_bytes = size_bytes
                progress(Step.RESOLVE, size_bytes, None)
    layer = f"sha256:{content.hexdigest()}"
    config_raw = config_document(config, [layer])
    return digest_of(manifest_document(digest_of(config_raw), len(config_raw), [(LAYER, layer, size_bytes)]))


async def copy_tree(source: Path, target: Path, environment: Mapping[str, str]) -> None:
    """Everything but identity, into an empty folder; blocks are shared where the file system can."""
    ran = await run(["cp", "-a", "--reflink=auto", f"{source}/.", str(target)], environment=environment)
    if ran.code != 0:
        raise from_local(ran.stderr, "the sandbox's disk cannot be copied")
    forget_identity(target)


def forget_identity(tree: Path) -> None:
    """Empty machine-id, no host keys, no seed. The guest may have put a symlink anywhere: none is followed."""
    for path in _EXCLUDED:
        *parents, pattern = path.split("/")
        folder = _open_folder(tree, parents)
        if folder is None:
            continue
        try:
            _forget(folder, pattern, keep_empty=path == "etc/machine-id")
        finally:
            os.close(folder)


def _open_folder(tree: Path, names: Sequence[str]) -> int | None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(tree, flags)
    for name in names:
        try:
            below = os.open(name, flags, dir_fd=folder)
        except OSError:  # absent, a symlink or no folder: there is no identity of ours to forget
            return None
        finally:
            os.close(folder)
        folder = below
    return folder


def _forget(folder: int, pattern: str, *, keep_empty: bool) -> None:
    prefix, star, _ = pattern.partition("*")
    for name in [name for name in os.listdir(folder) if (name.startswith(prefix) if star else name == prefix)]:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            continue
        os.unlink(name, dir_fd=folder)
        if keep_empty:
            with suppress(OSError):
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444, dir_fd=folder))
