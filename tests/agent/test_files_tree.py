"""The tree operations do what a program in the guest would see, and no name or link of the guest's leads them out."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from skerry.agent.files.openat2 import read_at_most
from skerry.agent.files.tree import Tree
from skerry.agent.files.upload import Upload
from skerry.agent.files.views import PATH_BYTES_MAX, View, parse_path
from skerry.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InUse,
    Invalid,
    NotFound,
    SkerryError,
    TooLarge,
)
from skerry.model.file import FileKind
from tests.agent.files_world import SECRET, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the agent does")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def tree(world: World):
    with Tree(world.view) as tree:
        yield tree


def read(tree: Tree, path: str) -> bytes:
    fd, status = tree.open_file(parse_path(path))
    with fd:
        return read_at_most(fd.fileno(), status.st_size) if status.st_size else b""


def write(tree: Tree, path: str, data: bytes, *, mode: int | None = None, parents: bool = True, most: int = 10**9):
    with Upload(tree, parse_path(path), mode=mode, parents=parents, bytes_max=most) as upload:
        upload.write(data)
        return upload.commit()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Paths


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("etc/passwd", "absolute"),
        ("", "absolute"),
        ("/srv/../../secret", r"'\.\.'"),
        ("/srv/\0", "NUL"),
        ("/" + "a/" * PATH_BYTES_MAX, "4096"),
        ("/" + "ü" * 128, "255"),
        ("/\ud800", "not valid"),
    ],
)
def test_a_bad_path_is_refused_in_words(path: str, words: str):
    with pytest.raises(Invalid, match=words) as caught:
        parse_path(path)
    assert caught.value.field == "path"


def test_a_path_is_normalised():
    assert parse_path("//etc/./hostname/") == ("etc", "hostname")
    assert parse_path("/") == ()


# Reading


def test_links_lead_where_they_lead_in_the_guest(world: World, tree: Tree):
    os.symlink("/etc/hostname", world.disk / "srv/absolute")
    os.symlink("../../../../../etc/hostname", world.disk / "srv/climbing")
    os.symlink("absolute", world.disk / "srv/twice")
    os.symlink("/etc", world.disk / "config")
    for path in ("/srv/absolute", "/srv/climbing", "/srv/twice", "/config/hostname"):
        assert read(tree, path) == b"guest\n", path


@pytest.mark.parametrize("target", ["{secret}", "../../secret", "/../../../secret", "/proc/self/root{secret}"])
def test_no_link_reaches_the_host(world: World, tree: Tree, target: str):
    text = target.format(secret=world.secret)
    os.symlink(text, world.disk / "srv/file")
    os.symlink(os.path.dirname(text), world.disk / "srv/folder")
    for path in ("/srv/file", "/srv/folder/secret"):
        with pytest.raises(NotFound):
            read(tree, path)
    before = world.outside()
    for path in ("/srv/file", "/srv/folder/secret"):
        try:
            write(tree, path, b"overwritten")
        except SkerryError:
            continue
    assert world.outside() == before
    assert world.secret.read_bytes() == SECRET


def test_a_link_into_a_host_folder_and_out_of_it_again(world: World, tree: Tree):
    (world.share / "data").write_bytes(b"shared")
    os.symlink("/mnt/share", world.disk / "srv/share")
    os.symlink("/etc/hostname", world.share / "absolute")
    os.symlink("../../etc/hostname", world.share / "relative")
    os.symlink(str(world.secret), world.share / "host")
    assert read(tree, "/srv/share/data") == b"shared"
    assert read(tree, "/srv/share/absolute") == b"guest\n"
    assert read(tree, "/mnt/share/relative") == b"guest\n"
    with pytest.raises(NotFound):
        read(tree, "/mnt/share/host")
    assert [info.path for info in tree.list(("mnt", "share"), 1).items] == [
        "/mnt/share/absolute",
        "/mnt/share/data",
        "/mnt/share/host",
        "/mnt/share/relative",
    ]


def test_a_host_folder_whose_path_holds_a_guest_s_link_is_not_opened(world: World):
    """One guest that writes a shared folder must not choose what another guest's mount of a part of it shows."""
    os.symlink("/etc", world.share / "part")
    view = View(world.disk, [type(world.mounts[0])("/mnt/share", world.share / "part")])
    with Tree(view) as tree, pytest.raises(NotFound, match="host folder"):
        tree.list(("mnt", "share"), 1)


def test_links_without_end_are_an_error_not_a_hang(world: World, tree: Tree):
    os.symlink("b", world.disk / "a")
    os.symlink("a", world.disk / "b")
    os.symlink("self/self", world.disk / "self")
    deep = world.disk / "deep"
    deep.mkdir()
    for n in range(40):
        os.symlink("../deep/" * 400 + f"{n + 1}", deep / str(n))
    start = time.monotonic()
    for path in ("/a", "/self", "/self/x", "/deep/0"):
        with pytest.raises((Invalid, NotFound)):
            read(tree, path)
    assert time.monotonic() - start < 20
    assert tree.stat(("a",)).target == "b"


