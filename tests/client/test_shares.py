"""Host folders that the operator adds: by whom, which never, and seen at once by a program that looks."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from skerry.client import shares
from skerry.client.shares import Shares
from skerry.errors import Failed, Invalid, LimitReached, NotFound


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    for name in ("srv/data", "srv/run", "home/code/sub"):
        (tmp_path / name).mkdir(parents=True)
    return {"SKERRY_DATA_DIR": str(tmp_path / "srv/data"), "SKERRY_RUN_DIR": str(tmp_path / "srv/run")}


def test_what_is_added_counts_at_once_and_by_its_real_path(environ: dict[str, str], tmp_path: Path) -> None:
    code = tmp_path / "home/code"
    seen = Shares(tmp_path / "srv/data", [tmp_path / "home/code/sub"])
    assert seen.folders() == [code / "sub"]
    (tmp_path / "link").symlink_to(code)
    assert shares.add(tmp_path / "link", environ) == shares.add(code, environ) == code
    assert (shares.added(environ), seen.folders()) == ([code], [code / "sub", code])
    assert (tmp_path / "srv/data" / shares.FILE).stat().st_mode & 0o777 == 0o600
    code.rename(tmp_path / "home/moved")
    code.symlink_to("/etc")
    assert seen.folders()[1] == code, "as it was written down: a link in its place shares nothing else"
    assert shares.remove(code, environ) == code
    assert (shares.added(environ), seen.folders()) == ([], [code / "sub"])
    with pytest.raises(NotFound, match="is not shared"):
        shares.remove(code, environ)


def test_what_is_the_machines_or_ours_is_never_shared(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "srv/data/pool").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "way").symlink_to("/proc/self")
    never = ["/", "/proc", "/sys/kernel", "/dev", "/var/run", *(tmp_path / each for each in ("way", "srv", "srv/run"))]
    for path in (*never, tmp_path, tmp_path / "srv/data/pool", tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(Invalid):
            shares.add(Path(path), environ)
    assert shares.added(environ) == []


def test_of_many_who_add_at_once_each_is_there(environ: dict[str, str], tmp_path: Path, monkeypatch) -> None:
    folders = [tmp_path / "home" / f"at-{number}" for number in range(12)]
    for folder in folders:
        folder.mkdir()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda folder: shares.add(folder, environ), folders))
    assert sorted(shares.added(environ)) == sorted(folders)
    monkeypatch.setattr(shares, "SHARES_MAX", 12)
    with pytest.raises(LimitReached):
        shares.add(tmp_path / "home/code", environ)


def test_a_file_that_is_not_ours_shares_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "srv/data" / shares.FILE).write_text('{"paths"')
    with pytest.raises(Failed, match="skerry share"):
        Shares(tmp_path / "srv/data", []).folders()
    with pytest.raises(NotFound, match="no server's data folder"):
        shares.add(tmp_path / "home/code", {"SKERRY_DATA_DIR": str(tmp_path / "none")})
