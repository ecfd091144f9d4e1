"""Trees as tar streams: what comes out other tools read, and what strangers send in stays in the guest's tree."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.agent.files.archive_in import Unpacked, Unpacker
from skerry.agent.files.archive_out import Packer
from skerry.agent.files.stream import make_pipe
from skerry.agent.files.tree import Tree
from skerry.agent.files.views import Parts, View, parse_path
from skerry.errors import Conflict, Invalid, NotFound, SkerryError, TooLarge
from tests.agent.files_world import SECRET, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the agent does")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def pack(view: View, path: str, name: str | None = None) -> bytes:
    parts = parse_path(path)
    read_end, write_end = make_pipe()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with write_end, Tree(view) as tree, tree.resolver.find(parts, follow=False) as spot:
                Packer(write_end.fileno()).pack(spot, name or parts[-1])
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    with open(os.dup(read_end.fileno()), "rb") as stream:
        data = stream.read()
    worker.join()
    if failed:
        raise failed[0]
    return data


def unpack(view: View, data: bytes, base: Parts = ("srv",), bytes_max: int = 10**9) -> Unpacked:
    with Tree(view) as tree:
        unpacker = Unpacker(tree, base, bytes_max=bytes_max)
        try:
            return unpacker.unpack(io.BufferedReader(io.BytesIO(data)))  # pyright: ignore[reportArgumentType]
        finally:
            unpacker.close()


Item = tuple[str, bytes, str | bytes]
"""name, type, and content or link target"""


def tar(
    *items: Item, format: int = tarfile.PAX_FORMAT, change: Callable[[tarfile.TarInfo], None] | None = None
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, kind, content in items:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            if kind == tarfile.REGTYPE:
                data = content if isinstance(content, bytes) else content.encode()
                info.size = len(data)
            else:
                data = b""
                info.linkname = str(content)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def content(folder: Path) -> dict[str, object]:
    """What a tree holds, in a form that two trees can be compared by."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        value: object = stat.S_IFMT(status.st_mode)
        if path.is_symlink():
            value = os.readlink(path)
        elif path.is_file():
            value = path.read_bytes()
        mode = 0 if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(folder))] = (value, mode, status.st_uid, status.st_gid, int(status.st_mtime))
    return found


def fill(folder: Path) -> None:
    (folder / "sub/deeper").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"content")
    (folder / "zero").write_bytes(b"")
    (folder / "large").write_bytes(os.urandom(300_001))
    (folder / ("n" * 255)).write_bytes(b"long name")
    long = folder / "/".join(["d" * 60] * 6)
    long.mkdir(parents=True)
    (long / ("e" * 120)).write_bytes(b"longer than ustar can say")
    (folder / "sub/grüße").write_bytes("ünïcode".encode())
    with open(os.fsencode(folder) + b"/sub/latin-\xe9", "wb") as file:
        file.write(b"not UTF-8")
    with open(os.fsencode(folder) + b"/sub/" + b"\xe9" * 150, "wb") as file:
        file.write(b"not UTF-8 and long")
    os.symlink("/etc/shadow", folder / "absolute")
    os.symlink("x" * 300, folder / "sub/long-link")
    os.link(folder / "file", folder / "sub/deeper/hard")
    (folder / "tool").write_bytes(b"#!/bin/sh\n")
    os.chown(folder / "tool", 1000, 65535)
    (folder / "tool").chmod(0o4751)
    os.utime(folder / "tool", (1_000_000_000, 1_000_000_000))
    os.utime(folder / "sub", (1_100_000_000, 1_100_000_000))


def test_a_tree_comes_back_as_it_was(world: World, tmp_path: Path):
    fill(world.disk / "srv/tree")
    data = pack(world.view, "/srv/tree")
    (world.disk / "copy").mkdir()
    done = unpack(world.view, data, ("copy",))
    assert content(world.disk / "copy/tree") == content(world.disk / "srv/tree")
    copied = (world.disk / "copy/tree/file").stat()
    assert copied.st_nlink == 2
    assert copied.st_ino == (world.disk / "copy/tree/sub/deeper/hard").stat().st_ino
    assert done.files == sum(1 for p in (world.disk / "srv/tree").rglob("*") if p.is_symlink() or p.is_file())


@pytest.mark.parametrize("tool", ["gnu", "python"])
def test_other_tools_read_our_archives(world: World, tmp_path: Path, tool: str):
    fill(world.disk / "srv/tree")
    data = pack(world.view, "/srv/tree")
    out = tmp_path / "out"
    out.mkdir()
    if tool == "gnu":
        subprocess.run(["tar", "-xpf", "-", "-C", str(out)], input=data, check=True)
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(out, filter="fully_trusted")
    found, expected = content(out / "tree"), content(world.disk / "srv/tree")
    assert found == expected


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
@pytest.mark.parametrize("packed", [False, True])
def test_we_read_other_tools_archives(world: World, tmp_path: Path, form: str, packed: bool):
    source = tmp_path / "source"
    fill(source)
    if form in ("ustar", "v7"):  # they cannot say long names
        for path in (source / ("n" * 255), source / "sub/long-link"):
            path.unlink()
        subprocess.run(["rm", "-rf", str(source / ("d" * 60))], check=True)
        os.unlink(os.fsencode(source) + b"/sub/" + b"\xe9" * 150)
    command = ["tar", "-cf", "-", f"--format={form}", *(["-z"] if packed else []), "-C", str(tmp_path), "./source"]
    data = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    unpack(world.view, data)
    assert content(world.disk / "srv/source") == content(source)


