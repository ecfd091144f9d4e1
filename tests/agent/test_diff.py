"""The diff of two disks names what changed and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.agent.files.diff import diff
from skerry.errors import LimitReached, NotFound
from skerry.model.checkpoint import Diff

NEEDED = ("mkfs.btrfs", "btrfs", "mount")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(tool) for tool in NEEDED), reason="needs root and btrfs-progs"
)


def call(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs of its own: only snapshots keep inode numbers, which is what diff lives by."""
    folder = tmp_path_factory.mktemp("pool")
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(512 * 1024**2)
    call("mkfs.btrfs", "-q", image)
    call("mount", "-o", "loop,noatime", image, mount)
    yield mount
    call("umount", mount)


@pytest.fixture
def disk(pool: Path, request: pytest.FixtureRequest) -> Path:
    path = pool / request.node.name
    call("btrfs", "subvolume", "create", path)
    (path / "etc").mkdir()
    for name in ("kept", "written", "touched", "removed", "replaced", "owned", "modes", "kind"):
        (path / "etc" / name).write_bytes(b"before")
    (path / "old/sub").mkdir(parents=True)
    (path / "old/sub/file").write_bytes(b"x")
    os.symlink("kept", path / "etc/link")
    return path


def snapshot(disk: Path) -> Path:
    path = disk.with_name(disk.name + "-before")
    call("btrfs", "subvolume", "snapshot", "-r", disk, path)
    return path


def shown(found: Diff) -> list[str]:
    return [f"{item.change} {item.path}" for item in found.items]


def test_nothing_changed(disk: Path):
    before = snapshot(disk)
    assert diff(before, disk) == Diff(items=[], truncated=False)


def test_every_kind_of_change_is_named_once(disk: Path):
    before = snapshot(disk)
    etc = disk / "etc"
    (etc / "written").write_bytes(b"after!")
    old = (etc / "touched").stat()
    (etc / "touched").write_bytes(b"BEFORE")  # same size
    os.utime(etc / "touched", ns=(old.st_atime_ns, old.st_mtime_ns))  # and the guest hides the time
    (etc / "removed").unlink()
    (etc / "replaced-new").write_bytes(b"before")
    os.rename(etc / "replaced-new", etc / "replaced")
    os.chown(etc / "owned", 5, 5)
    (etc / "modes").chmod(0o600)
    (etc / "kind").unlink()
    (etc / "kind").mkdir()
    (etc / "kind/below").write_bytes(b"")
    (etc / "link").unlink()
    os.symlink("written", etc / "link")
    (etc / "new").mkdir()
    (etc / "new/file").write_bytes(b"")
    os.rename(disk / "old", disk / "older")
    with open(os.fsencode(etc) + b"/caf\xe9", "wb"):
        pass
    assert shown(diff(before, disk)) == [
        "added /etc/caf\\xe9",
        "modified /etc/kind",
        "added /etc/kind/below",
        "modified /etc/link",
        "modified /etc/modes",
        "added /etc/new",
        "added /etc/new/file",
        "modified /etc/owned",
        "removed /etc/removed",
        "modified /etc/replaced",
        "modified /etc/touched",
        "modified /etc/written",
        "removed /old",
        "removed /old/sub",
        "removed /old/sub/file",
        "added /older",
        "added /older/sub",
        "added /older/sub/file",
    ]
    back = shown(diff(disk, before))
    assert "removed /etc/new/file" in back
    assert "added /old/sub/file" in back


def test_links_are_compared_not_followed(disk: Path, tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"")
    os.symlink(tmp_path, disk / "host")
    before = snapshot(disk)
    (tmp_path / "more").write_bytes(b"")
    assert diff(before, disk).items == []


def test_a_long_diff_is_cut_and_says_so(disk: Path):
    before = snapshot(disk)
    for n in range(30):
        (disk / f"new-{n:02}").write_bytes(b"")
    found = diff(before, disk, paths_max=10)
    assert found.truncated
    assert shown(found) == [f"added /new-{n:02}" for n in range(10)]
    exact = diff(before, disk, paths_max=30)
    assert not exact.truncated
    assert len(exact.items) == 30


def test_limits_and_missing_disks(disk: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NotFound):
        diff(disk, disk.with_name("none"))
    monkeypatch.setattr("skerry.agent.files.diff.FOLDER_ENTRIES_MAX", 3)
    with pytest.raises(LimitReached):
        diff(disk, disk)


def test_folders_deeper_than_a_path_end_it_without_harm(disk: Path):
    here = os.open(disk, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = snapshot(disk)
    (disk / "etc/kept").write_bytes(b"after")
    found = diff(before, disk)
    assert found.truncated
    assert "modified /etc/kept" in shown(found)


def test_fifty_thousand_files_take_about_a_second(disk: Path):
    for d in range(100):
        (disk / f"many/{d}").mkdir(parents=True)
        for f in range(500):
            os.close(os.open(disk / f"many/{d}/{f}", os.O_CREAT | os.O_WRONLY))
    before = snapshot(disk)
    (disk / "many/50/250").write_bytes(b"x")
    diff(before, disk)  # warm
    start_s = time.process_time()
    found = diff(before, disk)
    took_s = time.process_time() - start_s
    print(f"50,000 files: {took_s:.2f} s")
    assert shown(found) == ["modified /many/50/250"]
    assert took_s < 5, "a shared machine is given room; alone it takes about half a second"
