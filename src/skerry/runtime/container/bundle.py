"""The folder from which crun starts a sandbox: its configuration, its root mount and the small files bound into it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from skerry.errors import Invalid, Unsupported
from skerry.model.sandbox import Mount
from skerry.runtime.container.guest_tree import GuestTree
from skerry.runtime.container.oci import GUEST_FOLDER, GUEST_POLICY, GUEST_SOCKETS, Bind, Json
from skerry.runtime.container.syscalls import RESOLVE_NO_SYMLINKS, idmapped_clone, openat2, umount
from skerry.runtime.contract import StartPlan

AT_ROOT_FD = -100


class Bundle:
    """Mounts made here are only for crun to copy: they go again when it has started the sandbox, or has failed to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rootfs = folder / "rootfs"
        self.pid_file = folder / "pid"
        self.log = folder / "log"
        self._mounts = folder / "mounts"
        self._etc = folder / "etc"

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def exists(self) -> bool:
        return self._folder.exists()

    def make(self) -> None:
        for folder in (self._folder, self.rootfs, self._mounts, self._etc):
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

    def mount_folders(self, mounts: Sequence[Mount], user_namespace_fd: int) -> list[Bind]:
        """Host folders, idmapped so that an id in the folder is the same id in the guest."""
        binds: list[Bind] = []
        for number, wanted in enumerate(mounts):
            field = f"mounts[{number}].source"
            target = self._mounts / str(number)
            try:
                # The agent has checked this very path: a link that was put into it since must not lead elsewhere.
                source_fd = openat2(AT_ROOT_FD, wanted.source, os.O_PATH, 0, RESOLVE_NO_SYMLINKS)
            except OSError as error:
                say = f"{field}: {wanted.source} cannot be opened; give its real path, without links"
                raise Invalid(say, because=str(error), field=field) from None
            try:
                if stat.S_ISDIR(os.fstat(source_fd).st_mode):
                    target.mkdir(exist_ok=True)
                else:
                    target.touch()
                source = Path(f"/proc/self/fd/{source_fd}")
                idmapped_clone(source, target, user_namespace_fd, readonly=wanted.readonly)
            except OSError as error:
                say = f"{field}: the file system of {wanted.source} cannot be shared with a sandbox"
                raise Unsupported(say, because=str(error), field=field) from None
            finally:
                os.close(source_fd)
            binds.append(Bind(target, wanted.target, wanted.readonly))
        return binds

    def unmount(self) -> None:
        umount(self.rootfs, lazy=True)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._mounts):
                umount(Path(entry.path), lazy=True)

    def remove(self) -> None:
        """Everything that is not a mount: a folder that is still mounted is never emptied."""
        self.unmount()
        if not os.path.ismount(self.rootfs) and not any(map(os.path.ismount, self._mounts.glob("*"))):
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
    hosts.append(f"{plan.slot.address or '127.0.1.1'} {plan.hostname}")
    nameserver = f"nameserver {plan.slot.nameserver}\n" if plan.slot.nameserver else ""
    return {"hostname": f"{plan.hostname}\n", "hosts": "\n".join(hosts) + "\n", "resolv.conf": nameserver}
