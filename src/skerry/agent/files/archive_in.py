"""Unpacking a stranger's tar stream into a guest's tree: whatever it says, it ends up below the guest's own roots."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, cast

from skerry.agent.files.openat2 import Fd, open_folder, openat2, write_all
from skerry.agent.files.speech import speaking
from skerry.agent.files.tar import Kind, Member, Reader
from skerry.agent.files.tree import Tree, make_folder
from skerry.agent.files.views import Parts, readable
from skerry.errors import Conflict, Invalid, NotFound, TooLarge
from skerry.model.amounts import format_size

MEMBERS_MAX = 1_000_000
IDS_MAX = 65_535
"""Highest uid and gid that a guest has."""
PARENTS_HELD_MAX = 64
FOLDER_TIMES_MAX = 100_000
"""Directories whose time is set at the end, after what is put in them; others keep the time of unpacking."""
READ_BYTES = 256 * 1024
WRITE_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Unpacked:
    files: int = 0
    bytes: int = 0


class Unpacker:
    """Unpacks below one directory. Stops at the first member that may not be; what came before stays."""

    def __init__(self, tree: Tree, base: Parts, *, bytes_max: int) -> None:
        self._tree = tree
        self._bytes_max = bytes_max
        self._done = Unpacked()
        with tree.ensure_folder(base) as spot:
            self._base = spot.parts
        self._parents: dict[Parts, Fd] = {}
        self._times: dict[Parts, int] = {}

    def close(self) -> None:
        for fd in self._parents.values():
            fd.close()
        self._parents.clear()

    def unpack(self, stream: BinaryIO) -> Unpacked:
        """Reads the stream to its end, also past the end of the archive, so that the sender can finish."""
        reader = Reader(cast(BinaryIO, plain(stream)))
        members = 0
        while (member := reader.next()) is not None:
            members += 1
            if members > MEMBERS_MAX:
                raise TooLarge(f"the archive has more than {MEMBERS_MAX} members")
            with speaking(f"archive member {readable(member.name)}"):
                self._member(member, reader)
        self._set_times()
        while stream.read(READ_BYTES):
            pass
        return self._done

    def _member(self, member: Member, reader: Reader) -> None:
        inside = member_parts(member.name, "name")
        if member.kind is Kind.FOLDER:
            self._folder(inside, member)
            return
        if not inside:
            raise Invalid(f"archive member {readable(member.name)!r} has no name")
        parent = self._parent(inside[:-1])
        name = inside[-1]
        if member.kind is Kind.FILE:
            self._file(parent, name, member, reader)
        elif member.kind is Kind.SYMLINK:
            self._symlink(parent, name, member)
        elif member.kind is Kind.HARD_LINK:
            self._hard_link(parent, name, member)
        else:
            raise Invalid(f"archive member {readable(member.name)} is a device or pipe; those are not unpacked")
        self._done.files += 1

    def _parent(self, inside: Parts) -> Fd:
        """The directory a member goes into; symlinks on the way lead where they lead in the guest."""
        held = self._parents.get(inside)
        if held is not None:
            return held
        if len(self._parents) >= PARENTS_HELD_MAX:
            self.close()
        with self._tree.ensure_folder(self._base + inside) as spot:
            # A descriptor of its own: whatever happens to the names, it stays in the guest's tree.
            assert spot.fd is not None
            held = self._parents[inside] = Fd(os.dup(spot.fd.fileno()))
        return held

    def _folder(self, inside: Parts, member: Member) -> None:
        if not inside:
            return  # "./": the directory we were given; its mode and owner are not the archive's business
        mode, uid, gid = _owner(member)
        parent = self._parent(inside[:-1])
        try:
            make_folder(parent, inside[-1], mode)
        except FileExistsError:
            pass  # kept with what is in it; a symlink to a directory is gone through, as with /lib on Debian
        folder = self._parent(inside)
        with open_folder(folder.fileno()) as opened:
            os.fchown(opened.fileno(), uid, gid)
            os.fchmod(opened.fileno(), mode)
        if len(self._times) < FOLDER_TIMES_MAX:
            self._times[inside] = member.modified_ns

    def _file(self, parent: Fd, name: str, member: Member, reader: Reader) -> None:
        self._done.bytes += member.size_bytes
        if self._done.bytes > self._bytes_max:
            raise TooLarge(f"the archive's files are larger than {format_size(self._bytes_max)} together")
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        folder = parent.fileno()
        try:
            number = os.open(name, flags, 0o600, dir_fd=folder)
        except FileExistsError:
            self._make_way(parent, name, member)
            number = os.open(name, flags, 0o600, dir_fd=folder)
        mode, uid, gid = _owner(member)
        with Fd(number):
            try:
                while data := reader.read(WRITE_BYTES):
                    write_all(number, data)
                os.fchown(number, uid, gid)
                os.fchmod(number, mode)
                os.utime(number, ns=(member.modified_ns, member.modified_ns))
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                raise

    def _symlink(self, parent: Fd, name: str, member: Member) -> None:
        folder = parent.fileno()
        if not member.target or "\0" in member.target:
            raise Invalid(f"archive member {readable(member.name)} is a symlink to nothing")
        try:
            os.symlink(member.target, name, dir_fd=folder)
        except FileExistsError:
            self._make_way(parent, name, member)
            os.symlink(member.target, name, dir_fd=folder)
        _, uid, gid = _owner(member)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=(member.modified_ns, member.modified_ns), dir_fd=folder, follow_symlinks=False)

    def _hard_link(self, parent: Fd, name: str, member: Member) -> None:
        inside = member_parts(member.target, "link target")
        if not inside:
            raise Invalid(f"archive member {readable(member.name)} is a hard link to nothing")
        found = self._tree.resolver.find(self._base + inside, follow=False, write=True)
        with found:
            if found.fd is None:
                link = f"{readable(member.name)} is a hard link to {readable(member.target)}"
                raise NotFound(f"archive member {link}, which does not exist")
            if found.is_folder():
                raise Invalid(f"archive member {readable(member.name)} is a hard link to a directory")
            source = found.folder().fileno()
            for _ in range(2):
                try:
                    os.link(found.name, name, src_dir_fd=source, dst_dir_fd=parent.fileno(), follow_symlinks=False)
                    return
                except FileExistsError:
                    if self._same(found.fd, parent, name):
                        return
                    self._make_way(parent, name, member)
            raise OSError(errno.EAGAIN, "the name is taken again and again")

    @staticmethod
    def _same(file: Fd, parent: Fd, name: str) -> bool:
        with openat2(parent.fileno(), name, os.O_PATH | os.O_NOFOLLOW) as there:
            return os.path.sameopenfile(file.fileno(), there.fileno())

    def _make_way(self, parent: Fd, name: str, member: Member) -> None:
        """Remove what a member replaces, as tar does; never a directory."""
        self.close_but(parent)
        try:
            os.unlink(name, dir_fd=parent.fileno())
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise Conflict(f"archive member {readable(member.name)} would replace a directory") from None

    def close_but(self, kept: Fd) -> None:
        """Forget the directories found so far, for a symlink that led to one may be what is replaced now."""
        for inside, fd in list(self._parents.items()):
            if fd is not kept:
                fd.close()
                del self._parents[inside]

    def _set_times(self) -> None:
        for inside, modified_ns in self._times.items():
            parts = self._base + inside
            try:
                with self._tree.resolver.find(parts, follow=True, write=True) as spot:
                    if spot.fd is not None and stat.S_ISDIR(spot.status().st_mode):
                        with open_folder(spot.fd.fileno()) as folder:
                            os.utime(folder.fileno(), ns=(modified_ns, modified_ns))
            except (OSError, Conflict, Invalid, NotFound):
                continue  # the guest moved it meanwhile; a time is not worth failing for


def member_parts(name: str, what: str) -> Parts:
    """The names of a member's path. Raises Invalid for one that points outside of the archive."""
    if name.startswith("/"):
        raise Invalid(f"archive member {readable(name)}: an absolute {what} is not allowed")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Invalid(f"archive member {readable(name)}: '..' in a {what} is not allowed")
    return parts


