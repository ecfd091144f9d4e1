"""Two trees compared, patterns as in .gitignore, and a local tree read while somebody puts links into it."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.environment.trees.changes import Changes
from skerry.environment.trees.entry import Entry, difference, folders_of
from skerry.environment.trees.ignore import Ignore
from skerry.environment.trees.local import LocalTree, read_real, real_place
from skerry.errors import Invalid, NotFound, TooLarge

NAMES = st.sampled_from("abc")
LEAVES = st.tuples(st.sampled_from(["file", "symlink"]), st.integers(0, 1))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=12)
Tree = dict[str, Entry]


def flat(tree: object, above: str = "") -> Tree:
    found: Tree = {}
    if isinstance(tree, dict):
        for name, inner in tree.items():
            path = f"{above}{name}"
            if isinstance(inner, dict):
                found[path] = Entry(path, "directory", 0o755)
                found |= flat(inner, f"{path}/")
            else:
                kind, version = inner
                found[path] = Entry(path, kind, 0o644, version, version, f"to-{version}" if kind == "symlink" else "")
    return found


def applied(there: Tree, here: Tree, ignored: list[str]) -> Tree:
    """What a sandbox has after it, by the rules of remove and of an archive."""
    wanted = difference(here, there, ignored)
    after = dict(there)
    for name in wanted.remove:
        for each in [each for each in after if each == name or each.startswith(f"{name}/")]:
            del after[each]
    for name in wanted.send:
        for folder in folders_of(name):
            assert after[folder].kind == "directory", (
                "a folder is there before what is in it, and no link stands for it"
            )
        assert name not in after or after[name].kind == here[name].kind, "nothing else stands in the way"
        after[name] = here[name]
    return after


@given(TREES.map(flat), TREES.map(flat))
@settings(max_examples=300)
def test_after_it_both_are_alike(here: Tree, there: Tree) -> None:
    assert applied(there, here, []) == here
    assert difference(here, here) == ([], [])


@given(TREES.map(flat), TREES.map(flat), st.lists(st.sampled_from(["a/x", "a/b/x", "c/x"]), max_size=2))
def test_what_is_ignored_keeps_its_folders(here: Tree, there: Tree, ignored: list[str]) -> None:
    ignored = [
        name for name in ignored if all(there.get(f, Entry("", "other")).kind == "directory" for f in folders_of(name))
    ]
    after = applied(there, here, ignored)
    for name in ignored:
        replaced = any(here[folder].kind != "directory" for folder in folders_of(name) if folder in here)
        assert replaced or all(folder in after for folder in folders_of(name))


@pytest.mark.parametrize(
    ("patterns", "left_out", "copied"),
    [
        ([], [".skerry", ".skerry/logs/x"], [".git", "a/.skerry", ".skerryx"]),
        (["*.log", "!keep.log"], ["x.log", "a/x.log"], ["keep.log", "x.logs"]),
        (["/build", "node_modules/"], ["build", "node_modules//", "a/node_modules//"], ["a/build", "node_modules"]),
        (["# note", "", "a/**/z"], ["a/z", "a/b/c/z"], ["b/a/z", "# note"]),
        (["!.skerry"], [".skerry"], []),
    ],
)
def test_patterns(patterns: list[str], left_out: list[str], copied: list[str]) -> None:
    """A name with // at its end stands for a folder."""
    ignore = Ignore(patterns)
    for name in left_out:
        assert ignore(name.removesuffix("//"), name.endswith("//")), name
    for name in copied:
        assert not ignore(name.removesuffix("//"), name.endswith("//")), name


def test_a_bad_pattern_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        Ignore(["ok", "!"], field="folders[0].exclude")
    assert caught.value.field == "folders[0].exclude[1]"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("mine")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("secret")
    (tmp_path / "tree/out").symlink_to("../secret")
    return tmp_path / "tree"


def unpacked(chunks: object) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:  # pyright: ignore
        return {each.name: (tar.extractfile(each) or io.BytesIO()).read() if each.isreg() else b"" for each in tar}


def test_no_link_is_followed_not_even_one_that_comes_meanwhile(tree: Path) -> None:
    with LocalTree(tree) as local:
        seen = local.scan()
        assert sorted(seen) == ["out", "sub", "sub/file"]
        os.rename(tree / "sub", tree / "was")
        (tree / "sub").symlink_to("../secret")
        assert unpacked(local.pack(list(seen.values()))) == {"out": b"", "sub": b""}
        assert sorted(local.scan()) == ["out", "sub", "was", "was/file"]
    (tree.parent / "by").symlink_to(tree)
    named = (f"{tree}/sub/file", "../tree/sub/file", f"{tree.parent}/by/sub/file")
    for source in ("out/file", "sub/file", "out", *named):
        with pytest.raises(Invalid, match="leads out of"):
            real_place(tree, source)
    assert real_place(tree, "../secret/file") == tree.parent / "secret/file", "said so by the file itself"
    with pytest.raises(NotFound):
        real_place(tree, "nothing")


def test_a_place_is_opened_as_it_was_found(tree: Path) -> None:
    place = real_place(tree, "sub/file")
    assert read_real(place, 4) == b"mine"
    with pytest.raises(TooLarge):
        read_real(place, 3)
    os.rename(tree / "sub", tree / "was")
    (tree / "sub").symlink_to(tree.parent / "secret")
    with pytest.raises(Invalid):
        read_real(place, 100)


def test_a_file_that_changes_while_it_is_read_is_told(tree: Path) -> None:
    big = tree / "big"
    big.write_bytes(b"a" * 1_000_000)
    with LocalTree(tree) as local:
        changed: list[Entry] = []
        stream = local.pack([local.scan()["big"]], changed=changed)
        first = next(stream)
        big.write_bytes(b"short")
        data = first + b"".join(stream)
        assert [entry.name for entry in changed] == ["big"]
        assert len(unpacked([data])["big"]) == 1_000_000, "the archive is whole all the same"


def test_times_go_to_the_microsecond(tree: Path) -> None:
    os.utime(tree / "sub/file", ns=(0, 1_700_000_000_123_456_789))
    with LocalTree(tree) as local:
        [entry] = [entry for entry in local.scan().values() if entry.kind == "file"]
        assert entry.modified_us == 1_700_000_000_123_456
        with tarfile.open(fileobj=io.BytesIO(b"".join(local.pack([entry])))) as tar:
            assert tar.getmembers()[0].pax_headers["mtime"] == "1700000000.123456"


def test_a_change_is_heard_wherever_it_is_but_not_where_nobody_looks(tree: Path) -> None:
    changes = Changes()
    (tree / "left-out").mkdir()
    try:
        with LocalTree(tree, Ignore(["left-out/"])) as local:
            local.scan(on_folder=changes.cover)
            assert not changes.wait(0)
            (tree / "left-out/x").write_text("x")
            assert not changes.wait(0.05)
            for change in (
                lambda: (tree / "sub/file").write_text("other"),
                lambda: (tree / "sub/file").chmod(0o700),
                lambda: (tree / "sub/new").mkdir(),
                lambda: (tree / "sub/new/deep").write_text("x"),
                lambda: os.rename(tree / "sub/new/deep", tree / "deep"),
                lambda: (tree / "deep").unlink(),
            ):
                timer = threading.Timer(0.01, change)
                timer.start()
                assert changes.wait(30)
                timer.join()  # all that it is heard by: the rest of one change must not be taken for the next
                changes.forget()
                local.scan(on_folder=changes.cover)
    finally:
        changes.close()