def test_pipes_sockets_devices_and_directories_are_not_read(world: World, tree: Tree):
    os.mkfifo(world.disk / "fifo")
    os.mknod(world.disk / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(world.disk / "socket"))
    start = time.monotonic()
    for name in ("fifo", "null", "socket", "etc"):
        with pytest.raises(Invalid):
            read(tree, f"/{name}")
        with pytest.raises(Invalid):
            write(tree, f"/{name}", b"x")
    assert time.monotonic() - start < 20
    assert tree.stat(("fifo",)).kind is FileKind.OTHER
    assert (world.disk / "fifo").exists()


def test_the_kernel_s_folders_are_hidden(world: World, tree: Tree):
    os.symlink("/proc/version", world.disk / "version")
    for path in ("/proc/version", "/sys", "/dev/null", "/version"):
        with pytest.raises(NotFound, match="inside the running sandbox"):
            read(tree, path)
        with pytest.raises(Forbidden, match="kernel"):
            write(tree, path, b"x")
    assert list((world.disk / "proc").iterdir()) == []


def test_what_is_missing_is_not_found(world: World, tree: Tree):
    for path in ("/nothing", "/nothing/at/all", "/etc/hostname/below"):
        with pytest.raises(NotFound):
            read(tree, path)
    world.mounts.clear()
    with Tree(View(world.top / "gone")) as gone, pytest.raises(NotFound, match="disk is gone"):
        gone.stat(())


# Writing


def test_a_new_file_belongs_to_root_and_an_old_one_keeps_owner_and_mode(world: World, tree: Tree):
    previous = os.umask(0o077)
    try:
        info = write(tree, "/srv/new/deep/file", b"one")
        assert (info.mode, info.uid, info.gid, info.size_bytes) == ("0644", 0, 0, 3)
        assert stat.S_IMODE((world.disk / "srv/new").stat().st_mode) == 0o755
        path = world.disk / "srv/new/deep/file"
        os.chown(path, 1000, 1001)
        path.chmod(0o4750)
        info = write(tree, "/srv/new/deep/file", b"second")
        assert (info.mode, info.uid, info.gid) == ("0750", 1000, 1001), "setuid goes unless it is asked for"
        assert write(tree, "/srv/tool", b"x", mode=0o4755).mode == "4755"
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"second"
    assert sorted(p.name for p in path.parent.iterdir()) == ["file"]


def test_a_write_goes_through_links_like_any_program_s(world: World, tree: Tree):
    os.symlink("/etc/hostname", world.disk / "srv/link")
    os.symlink("/srv/target", world.disk / "srv/dangling")
    write(tree, "/srv/link", b"renamed\n")
    write(tree, "/srv/dangling", b"made")
    assert (world.disk / "etc/hostname").read_bytes() == b"renamed\n"
    assert (world.disk / "srv/target").read_bytes() == b"made"
    assert (world.disk / "srv/link").is_symlink()
    assert (world.disk / "srv/dangling").is_symlink()


def test_an_unfinished_or_too_large_upload_leaves_nothing(world: World, tree: Tree):
    write(tree, "/srv/file", b"old")
    with Upload(tree, ("srv", "file"), mode=None, parents=False, bytes_max=100) as upload:
        upload.write(b"half")
    with pytest.raises(TooLarge):
        write(tree, "/srv/file", b"x" * 101, most=100)
    assert (world.disk / "srv/file").read_bytes() == b"old"
    assert [p.name for p in (world.disk / "srv").iterdir()] == ["file"]


def test_a_full_disk_is_said_so_and_leaves_nothing(world: World):
    disk = Path("/dev/shm") / f"skerry-files-{os.getpid()}"
    disk.mkdir()
    assert os.system(f"mount -t tmpfs -o size=64k none {disk}") == 0
    try:
        with Tree(View(disk)) as tree, pytest.raises(SkerryError, match="disk is full") as caught:
            write(tree, "/big", b"x" * 1_000_000)
        assert caught.value.code == "no_room"
        assert list(disk.iterdir()) == []
    finally:
        os.system(f"umount {disk}")
        disk.rmdir()


def test_without_parents_the_folder_must_exist(tree: Tree):
    with pytest.raises(NotFound):
        write(tree, "/srv/no/file", b"x", parents=False)
    with pytest.raises(Invalid):
        write(tree, "/", b"x")
    with pytest.raises((Invalid, NotFound)):
        write(tree, "/etc/hostname/file", b"x")


