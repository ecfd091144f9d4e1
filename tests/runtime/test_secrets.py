"""What keeps secrets off the disk: places in memory that are ours, and files in a guest that no link leads away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.errors import Failed, Invalid
from skerry.runtime.container.guest_tree import GuestTree
from skerry.runtime.container.memory import SHARED_MEMORY, have_in_memory, is_in_memory, memory_folder

DISK = Path("/var/tmp")


@pytest.fixture
def run_path() -> Iterator[Path]:
    path = DISK / f"skerry-memory-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)
    shutil.rmtree(memory_folder(path), ignore_errors=True)


def test_a_run_folder_on_a_disk_gets_its_part_in_memory(run_path: Path) -> None:
    if is_in_memory(DISK):
        pytest.skip("there is no disk here")
    assert have_in_memory(run_path, "crun")
    (run_path / "crun" / "one").write_text("x")
    assert is_in_memory(run_path / "crun")
    shutil.rmtree(memory_folder(run_path))  # as a reboot does
    assert have_in_memory(run_path, "crun")
    assert list((run_path / "crun").iterdir()) == []


def test_what_an_earlier_agent_left_stays_where_it_is(run_path: Path) -> None:
    (run_path / "crun" / "one").mkdir(parents=True)
    assert have_in_memory(run_path, "crun") is is_in_memory(DISK)
    assert (run_path / "crun" / "one").is_dir()


def test_a_run_folder_in_memory_is_left_as_it_is() -> None:
    path = SHARED_MEMORY / f"skerry-memory-{os.getpid()}"
    path.mkdir()
    try:
        assert have_in_memory(path, "crun")
        assert not (path / "crun").is_symlink()
    finally:
        shutil.rmtree(path)


def test_a_folder_that_somebody_else_made_first_is_refused(run_path: Path) -> None:
    if is_in_memory(DISK):
        pytest.skip("there is no disk here")
    place = memory_folder(run_path)
    place.mkdir()
    os.chown(place, 65534, 65534)
    with pytest.raises(Failed, match="is another's"):
        have_in_memory(run_path, "crun")
    place.rmdir()
    place.symlink_to(run_path)
    with pytest.raises(Failed, match="is another's"):
        have_in_memory(run_path, "crun")
    place.unlink()


def test_a_place_for_a_file_is_made_and_never_elsewhere(tmp_path: Path) -> None:
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    (disk / "etc/folder").mkdir(parents=True)
    outside.mkdir()
    (disk / "link").symlink_to(outside)
    (disk / "etc/passwd").write_text("kept")
    (disk / "etc/file").symlink_to("passwd")
    os.mkfifo(disk / "etc/pipe")
    with GuestTree(disk) as tree:
        tree.have_file("/run/secrets/token", "f")
        tree.have_file("/run/secrets/token", "f")
        tree.have_file("/etc/passwd", "f")
        for path in ("/link/x", "/etc/file", "/etc/pipe", "/etc/folder", "/etc/passwd/x", "/etc/" + "x" * 300):
            with pytest.raises(Invalid, match="f: "):
                tree.have_file(path, "f")
    assert (disk / "run/secrets/token").read_bytes() == b""
    assert (disk / "etc/passwd").read_text() == "kept"
    assert list(outside.iterdir()) == []
