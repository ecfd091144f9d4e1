"""A few whole files on a disk, for the agent's own use on trees that are just as hostile as those of the files API."""

from __future__ import annotations

from pathlib import Path

from skerry.agent.files.openat2 import read_at_most
from skerry.agent.files.tree import Tree
from skerry.agent.files.upload import Upload
from skerry.agent.files.views import View, parse_path
from skerry.errors import TooLarge


class Disk:
    """Symlinks are followed as in the guest; an error is one of ours and names the path."""

    def __init__(self, root: Path) -> None:
        self._tree = Tree(View(root))

    def close(self) -> None:
        self._tree.close()

    def read_bytes(self, path: str, *, bytes_max: int) -> bytes:
        fd, _ = self._tree.open_file(parse_path(path))
        with fd:
            data = read_at_most(fd.fileno(), bytes_max + 1)
        if len(data) > bytes_max:
            raise TooLarge(f"{path} is larger than {bytes_max} bytes")
        return data

    def write_bytes(self, path: str, data: bytes, *, mode: int) -> None:
        """Atomic; its folder must exist."""
        with Upload(self._tree, parse_path(path), mode=mode, parents=False, bytes_max=len(data)) as upload:
            upload.write(data)
            upload.commit()

    def remove(self, path: str) -> None:
        self._tree.remove(parse_path(path), recursive=False)
