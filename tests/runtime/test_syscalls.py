"""The kernel calls that Python lacks do what their names say, tried on the real kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from skerry.runtime.container.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    exchange,
    idmapped_clone,
    openat2,
    pidfd_exit_code,
    umount,
    unshare_mount_namespace,
)

UID_BASE = 1_000_000


def test_openat2_stays_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("inside")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "up").symlink_to("../../../../../etc/hostname")
    folder = os.open(tmp_path, os.O_PATH)
    try:
        for name in ("link", "up"):
            opened = openat2(folder, name, os.O_RDONLY, resolve=RESOLVE_IN_ROOT)
            assert os.read(opened, 10) == b"inside"
            assert not os.get_inheritable(opened)
            os.close(opened)
            with pytest.raises(OSError) as refused:
                openat2(folder, name, os.O_RDONLY, resolve=RESOLVE_BENEATH)
            assert refused.value.errno == errno.EXDEV
        with pytest.raises(FileNotFoundError):
            openat2(folder, "missing", os.O_RDONLY, resolve=RESOLVE_IN_ROOT)
    finally:
        os.close(folder)


def test_exchange_swaps_two_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("file")
    exchange(one, other)
    assert one.read_text() == "file"
    assert other.is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "missing")


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)])
def test_a_pidfd_tells_how_a_process_ended_that_was_reaped_by_another(script: str, code: int) -> None:
    process = subprocess.Popen(["sh", "-c", f"read wait; {script}"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(process.pid)
    try:
        assert pidfd_exit_code(pidfd) is None
        process.communicate(b"\n")
        release = os.uname().release.split("-")[0].split(".")
        if (int(release[0]), int(release[1])) >= (6, 15):
            assert pidfd_exit_code(pidfd) == code
        else:
            assert pidfd_exit_code(pidfd) in (None, code)
    finally:
        os.close(pidfd)


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_idmapped_clone_shifts_ids_both_ways_and_leaves_the_original_alone(tmp_path: Path) -> None:
    unshare_mount_namespace()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "roots").touch()
    hold = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo in; read wait"], stdin=-1, stdout=-1)
    assert hold.stdout is not None
    assert hold.stdout.readline() == b"in\n"
    for file in ("uid_map", "gid_map"):
        Path(f"/proc/{hold.pid}/{file}").write_text(f"0 {UID_BASE} 65536\n")
    with open(f"/proc/{hold.pid}/ns/user", "rb") as namespace:
        idmapped_clone(source, target, namespace.fileno())
    try:
        assert (target / "roots").stat().st_uid == UID_BASE
        enter = ["nsenter", f"--user=/proc/{hold.pid}/ns/user", "touch", "guests"]
        subprocess.run(enter, check=True, cwd=target)
        assert (source / "guests").stat().st_uid == 0
        with pytest.raises(OSError) as refused:
            (target / "hosts").touch()  # an id of the host has no name in there
        assert refused.value.errno == errno.EOVERFLOW
        flags = os.statvfs(target).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
    finally:
        assert umount(target)
        assert not umount(target)
        hold.communicate(b"\n")