def test_sockets_pipes_and_devices_are_left_out(world: World):
    folder = world.disk / "srv/odd"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    (folder / "file").write_bytes(b"x")
    with tarfile.open(fileobj=io.BytesIO(pack(world.view, "/srv/odd"))) as archive:
        assert sorted(archive.getnames()) == ["odd", "odd/file"]


def test_one_file_a_link_and_the_root(world: World):
    os.symlink("/etc/hostname", world.disk / "srv/link")
    with tarfile.open(fileobj=io.BytesIO(pack(world.view, "/etc/hostname"))) as archive:
        assert archive.getnames() == ["hostname"]
    with tarfile.open(fileobj=io.BytesIO(pack(world.view, "/srv/link"))) as archive:
        assert archive.getmembers()[0].linkname == "/etc/hostname"
    with tarfile.open(fileobj=io.BytesIO(pack(world.view, "/", "root"))) as archive:
        assert {"root", "root/etc/hostname"} <= set(archive.getnames())
    with pytest.raises(NotFound):
        pack(world.view, "/srv/none")


@pytest.mark.parametrize("size", [10_000, 3_000_000])
def test_a_file_that_changes_size_while_it_is_packed_keeps_the_archive_whole(world: World, size: int):
    path = world.disk / "srv/file"
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            path.write_bytes(b"x" * size)
            os.truncate(path, size // 3)

    path.write_bytes(b"x" * size)
    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20):
            with tarfile.open(fileobj=io.BytesIO(pack(world.view, "/srv"))) as archive:
                assert [m.name for m in archive] == ["srv", "srv/file"]
                for member in archive.getmembers():
                    if member.isreg():
                        extracted = archive.extractfile(member)
                        assert extracted is not None
                        assert len(extracted.read()) == member.size
    finally:
        stop.set()
        changer.join()


@pytest.mark.parametrize(
    ("mtime", "ns"),
    [("7.000001", 7_000_001_000), ("7", 7 * 10**9), ("7.0000000019", 7_000_000_001), ("-1.5", 0)],
)
def test_times_of_an_archive_are_kept_with_their_fraction(world: World, mtime: str, ns: int):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("f")
        info.pax_headers = {"mtime": mtime}
        archive.addfile(info)
    unpack(world.view, data.getvalue())
    assert (world.disk / "srv/f").stat().st_mtime_ns == ns


# Attacks


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([("/etc/cron.d/x", FILE, "x")], "absolute"),
        ([("../secret", FILE, "x")], r"'\.\.'"),
        ([("a/../../secret", FILE, "x")], r"'\.\.'"),
        ([("x", HARD, "/etc/shadow")], "absolute"),
        ([("x", HARD, "../../secret")], r"'\.\.'"),
        ([("x", HARD, "not-there")], "does not exist"),
        ([("null", tarfile.CHRTYPE, "")], "device"),
        ([("disk", tarfile.BLKTYPE, "")], "device"),
        ([("pipe", tarfile.FIFOTYPE, "")], "device or pipe"),
        ([("d", FOLDER, ""), ("d/f", FILE, "x"), ("d", LINK, "/")], "replace a directory"),
        ([("d", FOLDER, ""), ("x", HARD, "d")], "directory"),
        ([("x", LINK, "")], "nothing"),
        ([("n" * 300, FILE, "x")], "255"),
    ],
)
def test_bad_members_are_refused_by_name(world: World, items: list[Item], words: str):
    before = world.outside()
    with pytest.raises((Invalid, NotFound, Conflict), match=words):
        unpack(world.view, tar(("good", FILE, "kept"), *items))
    assert (world.disk / "srv/good").read_bytes() == b"kept"
    assert world.outside() == before


