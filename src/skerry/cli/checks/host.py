"""The machine as the checks see it, so that a test can show them another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

COMMAND_S_MAX = 10.0


class Host(Protocol):
    def user_id(self) -> int: ...

    def kernel(self) -> tuple[int, int]: ...

    def text(self, path: str) -> str | None:
        """A file's text, None when it cannot be read."""
        ...

    def exists(self, path: str) -> bool: ...

    def which(self, command: str) -> str | None: ...

    def output(self, *command: str) -> str | None:
        """What a command prints, None when it is missing or fails."""
        ...

    def free_bytes(self, path: str) -> int:
        """Free space where path is or would be made."""
        ...


class ThisHost:
    def user_id(self) -> int:
        return os.geteuid()

    def kernel(self) -> tuple[int, int]:
        major, minor = os.uname().release.split(".")[:2]
        return int(major), int("".join(filter(str.isdigit, minor.split("-")[0])) or 0)

    def text(self, path: str) -> str | None:
        try:
            return Path(path).read_text(errors="replace")
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def which(self, command: str) -> str | None:
        # A user's PATH may lack the folders where system tools live.
        path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        return shutil.which(command, path=path)

    def output(self, *command: str) -> str | None:
        found = self.which(command[0])
        if found is None:
            return None
        try:
            ended = subprocess.run(
                [found, *command[1:]], capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return ended.stdout if ended.returncode == 0 else None

    def free_bytes(self, path: str) -> int:
        place = Path(path).absolute()
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free
