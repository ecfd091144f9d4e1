"""Writing one file of a guest so that everyone sees the old one or the new one, never half of it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading

from skerry.agent.files.openat2 import Fd, write_all
from skerry.agent.files.resolve import Spot
from skerry.agent.files.speech import speaking
from skerry.agent.files.tree import Tree, file_info
from skerry.agent.files.views import Parts, spell
from skerry.errors import Invalid, NotFound, TooLarge
from skerry.model.amounts import format_size
from skerry.model.file import FileInfo

NEW_FILE_MODE = 0o644
NAME_TRIES_MAX = 8


class Upload:
    """Bytes go to a file without a name; `commit` gives it its name in one step. Forgetting it leaves nothing.

    `close` may come from another thread while a write is under way: it waits for that, since closing a descriptor
    in use would let the rest of the write go to whatever file gets its number next.
    """

    def __init__(self, tree: Tree, parts: Parts, *, mode: int | None, parents: bool, bytes_max: int) -> None:
        self._parts = parts
        self._mode = mode
        self._bytes_max = bytes_max
        self._bytes = 0
        self._draft: str | None = None
        self._lock = threading.Lock()
        if not parts:
            raise Invalid("/ is a directory", field="path")
        self._spot = self._find(tree, parts, parents)
        try:
            with speaking(parts):
                self._file = self._create()
        except BaseException:
            self._spot.close()
            raise

    def _find(self, tree: Tree, parts: Parts, parents: bool) -> Spot:
        try:
            spot = tree.resolver.find(parts, follow=True, write=True)
        except NotFound:
            if not parents:
                raise
            tree.ensure_folder(parts[:-1]).close()
            spot = tree.resolver.find(parts, follow=True, write=True)
        if spot.fd is not None:
            mode = os.fstat(spot.fd.fileno()).st_mode
            if not stat.S_ISREG(mode):
                spot.close()
                what = "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device; only files can be written"
                raise Invalid(f"{spell(parts)} is {what}", field="path")
        return spot

    def _create(self) -> Fd:
        folder = self._spot.folder().fileno()
        try:
            return Fd(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        # Host folders may lie on a file system that has no nameless files (NFS).
        self._draft = _draft_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        return Fd(os.open(self._draft, flags, 0o600, dir_fd=folder))

    def write(self, data: bytes | bytearray) -> None:
        self._bytes += len(data)
        if self._bytes > self._bytes_max:
            raise TooLarge(f"the file is larger than {format_size(self._bytes_max)}, the most one upload may have")
        with self._lock, speaking(self._parts):
            write_all(self._file.fileno(), data)

    def commit(self) -> FileInfo:
        with self._lock, speaking(self._parts):
            self._dress()
            folder, name = self._spot.folder().fileno(), self._spot.name
            if self._draft is None:
                self._draft = self._link(folder, name)
            if self._draft != name:
                os.rename(self._draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._draft = None
            return file_info(self._parts, os.fstat(self._file.fileno()))

    def _dress(self) -> None:
        """Owner and mode: those of the file it replaces, else root's; setuid only if it was asked for by name."""
        old = None if self._spot.fd is None else os.fstat(self._spot.fd.fileno())
        uid, gid = (0, 0) if old is None else (old.st_uid, old.st_gid)
        mode = NEW_FILE_MODE if old is None else stat.S_IMODE(old.st_mode) & 0o777
        os.fchown(self._file.fileno(), uid, gid)
        os.fchmod(self._file.fileno(), mode if self._mode is None else self._mode)

    def _link(self, folder: int, name: str) -> str:
        """Give the nameless file its name, or a draft name where that is taken; a link cannot replace, a rename can."""
        path = f"/proc/self/fd/{self._file.fileno()}"
        candidates = [name] if self._spot.fd is None else []
        for candidate in (*candidates, *(_draft_name() for _ in range(NAME_TRIES_MAX))):
            try:
                os.link(path, candidate, dst_dir_fd=folder, follow_symlinks=True)
                return candidate
            except FileExistsError:
                continue
        raise OSError(errno.EAGAIN, "no free name for a draft")

    def close(self) -> None:
        with self._lock:
            if self._draft is not None:
                try:
                    os.unlink(self._draft, dir_fd=self._spot.folder().fileno())
                except OSError:
                    pass  # the guest removed it, or its folder
                self._draft = None
            self._file.close()
            self._spot.close()

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _draft_name() -> str:
    return f".skerry-{secrets.token_hex(8)}"
