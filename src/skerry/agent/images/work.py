"""Where images are made ready before they enter the pool: one folder per job, bounded, and gone with its job."""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from skerry.agent.commands import to_the_end
from skerry.agent.images.layout import Layout
from skerry.agent.images.progress import folder_bytes
from skerry.errors import NoRoom, TooLarge
from skerry.model.amounts import format_size

HOST_RESERVE_BYTES = 512 * 1024 * 1024
"""The database and the logs live on the same disk; images may not take its last half gigabyte."""
RETRY_AFTER_S = 10.0
LAYOUT = "layout"
"""Name of a job's layout folder, relative, since skopeo and umoci cannot take a path with ':' in it."""
TAG = "image"

# Proxies and where the host keeps its logins and certificates; nothing else of the agent's environment gets through.
_PASSED_ON = (
    *("HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


class Job:
    """One image on its way: its folder, and the environment that tools run in."""

    def __init__(self, folder: Path, environment: Mapping[str, str], bytes_max: int) -> None:
        self.folder = folder
        self.layout = Layout(folder / LAYOUT)
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            **{key: environment[key] for key in _PASSED_ON if key in environment},
            "TMPDIR": str(folder),
        }
        self._bytes_max = bytes_max

    async def check(self) -> int:
        """Bytes in the folder now; raises TooLarge above the limit and NoRoom when the host's disk runs full."""
        size_bytes, free_bytes = await asyncio.to_thread(self._measure)
        if size_bytes > self._bytes_max:
            raise TooLarge(f"the image needs more than {format_size(self._bytes_max)} while it is made ready")
        if free_bytes < HOST_RESERVE_BYTES:
            raise NoRoom("the host's disk is nearly full", retry_after_s=RETRY_AFTER_S)
        return size_bytes

    def expect(self, more_bytes: int) -> None:
        """Refuse at once what cannot fit."""
        if more_bytes > self._bytes_max:
            raise TooLarge(f"the image is {format_size(more_bytes)}; at most {format_size(self._bytes_max)} is allowed")
        if shutil.disk_usage(self.folder).free - more_bytes < HOST_RESERVE_BYTES:
            raise NoRoom(f"the host's disk has no room for {format_size(more_bytes)}", retry_after_s=RETRY_AFTER_S)

    def _measure(self) -> tuple[int, int]:
        return folder_bytes(self.folder), shutil.disk_usage(self.folder).free


class WorkFolder:
    def __init__(self, folder: Path, environment: Mapping[str, str], bytes_max: int) -> None:
        self._folder = folder
        self._environment = environment
        self._bytes_max = bytes_max

    async def open(self) -> None:
        """Empty it: whatever lies there belongs to jobs that died with an earlier agent."""
        if self._folder.exists():
            await asyncio.to_thread(_remove, self._folder)
        self._folder.mkdir(parents=True, mode=0o700)

    @asynccontextmanager
    async def job(self, name: str) -> AsyncGenerator[Job, None]:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
        try:
            with no_room_when_full():
                yield Job(folder, self._environment, self._bytes_max)
        finally:
            await to_the_end(asyncio.to_thread(_remove, folder))


@contextmanager
def no_room_when_full() -> Generator[None, None, None]:
    """ENOSPC and EDQUOT in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom("the disk is full", because=str(error), retry_after_s=RETRY_AFTER_S) from error
        raise


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
