"""Attacks from inside a real sandbox: one test for each thing that it must not be able to do to its host."""

from __future__ import annotations

import os
import platform
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.errors import Invalid
from skerry.model.sandbox import MIB, ExitReason
from skerry.runtime.container.oci import CAPABILITIES, MASKED
from tests.runtime.conftest import IMAGE, UID_COUNT, Machine
from tests.runtime.guest import ioctl, syscall, tiny_program

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86-64")

CAPABILITY_NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_CHROOT": 18,
    "CAP_SETFCAP": 31,
}
CAPABILITY_MASK = sum(1 << number for number in CAPABILITY_NUMBERS.values())
NEW_USER = 0x1000_0000

REFUSED_CALLS = {
    "mount": (165, "none", "/mnt", "tmpfs", 0, 0),
    "umount2": (166, "/proc", 2),
    "pivot_root": (155, "/", "/"),
    "unshare": (272, NEW_USER),
    "setns": (308, 0, 0),
    "swapon": (167, "/x", 0),
    "reboot": (169, 0, 0, 0, 0),
    "sethostname": (170, "x", 1),
    "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "add_key": (248, "user", "x", "y", 1, 0),
    "keyctl": (250, 0, 0, 0, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "acct": (163, 0),
    "syslog": (103, 10, 0, 0),
    "settimeofday": (164, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "open_by_handle_at": (304, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "userfaultfd": (323, 0),
    "open_tree": (428, -100, "/", 1),
    "move_mount": (429, 0, "", 0, "", 0),
    "fsopen": (430, "tmpfs", 0),
    "mount_setattr": (442, 0, "", 0, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "process_madvise": (440, 0, 0, 0, 0, 0),
}
ABSENT_CALLS = {
    "io_uring_setup": (425, 1, 0),
    "io_uring_enter": (426, 0, 0, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "clone with a new user namespace": (56, NEW_USER | 17, 0, 0, 0, 0),
    "clone with a new mount namespace": (56, 0x20000 | 17, 0, 0, 0, 0),
    "modify_ldt": (154, 0, 0, 0),
}
REFUSED_SOCKETS = {
    "AF_PACKET": (17, 3, 0),
    "AF_ALG": (38, 5, 0),
    "AF_VSOCK": (40, 1, 0),
    "AF_BLUETOOTH": (31, 3, 1),
    "netlink audit": (16, 3, 9),
    "netlink netfilter": (16, 3, 12),
}
BTRFS_REQUESTS = {
    "snapshot": 0x5000_9401,
    "subvolume": 0x5000_940E,
    "snapshot v2": 0x5000_9417,
    "subvolume v2": 0x5000_9418,
    "set received": 0xC0C8_9425,
    "quota off": 0xC010_9428,
    "quota limit": 0x8030_942B,
    "encoded write": 0x4080_9440,
}
DEVICES = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"} | {
    "tty",
    "urandom",
    "zero",
}


@pytest.fixture(scope="module")
def shared(module_machine: Machine) -> Iterator[tuple[Machine, str]]:
    """One sandbox for the attacks that leave no trace in it."""
    machine = module_machine.keep()
    yield machine, machine.box()
    machine.clean()


Shared = tuple[Machine, str]


# Who it is


def test_root_is_nobody_outside(machine: Machine) -> None:
    one, other = machine.slot(), machine.slot()
    boxes = []
    for slot in (one, other):
        box = machine.new_id()
        machine.run(machine.runtime.create_disk(box, IMAGE, None))
        machine.run(machine.runtime.start(machine.plan(box, slot), machine.collect(box)))
        boxes.append(box)
    maps = [machine.exec(box, "cat", "/proc/self/uid_map", "/proc/self/gid_map")[1].split() for box in boxes]
    for slot, found in zip((one, other), maps, strict=True):
        assert found == ["0", str(slot.uid_base), str(UID_COUNT)] * 2
    assert maps[0] != maps[1]


@pytest.mark.parametrize("process", ["self", "1"])
def test_capabilities_are_the_listed_ones(shared: Shared, process: str) -> None:
    machine, box = shared
    assert set(CAPABILITIES) == CAPABILITY_NUMBERS.keys()
    status = status_of(machine, box, process)
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == int(status["CapPrm"], 16) == CAPABILITY_MASK
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0


def test_another_user_has_no_capabilities(shared: Shared) -> None:
    status = status_of(*shared, "self", user="nobody")
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapAmb"], 16) == 0
    assert int(status["CapBnd"], 16) == CAPABILITY_MASK


@pytest.mark.parametrize("process", ["self", "1"])
def test_no_new_privileges_and_a_filter(shared: Shared, process: str) -> None:
    status = status_of(*shared, process)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def status_of(machine: Machine, box: str, process: str, **wanted: object) -> dict[str, str]:
    _, text = machine.exec(box, "cat", f"/proc/{process}/status", **wanted)
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


# What it may ask of the kernel


@x86_64_only
@pytest.mark.parametrize("name", REFUSED_CALLS)
def test_call_is_refused(shared: Shared, name: str) -> None:
    assert syscall(*shared, *REFUSED_CALLS[name]) == "EPERM"


@x86_64_only
@pytest.mark.parametrize("name", ABSENT_CALLS)
def test_call_is_absent(shared: Shared, name: str) -> None:
    assert syscall(*shared, *ABSENT_CALLS[name]) == "ENOSYS"


@x86_64_only
@pytest.mark.parametrize("name", REFUSED_SOCKETS)
def test_socket_is_refused(shared: Shared, name: str) -> None:
    # What a kernel without auditing answers: useradd goes on after that, and stops at anything else.
    wanted = "EPROTONOSUPPORT" if name == "netlink audit" else "ENOSYS"
    assert syscall(*shared, 41, *REFUSED_SOCKETS[name]) == wanted


@x86_64_only
def test_sockets_that_programs_need_work(shared: Shared) -> None:
    for family, kind, protocol in ((1, 1, 0), (2, 1, 0), (2, 2, 0), (10, 1, 0), (16, 3, 0), (16, 3, 4)):
        assert syscall(*shared, 41, family, kind, protocol) == "ok"
    assert syscall(*shared, 41, 2, 3, 1) == "EPERM"  # raw: no CAP_NET_RAW
    assert syscall(*shared, 41, 2, 2, 1) == "ok"  # ping without it


@x86_64_only
def test_32_bit_calls_kill(machine: Machine) -> None:
    box = machine.box()
    # mov eax, 20 (getpid); int 0x80; xor edi, edi; mov eax, 60 (exit); syscall
    program = tiny_program(bytes.fromhex("b814000000cd8031ffb83c0000000f05"))
    assert machine.exec(box, "sh", "-c", "cat > /tmp/x && chmod 755 /tmp/x", stdin=program)[0] == 0
    assert machine.exec(box, "/tmp/x")[0] == 128 + 31


@x86_64_only
def test_calls_of_the_x32_table_kill(shared: Shared) -> None:
    machine, box = shared
    assert machine.exec(box, "perl", "-e", f"syscall({0x4000_0000 + 39});")[0] == 128 + 31


@x86_64_only
@pytest.mark.parametrize("name", BTRFS_REQUESTS)
def test_btrfs_request_is_refused(shared: Shared, name: str) -> None:
    request = BTRFS_REQUESTS[name]
    assert ioctl(*shared, "/root", request) == "ENOSYS"
    assert syscall(*shared, 16, 0, request | 1 << 40, 0) == "ENOSYS"  # the kernel does not look at the upper half


def test_reflinks_work(machine: Machine) -> None:
    box = machine.box()
    script = "head -c 1000000 /dev/urandom > /root/a && cp --reflink=always /root/a /root/b && cmp /root/a /root/b"
    assert machine.sh(box, script) == (0, "")


@x86_64_only
def test_terminal_cannot_be_typed_into(shared: Shared) -> None:
    machine, box = shared
    script = 'print ioctl(STDIN, 0x5413, $b = "\\0" x 8) ? "size" : $! + 0, " ";'
    script += "".join(f'print ioctl(STDIN, {number}, $c = "x") ? "typed" : $! + 0, " ";' for number in (0x5412, 0x541C))
    _, output = machine.exec(box, "perl", "-e", script, tty=True)
    assert output.split() == ["size", "38", "38"]


# What it sees


@pytest.mark.parametrize("path", MASKED)
def test_path_tells_nothing(shared: Shared, path: str) -> None:
    machine, box = shared
    script = f"if test -d {path}; then ls -A {path}; elif test -e {path}; then head -c 100 {path}; fi"
    _, out, _ = machine.run(machine.exec_async(box, "sh", "-c", script))
    assert out == b""


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/.skerry/init",
        "/.skerry/new",
    ],
)
def test_path_cannot_be_written(shared: Shared, path: str) -> None:
    machine, box = shared
    code, output = machine.sh(box, f"echo 1 > {path}")
    assert code != 0, output


def test_system_mounts_stay_read_only(shared: Shared) -> None:
    machine, box = shared
    _, mounts = machine.exec(box, "cat", "/proc/self/mounts")
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split()
        words = options.split(",")
        if target.startswith(("/sys", "/proc/sys", "/proc/bus")) and kind not in ("tmpfs", "devtmpfs"):
            assert "ro" in words, line
        if target == "/":
            assert {"nosuid", "nodev"} <= set(words), line


def test_devices_are_the_listed_ones(shared: Shared) -> None:
    machine, box = shared
    assert set(machine.exec(box, "ls", "/dev")[1].split()) == DEVICES
    assert (
        machine.sh(box, "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c")[1]
        == "3\n1\n"
    )


def test_device_nodes_cannot_be_made(shared: Shared) -> None:
    machine, box = shared
    for kind in ("c 1 3", "b 7 0", "c 10 229"):
        assert machine.sh(box, f"mknod /tmp/node {kind}")[0] != 0
    assert machine.sh(box, "mkfifo /tmp/fifo && rm /tmp/fifo")[0] == 0


def test_device_nodes_of_an_image_are_dead(machine: Machine) -> None:
    box = machine.new_id()
    machine.run(machine.runtime.create_disk(box, IMAGE, None))
    disk = machine.runtime.disk_path(box)
    os.mknod(disk / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(disk / "loop", 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    machine.box(box)
    for name in ("null", "loop"):
        assert "Permission denied" in machine.exec(box, "cat", f"/{name}")[1]


def test_host_device_is_not_given_away(machine: Machine) -> None:
    """crun 1.8 gives the guest's root the files it gets as stdio: /dev/null must not be one."""
    before = os.stat("/dev/null")
    box = machine.box(command=["sleep", "1000"])
    machine.exec(box, "true")
    machine.exec(box, "true", stdin=b"x")
    machine.exec(box, "true", tty=True)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_uid == 0
    assert machine.sh(box, "chmod 600 /dev/null /dev/zero /dev/tty")[0] != 0


def test_no_descriptor_leaks(machine: Machine) -> None:
    box = machine.box(command=["sh", "-c", "ls /proc/self/fd; sleep 1000"])
    # 3 is the folder that ls reads
    assert machine.exec(box, "ls", "/proc/self/fd")[1].split() == ["0", "1", "2", "3"]
    assert machine.said(box, 4) == ["0", "1", "2", "3"]
    _, links = machine.sh(box, "ls -l /proc/1/fd /proc/self/fd | grep -v -e pipe: -e /fifo/ -e /proc/ -e anon_inode:")
    assert "->" not in links


def test_host_processes_are_out_of_sight_and_reach(shared: Shared) -> None:
    machine, box = shared
    _, names = machine.sh(box, "cat /proc/[0-9]*/comm")
    assert set(names.split()) <= {"init", "catatonit", "sh", "cat"}
    assert machine.sh(box, f"kill -0 {os.getpid()}")[0] != 0
    assert machine.exec(box, "cat", "/proc/self/cgroup")[1].count("skerry") == 0


def test_environment_of_the_host_stays_out(shared: Shared) -> None:
    machine, box = shared
    _, main = machine.sh(box, "tr '\\0' '\\n' < /proc/1/environ")
    assert {line.partition("=")[0] for line in main.split("\n") if line} <= {"PATH", "HOME"}


def test_there_is_no_ipv6(shared: Shared) -> None:
    machine, box = shared
    assert machine.exec(box, "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6")[1] == "1\n"


# How much it may take


def test_fork_bomb_hits_the_limit(machine: Machine) -> None:
    box, other = machine.box(pids=24), machine.box()
    machine.sh(box, "for i in $(seq 100); do sleep 1000 & done")
    assert machine.run(machine.runtime.usage(box)).pids <= 24
    assert machine.sh(other, "echo fine") == (0, "fine\n")
    machine.run(machine.runtime.stop(box, 0))


def test_memory_hog_is_killed_and_reported(machine: Machine) -> None:
    hog = ["perl", "-e", '$x = "a" x (200 * 1024 * 1024); sleep 1000']
    box = machine.box(command=hog, memory=64 * MIB)
    ended = machine.run(machine.runtime.wait(box))
    assert (ended.code, ended.reason) == (137, ExitReason.OOM)


def test_memory_hog_in_an_exec_leaves_the_sandbox_running(machine: Machine) -> None:
    box = machine.box(memory=64 * MIB)
    assert machine.exec(box, "perl", "-e", '$x = "a" x (200 * 1024 * 1024)')[0] == 137
    assert machine.run(machine.runtime.usage(box)).oom_kills >= 1
    assert machine.sh(box, "head -c 200000000 /dev/zero > /dev/shm/x")[0] != 0  # shared memory counts too
    assert machine.sh(box, "echo alive") == (0, "alive\n")


def test_commands_go_before_the_hosts_programs_when_memory_runs_out(shared: Shared) -> None:
    machine, box = shared
    before = Path("/proc/self/oom_score_adj").read_text()
    scores = {machine.exec(box, "cat", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj")[1] for _ in range(50)}
    assert scores == {"500\n500\n"}
    assert Path("/proc/self/oom_score_adj").read_text() == before


def test_cpu_quota_holds(machine: Machine) -> None:
    box = machine.box(cpu=0.2)
    before_s, began_s = machine.run(machine.runtime.usage(box)).cpu_s, time.monotonic()
    machine.exec(box, "timeout", "1.5", "sh", "-c", "while :; do :; done")
    used_s, lasted_s = machine.run(machine.runtime.usage(box)).cpu_s - before_s, time.monotonic() - began_s
    assert 0 < used_s < 0.3 + 0.2 * lasted_s


def test_disk_limit_holds_and_hurts_nobody_else(machine: Machine) -> None:
    box, other = machine.box(disk=32 * MIB), machine.box(disk=64 * MIB)
    code, output = machine.sh(box, "head -c 100000000 /dev/urandom > /root/fill")
    assert code != 0
    assert "quota" in output.lower() or "space" in output.lower()
    assert machine.run(machine.runtime.usage(box)).disk_bytes <= 40 * MIB
    assert machine.sh(box, "rm /root/fill && sync && echo small > /root/small")[0] == 0
    assert machine.sh(other, "head -c 20000000 /dev/urandom > /root/fine && sync")[0] == 0


def test_terminals_are_bounded(shared: Shared) -> None:
    machine, box = shared
    assert "max=256" in machine.sh(box, "grep devpts /proc/self/mounts")[1]


# Traps on its disk


def test_links_cannot_redirect_what_we_mount(machine: Machine) -> None:
    outside = machine.folder / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    box = machine.new_id()
    machine.run(machine.runtime.create_disk(box, IMAGE, None))
    disk = machine.runtime.disk_path(box)
    (disk / "etc").rename(disk / "etc.real")
    (disk / "etc").symlink_to(outside)
    for name in ("proc", "sys", "dev"):
        (disk / name).rename(disk / f"{name}.real")
        (disk / name).symlink_to(outside)
    (disk / ".skerry").symlink_to(f"../../../../../../..{outside}")
    (disk / "to").symlink_to(f"../../../../../../../..{outside}")
    shared_folder = machine.folder / "shared"
    shared_folder.mkdir()
    with pytest.raises(Invalid, match="mount"):  # the link leads nowhere
        machine.box(box, mounts=[{"source": str(shared_folder), "target": "/to/mounted"}])
    (disk / str(outside).lstrip("/")).mkdir(parents=True)  # now it leads to a place in the sandbox of that name
    machine.box(box, mounts=[{"source": str(shared_folder), "target": "/to/mounted"}])
    assert machine.sh(box, "echo alive", user="0")[1] == "alive\n"
    with pytest.raises(Invalid):
        machine.sh(box, "id", user="evil")
    assert sorted(entry.name for entry in outside.iterdir()) == ["passwd"]


def test_traps_in_place_of_small_files_do_not_hold_a_start(machine: Machine) -> None:
    box = machine.new_id()
    machine.run(machine.runtime.create_disk(box, IMAGE, None))
    etc = machine.runtime.disk_path(box) / "etc"
    for name in ("hosts", "hostname", "resolv.conf", "group", "passwd"):
        (etc / name).unlink(missing_ok=True)
    (etc / "hosts").mkdir()
    os.mkfifo(etc / "hostname")
    (etc / "resolv.conf").symlink_to("resolv.conf")
    os.mkfifo(etc / "passwd")
    (etc / "group").symlink_to("/dev/zero")
    machine.box(box)
    assert machine.sh(box, "echo alive") == (0, "alive\n")


def test_resolver_file_that_is_a_link_works(machine: Machine) -> None:
    box = machine.new_id()
    machine.run(machine.runtime.create_disk(box, IMAGE, None))
    etc = machine.runtime.disk_path(box) / "etc"
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").symlink_to("../run/resolver/stub.conf")
    machine.box(box)
    assert machine.exec(box, "cat", "/etc/resolv.conf")[1] == "nameserver 10.201.0.1\n"


# Folders of the host


def test_host_folder_keeps_its_ids_and_its_mode(machine: Machine) -> None:
    folder = machine.folder / f"host-{machine.new_id()}"
    folder.mkdir()
    (folder / "theirs").write_text("theirs")
    os.chown(folder / "theirs", 1234, 1234)
    mounts = [
        {"source": str(folder), "target": "/srv/rw"},
        {"source": str(folder), "target": "/srv/ro", "readonly": True},
    ]
    box = machine.box(mounts=mounts)
    assert machine.exec(box, "stat", "-c", "%u", "/srv/rw/theirs")[1] == "1234\n"
    assert machine.sh(box, "echo ours > /srv/rw/ours")[0] == 0
    assert ((folder / "ours").read_text(), (folder / "ours").stat().st_uid) == ("ours\n", 0)
    assert machine.sh(box, "echo x > /srv/ro/x")[0] != 0
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert machine.exec(box, "cat", "/srv/rw/null")[0] != 0


def test_host_folder_by_a_link_is_refused(machine: Machine) -> None:
    (machine.folder / "link").symlink_to("/etc")
    with pytest.raises(Invalid, match="real path"):
        machine.box(mounts=[{"source": str(machine.folder / "link"), "target": "/srv/x"}])
    (machine.folder / "link").unlink()


def test_guest_socket_folder_is_bound(machine: Machine) -> None:
    folder = Path(machine.folder, "run", "guest-test")
    folder.mkdir()
    (folder / "api.sock").touch()
    box = machine.box(guest_socket_folder=folder)
    assert machine.exec(box, "ls", "/.skerry/run")[1] == "api.sock\n"
    assert machine.sh(box, "touch /.skerry/run/x")[0] != 0  # it belongs to the host's root
