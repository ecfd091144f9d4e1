"""What makes a fork another computer than its parent: machine-id, host keys and random seed of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from skerry.agent.files.tree import Tree
from skerry.agent.files.upload import Upload
from skerry.agent.files.views import View, split
from skerry.errors import SkerryError

# Removed and not made anew: `ssh-keygen -A` in the fork makes them, and none is better than one that others know.
HOST_KEYS = tuple(
    f"/etc/ssh/ssh_host_{kind}_key{suffix}" for kind in ("rsa", "ecdsa", "ed25519", "dsa") for suffix in ("", ".pub")
)
SEEDS = ("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed")


class GuestIdentity:
    """Works on a disk whose sandbox does not run. The kernel's own random state is the host's and is never copied."""

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self._chance = chance

    async def renew(self, disk: Path, hostname: str) -> None:
        await asyncio.to_thread(self._renew, disk, hostname)

    def _renew(self, disk: Path, hostname: str) -> None:
        with Tree(View(disk)) as tree:
            _write(tree, "/etc/machine-id", self._chance(16).hex() + "\n", 0o444)
            _write(tree, "/etc/hostname", hostname + "\n", 0o644)
            for name in SEEDS + HOST_KEYS:
                with contextlib.suppress(SkerryError):
                    tree.remove(split(name), recursive=False)


def _write(tree: Tree, path: str, text: str, mode: int) -> None:
    # A guest that made /etc something else than a folder has no identity to renew.
    with (
        contextlib.suppress(SkerryError),
        Upload(tree, split(path), mode=mode, parents=False, bytes_max=len(text)) as upload,
    ):
        upload.write(text.encode())
        upload.commit()
