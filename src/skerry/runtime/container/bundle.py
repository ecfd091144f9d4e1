"""The folder from which crun starts a sandbox: its configuration, its root mount and the small files bound into it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from skerry.errors import Invalid, Unsupported
from skerry.runtime.container.guest_tree import IDS_MAX, GuestTree
from skerry.runtime.container.oci import GUEST_FOLDER, GUEST_POLICY, GUEST_SOCKETS, Bind, Device, Identity, Json
from skerry.runtime.container.syscalls import RESOLVE_NO_SYMLINKS, idmapped_clone, mount_in_memory, openat2, umount
from skerry.runtime.container.user_namespaces import open_mapped, owner_is
from skerry.runtime.contract import HostMount, StartPlan

AT_ROOT_FD = -100
PAGE_BYTES = 4096
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class FolderIds:
    """By which user namespace a folder of the host is shown to one sandbox. Those made here are closed with it: the
    mounts hold what they need."""

    def __init__(self, own: int, who: Identity, base: int) -> None:
        """`own`: the sandbox's, whose ids are from `base` on; `who`: its user."""
        self.own = own
        self._who = who
        self._base = base
        self._made: dict[tuple[int, int], int] = {}

    async def namespace(self, folder: os.stat_result) -> int:
        """One in which the folder's owner and group are the sandbox's user and its group."""
        owner = (folder.st_uid, folder.st_gid)
        if owner == (self._who.uid, self._who.gid):
            return self.own
        if owner not in self._made:
            uids = owner_is(owner[0], self._who.uid, base=self._base, count=IDS_MAX)
            gids = owner_is(owner[1], self._who.gid, base=self._base, count=IDS_MAX)
            self._made[owner] = await asyncio.to_thread(open_mapped, uids, gids)
        return self._made[owner]

    def close(self) -> None:
        for fd in self._made.values():
            os.close(fd)
        self._made.clear()


