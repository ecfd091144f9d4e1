"""Files through the SDK: the same on every transport."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from skerry.errors import Conflict, Invalid, NotFound
from tests.client.fake_control import FakeControl, tar_of


def test_write_read_stat_list_rename_remove(box: Any) -> None:
    files = box.files
    files.write("/srv/a/text", "grüße")
    files.write("/srv/a/bytes", b"\0\xff", mode="0755")
    files.write("/srv/a/pieces", iter([b"x" * 1000] * 3))
    assert files.read_text("/srv/a/text") == "grüße"
    assert files.read("/srv/a/bytes") == b"\0\xff"
    assert len(b"".join(files.stream("/srv/a/pieces"))) == 3000
    assert files.stat("/srv/a/bytes").mode == "0755"
    assert [info.name for info in files.list("/srv/a")] == ["bytes", "pieces", "text"]
    files.rename("/srv/a/text", "/srv/a/moved")
    assert (files.exists("/srv/a/text"), files.exists("/srv/a/moved")) == (False, True)
    assert files.mkdir("/srv/b/c").kind.value == "directory"
    files.remove("/srv/a", recursive=True)
    with pytest.raises(NotFound):
        files.read("/srv/a/moved")


def test_a_body_larger_than_one_piece(box: Any) -> None:
    data = os.urandom(3 * 1024**2)
    box.files.write("/big", data)
    assert box.files.read("/big") == data


def test_watch_misses_nothing_after_it_returned(box: Any) -> None:
    box.files.mkdir("/srv")
    with box.files.watch("/srv") as feed:
        box.files.write("/srv/new", b"")
        for event in feed:
            assert (event.kind, event.path) == ("created", "/srv/new")
            break


def tree(root: Path) -> Path:
    (root / "site/sub").mkdir(parents=True)
    (root / "site/page").write_text("hello")
    (root / "site/page").chmod(0o640)
    (root / "site/sub/tool").write_text("#!/bin/sh\n")
    (root / "site/sub/tool").chmod(0o755)
    (root / "site/link").symlink_to("page")
    return root / "site"


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_upload_and_download_a_tree(box: Any, tmp_path: Path, control: FakeControl) -> None:
    site = tree(tmp_path)
    box.files.mkdir("/srv")
    assert box.files.upload(site, "/srv") == 3
    assert box.files.upload(site, "/srv/renamed") == 3
    assert box.files.upload(f"{site}/.", "/srv/content") == 3
    assert control.files.owners == {(0, 0)}
    assert box.files.stat("/srv/site/sub/tool").mode == "0755"
    assert box.files.read_text("/srv/renamed/page") == box.files.read_text("/srv/content/page") == "hello"
    (tmp_path / "in").mkdir()
    assert box.files.download("/srv/site", tmp_path / "in") == 3
    assert box.files.download("/srv/site", tmp_path / "other-name") == 3
    assert box.files.download("/srv/site/.", tmp_path / "in") == 3
    assert content(tmp_path / "in/site") == content(tmp_path / "other-name") == content(site)
    assert (tmp_path / "in/page").read_text() == "hello"


def test_upload_and_download_one_file(box: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    box.files.mkdir("/srv")
    box.files.upload(tmp_path / "a", "/srv/")
    box.files.upload(tmp_path / "a", "/srv/b")
    assert box.files.read_text("/srv/a") == box.files.read_text("/srv/b") == "one"
    box.files.download("/srv/b", tmp_path)
    box.files.download("/srv/b", tmp_path / "a")
    assert (tmp_path / "b").read_text() == (tmp_path / "a").read_text() == "one"


def test_copies_that_make_no_sense_say_so(box: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    box.files.write("/file", b"")
    with pytest.raises(Conflict, match="is a file"):
        box.files.upload(tmp_path / "folder", "/file")
    with pytest.raises(NotFound):
        box.files.upload(tmp_path / "missing", "/srv")
    with pytest.raises(Invalid, match="start"):
        box.files.upload(tmp_path / "folder", "srv")
    with pytest.raises(Invalid, match="no folder"):
        box.files.download("/file", tmp_path / "nowhere/file")
    with pytest.raises(NotFound):
        box.files.download("/missing", tmp_path)


def test_a_hostile_archive_writes_nothing_outside(box: Any, tmp_path: Path, control: FakeControl) -> None:
    target = tmp_path / "target"
    target.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    control.files.archive = tar_of({"x": "/", "x/way": f"-> {outside}", "x/way/planted": b"evil"})
    with pytest.raises((Conflict, Invalid)):
        box.files.download("/x", target, all_links=True)
    assert list(outside.iterdir()) == []