def test_read_only_views_and_mounts_refuse_every_change(world: World, tree: Tree):
    (world.frozen / "file").write_bytes(b"frozen")
    os.symlink("/mnt/frozen/file", world.disk / "srv/link")
    assert read(tree, "/srv/link") == b"frozen"
    for change in (
        lambda: write(tree, "/mnt/frozen/file", b"x"),
        lambda: write(tree, "/srv/link", b"x"),
        lambda: tree.mkdir(("mnt", "frozen", "new"), mode=0o755, parents=True),
        lambda: tree.remove(("mnt", "frozen", "file"), recursive=True),
        lambda: tree.rename(("mnt", "frozen", "file"), ("srv", "file")),
        lambda: tree.rename(("etc", "hostname"), ("mnt", "frozen", "file")),
    ):
        with pytest.raises(Forbidden, match="read-only"):
            change()
    assert (world.frozen / "file").read_bytes() == b"frozen"
    with Tree(View(world.disk, readonly=True)) as frozen, pytest.raises(Forbidden):
        write(frozen, "/srv/x", b"x")


# Listing, making, moving, removing


def test_list_goes_as_deep_as_asked_and_shows_links_as_links(world: World, tree: Tree):
    (world.disk / "srv/a/b/c").mkdir(parents=True)
    os.symlink("/etc", world.disk / "srv/etc")
    assert [i.path for i in tree.list(("srv",), 1).items] == ["/srv/a", "/srv/etc"]
    assert [i.path for i in tree.list(("srv",), 3).items] == ["/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/etc"]
    link = tree.list(("srv",), 1).items[1]
    assert (link.kind, link.target) == (FileKind.SYMLINK, "/etc")
    assert [i.path for i in tree.list(("srv", "etc"), 1).items] == ["/srv/etc/hostname"]
    with pytest.raises(Invalid):
        tree.list(("etc", "hostname"), 1)