def _owner(member: Member) -> tuple[int, int, int]:
    """mode, uid, gid. An id the guest does not have becomes root, and then setuid would be root's: it goes."""
    uid, gid, mode = member.uid, member.gid, member.mode
    if uid > IDS_MAX:
        uid, mode = 0, mode & ~stat.S_ISUID
    if gid > IDS_MAX:
        gid, mode = 0, mode & ~stat.S_ISGID
    return mode, uid, gid


def plain(stream: BinaryIO) -> BufferedReader | BinaryIO:
    """The tar stream itself, unpacked from gzip if it is."""
    peek = getattr(stream, "peek", None)
    if peek is None or peek(2)[:2] != _GZIP_MAGIC:
        return stream
    return BufferedReader(_Gunzip(stream), READ_BYTES)


class _Gunzip(RawIOBase):
    """Gzip, several streams one after the other allowed, in bounded pieces however well it packs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=31)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while not self._ended:
            packed = self._inflate.unconsumed_tail or self._inflate.unused_data
            if self._inflate.eof:
                packed = self._inflate.unused_data.lstrip(b"\0") or self._stream.read(READ_BYTES).lstrip(b"\0")
                if not packed:
                    self._ended = True
                    break
                self._inflate = zlib.decompressobj(wbits=31)
            packed = packed or self._stream.read(READ_BYTES)
            if not packed:
                raise Invalid("the gzip stream is cut off")
            try:
                data = self._inflate.decompress(packed, len(view))
            except zlib.error as error:
                raise Invalid("the gzip stream is damaged", because=str(error)) from None
            if data:
                view[: len(data)] = data
                return len(data)
        return 0
