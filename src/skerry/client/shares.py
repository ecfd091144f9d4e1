"""Host folders below which sandboxes may mount, as the operator of this very machine has added them.

They stand in a file of the server's data folder, which only the machine's root can write, and are added by writing to
it: never through the API, so that a key alone, held on another machine, opens no folder of this one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from skerry.client.target import local_data_dir, local_run_dir
from skerry.errors import Failed, Forbidden, Invalid, LimitReached, NotFound

FILE = "shares.json"
SHARES_MAX = 1000
NEVER = (Path("/proc"), Path("/sys"), Path("/dev"), Path("/run"))


def add(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """From now on sandboxes may mount it and what is below it; the real path. Quiet about one that is there already.
    Raises Invalid, Forbidden for who may not write the server's data folder, LimitReached."""
    real = _real(path)
    data_dir = local_data_dir(environ)
    _refuse_our_own(real, [*NEVER, data_dir.resolve(), local_run_dir(environ).resolve()])
    with _changing(data_dir) as shares:
        if real not in shares:
            if len(shares) >= SHARES_MAX:
                raise LimitReached(f"{SHARES_MAX} folders are shared, the most allowed; remove some")
            shares.append(real)
    return real


def remove(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Sandboxes that have it keep it until they stop. Raises NotFound."""
    with _changing(local_data_dir(environ)) as shares:
        for known in (Path(os.path.abspath(path)), path.resolve()):  # the folder itself may be gone, or a link now
            if known in shares:
                shares.remove(known)
                return known
    raise NotFound(f"{path} is not shared; see `skerry share list`")


def added(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Those of the file; raises Forbidden for who may not read it."""
    data_dir = local_data_dir(environ)
    with _explained(data_dir):
        return _read(data_dir / FILE)


class Shares:
    """What a program of the server goes by: what its settings say, and what was added since."""

    def __init__(self, data_dir: Path, settled: Sequence[Path]) -> None:
        self._path = data_dir / FILE
        self._settled = [path.resolve() for path in settled]
        self._added: list[Path] = []
        self._seen: tuple[int, int] | None = None

    def folders(self) -> list[Path]:
        """Real paths, not to be resolved again: whoever could put a link in the place of one would share another."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._settled
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._added = _read(self._path)
            self._seen = (found.st_ino, found.st_mtime_ns)
        return [*self._settled, *self._added]


def _real(path: Path) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise Invalid(f"{path} does not exist on this machine", field="path") from None
    if not real.is_dir():
        raise Invalid(f"{path} is not a folder", field="path")
    return real


def _refuse_our_own(real: Path, kept: Sequence[Path]) -> None:
    for own in kept:
        if real.is_relative_to(own) or own.is_relative_to(real):
            how = "is" if real == own else "lies in" if real.is_relative_to(own) else "contains"
            raise Invalid(f"{real} {how} {own}, which is never shared", field="path")


@contextlib.contextmanager
def _changing(data_dir: Path) -> Generator[list[Path]]:
    """The list, to be changed; written whole when the block ends well, by one at a time."""
    import fcntl

    with _explained(data_dir):
        lock = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _explained(data_dir):
            shares = _read(data_dir / FILE)
        before = list(shares)
        yield shares
        if shares != before:
            with _explained(data_dir):
                _write(data_dir / FILE, shares)
    finally:
        os.close(lock)


def _read(path: Path) -> list[Path]:
    try:
        found = json.loads(path.read_bytes())
        return [Path(str(each)) for each in found]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise Failed(f"{path} is not what `skerry share` writes; mend or remove it", because=str(error)) from None


def _write(path: Path, shares: Sequence[Path]) -> None:
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump([str(each) for each in shares], file, indent=1)
        file.flush()
        os.fsync(fd)
    os.replace(fresh, path)


@contextlib.contextmanager
def _explained(data_dir: Path) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no server's data folder {data_dir}; see SKERRY_DATA_DIR, `skerry serve`") from None
    except PermissionError:
        raise Forbidden(
            f"only who may write the server's data folder {data_dir} may share folders; become root"
        ) from None