class Bundle:
    """Mounts made here are only for crun to copy: they go again when it has started the sandbox, or has failed to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rootfs = folder / "rootfs"
        self.pid_file = folder / "pid"
        self.log = folder / "log"
        self._mounts = folder / "mounts"
        self._etc = folder / "etc"
        self._secrets = folder / "secrets"

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def exists(self) -> bool:
        return self._folder.exists()

    def make(self) -> None:
        for folder in (self._folder, self.rootfs, self._mounts, self._etc, self._secrets):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        self.pid_file.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)

    def write_config(self, config: Json) -> None:
        write_private(self._folder / "config.json", json.dumps(config))

    def pid(self) -> int | None:
        try:
            return int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    # Mounts

    def mount_disk(self, disk: Path, user_namespace_fd: int) -> None:
        idmapped_clone(disk, self.rootfs, user_namespace_fd)

    async def mount_folders(self, mounts: Sequence[HostMount], ids: FolderIds) -> list[Bind]:
        """Host folders and volumes, idmapped so that an id there is the same id in the guest, but for the owner's."""
        binds: list[Bind] = []
        for number, wanted in enumerate(mounts):
            field = f"mounts[{number}].source"
            target = self._mounts / str(number)
            try:
                # The agent has checked this very path: a link that was put into it since must not lead elsewhere.
                source_fd = openat2(AT_ROOT_FD, str(wanted.source), os.O_PATH, 0, RESOLVE_NO_SYMLINKS)
            except OSError as error:
                say = f"{field}: {wanted.source} cannot be opened; give its real path, without links"
                raise Invalid(say, because=str(error), field=field) from None
            try:
                found = os.fstat(source_fd)
                if stat.S_ISDIR(found.st_mode):
                    target.mkdir(exist_ok=True)
                else:
                    target.touch()
                source = Path(f"/proc/self/fd/{source_fd}")
                namespace_fd = await ids.namespace(found) if wanted.owner else ids.own
                idmapped_clone(source, target, namespace_fd, readonly=wanted.readonly)
            except OSError as error:
                say = f"{field}: the file system of {wanted.source} cannot be shared with a sandbox"
                raise Unsupported(say, because=str(error), field=field) from None
            finally:
                os.close(source_fd)
            binds.append(Bind(target, wanted.target, wanted.readonly))
        return binds

    def devices(self, wanted: Sequence[Path]) -> list[tuple[Bind, Device]]:
        """Those of the host, at their own paths; raises Invalid for one that is gone since the agent looked."""
        found: list[tuple[Bind, Device]] = []
        for path in wanted:
            try:
                at = path.stat()
            except OSError as error:
                raise Invalid(f"gpu: this machine has lost {path}", because=str(error), field="gpu") from None
            if not stat.S_ISCHR(at.st_mode):
                raise Invalid(f"gpu: {path} of this machine is no character device (accelerators)", field="gpu")
            device = Device(os.major(at.st_rdev), os.minor(at.st_rdev))
            found.append((Bind(path.resolve(), str(path), readonly=False, noexec=True, device=True), device))
        return found

    def mount_secrets(self, plan: StartPlan, tree: GuestTree) -> list[Bind]:
        """Each from a file system in memory, which lives as long as the sandbox shows a file of it."""
        if not plan.secret_files:
            return []
        size = f"size={sum(PAGE_BYTES + len(file.value) for file in plan.secret_files)}"
        options = f"mode=0711,{size},nr_inodes={len(plan.secret_files) + 1}"
        mount_in_memory(self._secrets, options)
        binds: list[Bind] = []
        for number, wanted in enumerate(plan.secret_files):
            tree.have_file(wanted.path, f"{wanted.field}.file")
            who = tree.identity(wanted.user, field=f"{wanted.field}.user")
            source = self._secrets / str(number)
            with contextlib.closing(os.fdopen(os.open(source, _NEW_FILE, 0o600), "wb")) as file:
                file.write(wanted.value)
                os.fchown(file.fileno(), plan.slot.uid_base + who.uid, plan.slot.uid_base + who.gid)
                os.fchmod(file.fileno(), wanted.mode)
            binds.append(Bind(source, wanted.path, readonly=True, noexec=True))
        return binds

    def unmount(self) -> None:
        umount(self.rootfs, lazy=True)
        umount(self._secrets, lazy=True)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._mounts):
                umount(Path(entry.path), lazy=True)

    def remove(self) -> None:
        """Everything that is not a mount: a folder that is still mounted is never emptied."""
        self.unmount()
        if not any(map(os.path.ismount, (self.rootfs, self._secrets, *self._mounts.glob("*")))):
            shutil.rmtree(self._folder, ignore_errors=True)

    # Small files

    def system_binds(self, plan: StartPlan, tree: GuestTree, guest_folder: Path) -> list[Bind]:
        """Our own folder, and the files that name the machine. Read-only, since what a guest writes there would not
        count towards its disk; left out where the guest has made something else than a file by that name."""
        binds = [Bind(guest_folder, GUEST_FOLDER, readonly=True)]
        if plan.guest_socket_folder is not None:
            binds.append(Bind(plan.guest_socket_folder, GUEST_SOCKETS, readonly=False))
        if plan.guest_policy_folder is not None:
            binds.append(Bind(plan.guest_policy_folder, GUEST_POLICY, readonly=True))
        for name, text in _etc(plan).items():
            target = f"/etc/{name}"
            if tree.takes_file(target):
                source = self._etc / name
                source.write_text(text)
                source.chmod(0o644)
                binds.append(Bind(source, target, readonly=True))
        return binds


def write_private(path: Path, text: str) -> None:
    """For what may hold secrets, such as an environment."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)


def _etc(plan: StartPlan) -> dict[str, str]:
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    hosts.append(f"{plan.address or plan.slot.address or '127.0.1.1'} {plan.hostname}")
    nameserver = f"nameserver {plan.slot.nameserver}\n" if plan.slot.nameserver else ""
    return {"hostname": f"{plan.hostname}\n", "hosts": "\n".join(hosts) + "\n", "resolv.conf": nameserver}
