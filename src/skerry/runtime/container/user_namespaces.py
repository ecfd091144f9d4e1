"""User namespaces that map ids as we say, each made by a child that is there only until somebody holds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from skerry.errors import Failed

Extents = tuple[tuple[int, int, int], ...]
"""(id inside, id on the host, how many) each. For an idmapped mount inside is what is on the disk."""

_READY = b"ready\n"
# Made by a child, since only a process with one thread may enter a new user namespace. It waits for the end of its
# input, so it cannot outlive this process.
_COMMAND = ("--", "/bin/sh", "-c", "echo ready; read wait")
_SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"


class NamespaceChild:
    """A process in fresh namespaces: a user namespace, and those of the further `kinds`, which that one owns."""

    def __init__(self, kinds: Sequence[str] = ()) -> None:
        stdin, self._hold = os.pipe2(os.O_CLOEXEC)
        self._said, stdout = os.pipe2(os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stdout, 2)]
        command = ("unshare", "--user", *kinds, *_COMMAND)
        try:
            self.pid = os.posix_spawnp(command[0], command, {"PATH": _SEARCH}, file_actions=actions)
        except OSError as error:
            self._close()
            say = "unshare could not be started: run `apt-get install util-linux`"
            raise Failed(say, because=str(error)) from None
        finally:
            os.close(stdin)
            os.close(stdout)

    def wait_until_ready(self) -> None:
        said = os.read(self._said, 4096)
        if said != _READY:
            say = "namespaces could not be made: see `sysctl user.max_user_namespaces user.max_net_namespaces`"
            raise Failed(say, because=said.decode(errors="replace").strip())

    def map_ids(self, uids: Extents, gids: Extents) -> None:
        for file, extents in (("uid_map", uids), ("gid_map", gids)):
            Path(f"/proc/{self.pid}/{file}").write_text("".join(f"{a} {b} {count}\n" for a, b, count in extents))

    def end(self) -> None:
        self._close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # whoever reaps orphans in this process was quicker

    def _close(self) -> None:
        os.close(self._hold)
        os.close(self._said)


def open_mapped(uids: Extents, gids: Extents) -> int:
    """A descriptor that holds a user namespace of this mapping."""
    child = NamespaceChild()
    try:
        child.wait_until_ready()
        child.map_ids(uids, gids)
        return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        child.end()


def owner_is(owner: int, guest: int, *, base: int, count: int) -> Extents:
    """`owner` on the disk is `guest` in the sandbox whose ids begin at `base`. Every other id is itself, but the one
    that is `guest` on the disk: it takes the owner's place, or has none where that is beyond what a sandbox has."""
    moved = {owner: guest, **({guest: owner} if owner < count else {})}
    extents: list[tuple[int, int, int]] = []
    first = 0
    for disk in sorted({owner, guest}):
        if first < min(disk, count):
            extents.append((first, base + first, min(disk, count) - first))
        if disk in moved:
            extents.append((disk, base + moved[disk], 1))
        first = disk + 1
    if first < count:
        extents.append((first, base + first, count - first))
    return tuple(extents)
