"""Make the folders in volumes that an order names, before its sandbox starts: the image need not be able to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath

from skerry.errors import Failed
from skerry.model.order import Order
from skerry.runtime.contract import HostMount

MODE = 0o777
"""Whoever the sandbox's user is, it may write there; who shares the volume could in any case."""


def make_folders(order: Order, mounts: list[HostMount]) -> None:
    """Raises Failed where one cannot be made."""
    for folder in order.folders:
        path = PurePosixPath(folder)
        for number, mount in enumerate(mounts):
            if order.spec.mounts[number].volume is not None and path.is_relative_to(mount.target):
                _make(mount.source, path.relative_to(mount.target))


def _make(root: Path, path: PurePosixPath) -> None:
    """No link is followed: whoever has the volume could have put one there."""
    try:
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in path.parts:
                made = False
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, MODE, dir_fd=here)
                    made = True
                there = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = there
                if made:
                    os.fchmod(here, MODE)
        finally:
            os.close(here)
    except OSError as error:
        raise Failed(f"the folder {path} could not be made in its volume: {error.strerror}") from None