def test_a_link_member_leads_within_the_guest_only(world: World):
    before = world.outside()
    up = "../" * 20
    unpack(
        world.view,
        tar(
            ("etc", LINK, "/etc"),
            ("etc/hostname", FILE, "through an absolute link\n"),
            ("up", LINK, up + "etc"),
            ("up/climbed", FILE, "through ..\n"),
            ("host", LINK, str(world.top)),
            ("secret", LINK, str(world.secret)),
            ("secret", FILE, "replaces the link"),
            ("alias", HARD, "host"),
        ),
    )
    assert world.outside() == before
    assert world.secret.read_bytes() == SECRET
    assert (world.disk / "etc/hostname").read_bytes() == b"through an absolute link\n"
    assert (world.disk / "etc/climbed").read_bytes() == b"through ..\n"
    with pytest.raises(NotFound):
        unpack(world.view, tar(("host/secret", FILE, "not the host's")))
    inside = world.disk / str(world.top).lstrip("/")
    inside.mkdir(parents=True)
    unpack(world.view, tar(("host/secret", FILE, "the guest's own")))
    assert (inside / "secret").read_bytes() == b"the guest's own"
    assert world.secret.read_bytes() == SECRET
    assert (world.disk / "srv/secret").read_bytes() == b"replaces the link"
    assert os.readlink(world.disk / "srv/alias") == str(world.top)


def test_a_folder_found_before_is_not_used_once_a_link_took_its_name(world: World):
    (world.disk / "srv/a").mkdir()
    (world.disk / "srv/b").mkdir()
    unpack(
        world.view,
        tar(("way", LINK, "a"), ("way/one", FILE, "1"), ("way", LINK, "b"), ("way/two", FILE, "2")),
    )
    assert [p.name for p in (world.disk / "srv/a").iterdir()] == ["one"]
    assert [p.name for p in (world.disk / "srv/b").iterdir()] == ["two"]


def test_a_folder_member_goes_through_a_link_to_a_folder(world: World):
    """Debian's /lib is a link to usr/lib: a layer with lib/x must not put a folder in its place."""
    (world.disk / "usr/lib").mkdir(parents=True)
    os.symlink("usr/lib", world.disk / "lib")
    unpack(world.view, tar(("lib", FOLDER, ""), ("lib/x", FILE, "x")), ())
    assert os.readlink(world.disk / "lib") == "usr/lib"
    assert (world.disk / "usr/lib/x").read_bytes() == b"x"


def test_ids_the_guest_does_not_have_become_root_without_setuid(world: World):
    def change(info: tarfile.TarInfo) -> None:
        info.uid, info.gid, info.mode = 3_000_000_000, 70_000, 0o6755

    unpack(world.view, tar(("tool", FILE, "x"), change=change))
    status = (world.disk / "srv/tool").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o755)


def test_limits_hold(world: World, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TooLarge):
        unpack(world.view, tar(("a", FILE, b"x" * 600), ("b", FILE, b"x" * 600)), bytes_max=1000)
    assert not (world.disk / "srv/b").exists()
    monkeypatch.setattr("skerry.agent.files.archive_in.MEMBERS_MAX", 3)
    with pytest.raises(TooLarge):
        unpack(world.view, tar(*((str(n), FILE, "x") for n in range(5))))


def test_a_bomb_in_gzip_is_stopped_by_what_it_holds(world: World):
    bomb = gzip.compress(tar(("zeros", FILE, bytes(50_000_000))))
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge):
        unpack(world.view, bomb, bytes_max=1_000_000)


def test_an_extended_header_of_any_size_is_not_read_into_memory(world: World):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 * 1024**3
    with pytest.raises(Invalid, match="extended header"):
        unpack(world.view, info.tobuf(tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"PK\3\4" + os.urandom(2000), "not a tar"),
        (b"x" * 100, "first header"),
        (b"\x1f\x8bgarbage and more", "gzip"),
        (gzip.compress(tar(("a", FILE, os.urandom(5000))))[:-2000], "cut off"),
        (tar(("a", FILE, b"x" * 5000))[:2000], "in the middle of a"),
        (tar(("a", FILE, "x"))[:1024] + b"\xff" * 512, "damaged"),
    ],
)
def test_what_is_not_a_whole_archive_is_refused(world: World, data: bytes, words: str):
    with pytest.raises(Invalid, match=words):
        unpack(world.view, data)
    assert {path.name for path in (world.disk / "srv").iterdir()} <= {"a"}


def test_damaged_archives_never_raise_anything_but_our_errors(world: World):
    data = bytearray(tar(("a", FILE, "x" * 700), ("n" * 150, FILE, "y"), ("l", LINK, "a"), format=tarfile.PAX_FORMAT))
    before = world.outside()
    for at in range(0, len(data), 37):
        broken = bytearray(data)
        broken[at] ^= 0x5A
        broken[(at * 7) % len(data)] ^= 0xFF
        try:
            unpack(world.view, bytes(broken))
        except SkerryError:
            pass
    assert world.outside() == before


def test_a_full_disk_stops_unpacking_in_words():
    disk = Path("/dev/shm") / f"skerry-unpack-{os.getpid()}"
    disk.mkdir()
    assert os.system(f"mount -t tmpfs -o size=64k none {disk}") == 0
    try:
        with pytest.raises(SkerryError, match="disk is full"):
            unpack(View(disk), tar(("big", FILE, bytes(1_000_000))), ())
        assert list(disk.iterdir()) == []
    finally:
        os.system(f"umount {disk}")
        disk.rmdir()
