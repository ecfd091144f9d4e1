"""Archives from a hostile sandbox: whatever they hold, nothing is written outside of the target."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from skerry.client.pack import pack
from skerry.client.unpack import stays_inside, unpack
from skerry.errors import Conflict, Invalid, SkerryError
from tests.client.fake_control import tar_of


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    (tmp_path / "victim").write_text("untouched")
    return tmp_path / "target"


@pytest.mark.parametrize(
    "members",
    [
        {"x": "/", "x/../../victim": b"evil"},
        {"../victim": b"evil"},
        {"/etc/planted": b"evil"},
        {"x": "/", "y": b"a second top"},
        {"x": "/", "x/up": "-> ../..", "x/up/victim": b"evil"},
        {"x": "-> ..", "x/victim": b"evil"},
        {"x": "/", "x/a": "-> /", "x/a/tmp/planted": b"evil"},
    ],
)
@pytest.mark.parametrize("all_links", [False, True])
def test_nothing_outside(target: Path, members: dict[str, bytes | str], all_links: bool) -> None:
    try:
        unpack([tar_of(members)], target, "x", all_links=all_links)
    except SkerryError as error:
        assert isinstance(error, Invalid | Conflict)  # noqa: PT017
    else:
        # Left out links became plain folders: all stays below.
        assert not all_links
    assert (target.parent / "victim").read_text() == "untouched"
    assert sorted(path.name for path in target.parent.iterdir()) == ["target", "victim"]
    assert not Path("/tmp/planted").exists()


def test_a_link_that_stands_in_the_way_is_replaced_not_followed(target: Path) -> None:
    (target / "x").symlink_to(target.parent / "victim")
    unpack([tar_of({"x": b"new"})], target, "x")
    assert (target.parent / "victim").read_text() == "untouched"
    assert (target / "x").read_text() == "new"
    assert not (target / "x").is_symlink()


def test_links_out_of_the_copy_are_left_out_and_told(target: Path) -> None:
    said: list[str] = []
    members: dict[str, bytes | str] = {"x": "/", "x/passwd": "-> /etc/passwd", "x/in": "-> f", "x/f": b""}
    done = unpack([tar_of(members)], target, "x", on_skip=said.append)
    assert sorted(path.name for path in (target / "x").iterdir()) == ["f", "in"]
    assert done.files == 2
    assert "/etc/passwd" in said[0]
    unpack([tar_of(members)], target, "x", all_links=True)
    assert os.readlink(target / "x/passwd") == "/etc/passwd"


@pytest.mark.parametrize(
    ("link", "depth", "inside"),
    [
        ("a", 0, True),
        ("./a/b", 0, True),
        ("..", 0, False),
        ("../b", 1, True),
        ("../../b", 1, False),
        ("a/..", 0, False),  # `a` may be a link to the top: then this climbs out
        ("/a", 5, False),
        ("", 0, True),
    ],
)
def test_which_links_stay_inside(link: str, depth: int, inside: bool) -> None:
    assert stays_inside(link, depth) is inside


def test_special_bits_and_owners_are_not_taken_over(target: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("x")
        info.mode, info.uid, info.mtime = 0o6777, 12345, 1_000_000_000
        archive.addfile(info)
    unpack([buffer.getvalue()], target, "x")
    found = (target / "x").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_mtime) == (0o755, os.getuid(), 1_000_000_000)


def test_devices_and_pipes_are_left_out(target: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("x", tarfile.DIRTYPE), ("x/dev", tarfile.CHRTYPE), ("x/pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
    said: list[str] = []
    unpack([buffer.getvalue()], target, "x", on_skip=said.append)
    assert list((target / "x").iterdir()) == []
    assert len(said) == 2


def test_hard_links_within_the_archive(target: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x/a"))
        for name, link in (("x/b", "x/a"), ("x/evil", "../victim")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, link
            archive.addfile(info)
    with pytest.raises(Invalid):
        unpack([buffer.getvalue()], target, "renamed")
    assert (target / "renamed/a").samefile(target / "renamed/b")


def test_a_cut_archive_is_refused(target: Path) -> None:
    whole = tar_of({"x": os.urandom(100_000)})
    with pytest.raises(Invalid, match="not a whole tar"):
        unpack([whole[:50_000]], target, "x")


def test_pack_and_unpack_agree(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    name = "a" * 200 + "ü"
    (source / "empty").mkdir(parents=True)
    (source / name).write_bytes(os.urandom(300_000))
    (source / "readonly").mkdir(mode=0o500)
    os.mkfifo(source / "pipe")
    os.fsencode(name)
    said: list[str] = []
    stream = b"".join(pack(source, "source", on_skip=said.append))
    pieces = [stream[start : start + 1000] for start in range(0, len(stream), 1000)]
    unpack(pieces, target, "copy")
    assert (target / "copy" / name).read_bytes() == (source / name).read_bytes()
    assert sorted(path.name for path in (target / "copy").iterdir()) == sorted([name, "empty", "readonly"])
    assert len(said) == 1
