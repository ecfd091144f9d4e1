"""A guest's file or tree as a tar stream, read while the guest goes on changing it."""

from __future__ import annotations

import errno
import os
import stat

from skerry.agent.files.openat2 import Fd, open_folder, open_regular, read_at_most, write_all
from skerry.agent.files.resolve import Spot
from skerry.agent.files.tar import END, Kind, Member, header, padding

BUFFER_BYTES = 256 * 1024
"""Headers and small files are gathered to this much before they are written."""
WHOLE_BYTES_MAX = 64 * 1024
"""Files up to this size pass through the buffer; larger ones go from the page cache to the pipe by sendfile(2)."""
SENDFILE_BYTES = 1024 * 1024
HARD_LINKS_MAX = 200_000
"""Files with several names that are remembered; past this a further name is archived as a file of its own."""
WAITING_FOLDERS_MAX = 1_000_000
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_ZEROS = bytes(BUFFER_BYTES)


class Packer:
    """Writes to a descriptor, blocking. Sockets, pipes and devices are left out; so are extended attributes."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._buffer = bytearray()
        self._names: dict[tuple[int, int], str] = {}

    def pack(self, spot: Spot, name: str) -> None:
        """The thing at `spot`, with `name` as the first part of every member's name."""
        status = spot.status()
        if spot.fd is not None and stat.S_ISDIR(status.st_mode):
            with open_folder(spot.fd.fileno()) as top:
                self._tree(top, name)
        elif spot.parent is not None:
            self._entry(spot.parent.fileno(), spot.name, name, status)
        self._buffer += END
        self._flush()

    def _tree(self, top: Fd, top_name: str) -> None:
        """A directory goes right before what is in it: GNU tar sets its time as soon as something else follows."""
        waiting = [""]
        while waiting:
            path = waiting.pop()
            try:
                folder = open_folder(top.fileno(), path or ".")
            except OSError as error:
                if path and error.errno in _GONE:
                    continue  # the guest removed it since it was listed
                raise
            name = f"{top_name}/{path}" if path else top_name
            with folder:
                self._add(Member(name, Kind.FOLDER, *_owner(os.fstat(folder.fileno()))))
                waiting.extend(f"{path}/{below}" if path else below for below in self._entries(folder.fileno(), name))
            if len(waiting) > WAITING_FOLDERS_MAX:
                raise OSError(errno.EMLINK, "too many directories in one archive")

    def _entries(self, folder: int, name: str) -> list[str]:
        """Add what is in a directory but for its sub-directories, which it returns."""
        below: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        below.append(entry.name)
                    else:
                        self._entry(folder, entry.name, f"{name}/{entry.name}", status)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
        return below

    def _entry(self, folder: int, entry: str, name: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._regular(folder, entry, name, status)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry, dir_fd=folder)
            self._add(Member(name, Kind.SYMLINK, *_owner(status), target=target))

    def _regular(self, folder: int, entry: str, name: str, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        first = self._names.get(key) if status.st_nlink > 1 else None
        if first is not None:
            mode, uid, gid, _, modified_ns = _owner(status)
            self._add(Member(name, Kind.HARD_LINK, mode, uid, gid, 0, modified_ns, first))
            return
        file = open_regular(folder, entry)
        if file is None:
            return
        with file:
            self._file(file.fileno(), name)
        if status.st_nlink > 1 and len(self._names) < HARD_LINKS_MAX:
            self._names[key] = name

    def _file(self, file: int, name: str) -> None:
        """Exactly as many bytes as the header says: what the guest appends is left out, what it cuts off is zeros."""
        status = os.fstat(file)
        self._add(Member(name, Kind.FILE, *_owner(status)))
        left = status.st_size
        if left <= WHOLE_BYTES_MAX:
            data = read_at_most(file, left) if left else b""
            self._buffer += data
            left -= len(data)
        else:
            self._flush()
            while left and (sent := os.sendfile(self._out, file, None, min(left, SENDFILE_BYTES))):
                left -= sent
        left += padding(status.st_size)
        while left:
            self._buffer += _ZEROS[: min(left, len(_ZEROS))]
            left -= min(left, len(_ZEROS))
            self._flush_if_full()

    def _add(self, member: Member) -> None:
        self._buffer += header(member)
        self._flush_if_full()

    def _flush_if_full(self) -> None:
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        write_all(self._out, self._buffer)
        self._buffer = bytearray()


def _owner(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """mode, uid, gid, size and time as Member takes them."""
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, size, status.st_mtime_ns