def test_a_long_list_is_cut_and_says_so(world: World, tree: Tree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skerry.agent.files.tree.LIST_ENTRIES_MAX", 10)
    for n in range(12):
        (world.disk / f"srv/{n}").write_bytes(b"")
    found = tree.list(("srv",), 1)
    assert found.truncated
    assert len(found.items) == 10


def test_names_that_are_not_utf8_or_hostile_times_do_not_break_an_answer(world: World, tree: Tree):
    strange = os.fsencode(world.disk / "srv") + b"/caf\xe9"
    with open(strange, "wb"):
        pass
    os.utime(strange, (2**33, 2**33))
    found = tree.list(("srv",), 1)
    assert found.items[0].name == "caf\\xe9"
    assert '"caf\\\\xe9"' in found.model_dump_json()
    assert tree.stat(("srv", os.fsdecode(b"caf\xe9"))).kind is FileKind.FILE


def test_long_names_and_deep_folders(world: World, tree: Tree):
    name = "n" * 255
    write(tree, f"/srv/{name}", b"long")
    assert read(tree, f"/srv/{name}") == b"long"
    deep = "/srv" + "/d" * 200
    write(tree, f"{deep}/file", b"deep")
    assert read(tree, f"{deep}/file") == b"deep"
    tree.remove(("srv", "d"), recursive=True)
    assert [p.name for p in (world.disk / "srv").iterdir()] == [name]


def test_a_chain_far_deeper_than_any_path_is_removed_with_few_descriptors(world: World, tree: Tree):
    before = open_descriptors()
    here = os.open(world.disk / "srv", os.O_RDONLY)
    os.mkdir("top", dir_fd=here)
    for name in ["top"] + ["x" * 100] * 600:
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.mkdir("x" * 100, dir_fd=below)
        os.close(here)
        here = below
    os.close(here)
    tree.remove(("srv", "top"), recursive=True)
    assert list((world.disk / "srv").iterdir()) == []
    assert open_descriptors() <= before + 1


def test_mkdir(world: World, tree: Tree):
    info = tree.mkdir(("srv", "a", "b"), mode=0o1777, parents=True)
    assert (info.kind, info.mode, info.uid) == (FileKind.DIRECTORY, "1777", 0)
    assert tree.mkdir(("srv", "a", "b"), mode=0o700, parents=True).mode == "1777", "as mkdir -p: left as it is"
    with pytest.raises(AlreadyExists):
        tree.mkdir(("srv", "a"), mode=0o755, parents=False)
    with pytest.raises(AlreadyExists):
        tree.mkdir(("etc", "hostname"), mode=0o755, parents=True)
    with pytest.raises(NotFound):
        tree.mkdir(("srv", "x", "y"), mode=0o755, parents=False)


def test_rename(world: World, tree: Tree):
    write(tree, "/srv/a", b"a")
    write(tree, "/srv/full/b", b"b")
    (world.disk / "srv/empty").mkdir()
    assert tree.rename(("srv", "a"), ("srv", "c")).path == "/srv/c"
    assert tree.rename(("srv", "c"), ("srv", "full", "b")).size_bytes == 1
    assert read(tree, "/srv/full/b") == b"a"
    with pytest.raises(Conflict, match="not empty"):
        tree.rename(("srv", "empty"), ("srv", "full"))
    with pytest.raises(Conflict, match="is a directory"):
        tree.rename(("srv", "full", "b"), ("srv", "empty"))
    with pytest.raises(Invalid, match="into itself"):
        tree.rename(("srv", "full"), ("srv", "full", "below"))
    with pytest.raises(Invalid, match="different file systems") as caught:
        tree.rename(("srv", "full"), ("mnt", "share", "full"))
    assert caught.value.field == "target"
    with pytest.raises(NotFound):
        tree.rename(("srv", "none"), ("srv", "x"))
    with pytest.raises(InUse):
        tree.rename(("mnt",), ("srv", "mnt"))
    assert tree.rename(("srv", "full"), ("srv", "empty")).kind is FileKind.DIRECTORY
    os.symlink("/etc/hostname", world.disk / "srv/link")
    tree.rename(("srv", "link"), ("srv", "moved"))
    assert os.readlink(world.disk / "srv/moved") == "/etc/hostname"


def test_remove_takes_links_and_never_what_they_lead_to(world: World, tree: Tree):
    (world.disk / "srv/tree/sub").mkdir(parents=True)
    os.symlink(world.top, world.disk / "srv/tree/host")
    os.symlink("/etc", world.disk / "srv/tree/sub/etc")
    os.mkfifo(world.disk / "srv/tree/fifo")
    with pytest.raises(Conflict, match="recursive"):
        tree.remove(("srv", "tree"), recursive=False)
    tree.remove(("srv", "tree"), recursive=True)
    assert not (world.disk / "srv/tree").exists()
    assert (world.disk / "etc/hostname").exists()
    assert world.secret.read_bytes() == SECRET
    os.symlink("/etc", world.disk / "srv/link")
    tree.remove(("srv", "link"), recursive=True)
    assert (world.disk / "etc/hostname").exists()
    with pytest.raises(Invalid):
        tree.remove((), recursive=True)
    with pytest.raises(NotFound):
        tree.remove(("srv", "none"), recursive=True)
    with pytest.raises(InUse):
        tree.remove(("mnt",), recursive=True)


# Under attack


def test_a_name_that_is_swapped_all_the_time_never_leads_to_the_host(world: World):
    """A folder that flips between itself and a link to the host's folder, and a file that flips with a link to the
    secret, while both are read, written and removed."""
    (world.disk / "srv/real").mkdir()
    (world.disk / "srv/real/secret").write_bytes(b"guest's own")
    os.symlink(world.top, world.disk / "srv/evil")
    os.symlink(world.secret, world.disk / "srv/evil-file")
    stop = threading.Event()

    def swap() -> None:
        srv = os.open(world.disk / "srv", os.O_RDONLY)
        while not stop.is_set():
            for name in ("real", "evil", "real"):
                try:
                    os.rename(name, "now", src_dir_fd=srv, dst_dir_fd=srv)
                    os.rename("now", name, src_dir_fd=srv, dst_dir_fd=srv)
                except OSError:
                    pass
            try:
                os.symlink(world.secret, "file", dir_fd=srv)
                os.unlink("file", dir_fd=srv)
            except OSError:
                pass
        os.close(srv)

    before = world.outside()
    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes] = set()
    codes: set[str] = set()
    tries = 0
    try:
        enough_s = time.monotonic() + 2
        while time.monotonic() < enough_s or tries < 1000:
            with Tree(world.view) as tree:
                for attempt in (
                    lambda: seen.add(read(tree, "/srv/now/secret")),
                    lambda: seen.add(read(tree, "/srv/file")),
                    lambda: write(tree, "/srv/file", b"from us", parents=False),
                    lambda: write(tree, "/srv/now/made", b"from us", parents=False),
                    lambda: tree.remove(("srv", "now", "made"), recursive=True),
                    lambda: tree.list(("srv", "now"), 2),
                ):
                    tries += 1
                    try:
                        attempt()
                    except SkerryError as error:
                        codes.add(error.code)
    finally:
        stop.set()
        swapper.join()
    assert codes <= {"not_found", "invalid", "conflict", "already_exists"}
    assert SECRET not in seen
    assert seen <= {b"guest's own", b"from us"}
    assert world.outside() == before


def test_descriptors_are_given_back(world: World):
    before = open_descriptors()
    for _ in range(20):
        with Tree(world.view) as tree:
            write(tree, "/srv/a/b", b"x")
            read(tree, "/srv/a/b")
            tree.list((), 3)
            with pytest.raises(SkerryError):
                read(tree, "/none")
    assert open_descriptors() <= before + 1
