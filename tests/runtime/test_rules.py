"""The parts of the container runtime that decide without a sandbox: filter, ioctls, accounts, crun's words, /proc."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Conflict, Failed, Invalid, NoRoom
from skerry.runtime.container.crun import complaint, error_of, exit_code_of, parse_version
from skerry.runtime.container.exec import family
from skerry.runtime.container.guest_tree import GuestTree
from skerry.runtime.container.ioctls import FICLONE, FICLONERANGE, FIDEDUPERANGE, TIOCLINUX, TIOCSTI, allowed_ioctls
from skerry.runtime.container.seccomp import REFUSED, profile
from skerry.runtime.container.user_namespaces import owner_is

# ioctls


CUBES = allowed_ioctls()


def allowed(request: int) -> bool:
    return any(request & cube.mask == cube.value for cube in CUBES)


def test_every_request_but_the_forbidden_is_allowed() -> None:
    refused = {low for low in range(1 << 16) if not allowed(low)}
    assert refused == {*range(0x9400, 0x9500), TIOCSTI, TIOCLINUX}


def test_direction_and_size_make_no_difference() -> None:
    for upper in (0x0000, 0x5000, 0x8030, 0xC010, 0xFFFF):
        assert not allowed(upper << 16 | 0x940E)
        assert not allowed(upper << 16 | TIOCSTI)
        assert allowed(upper << 16 | 0x5413)


def test_reflinks_are_allowed() -> None:
    assert all(map(allowed, (FICLONE, FICLONERANGE, FIDEDUPERANGE)))


# seccomp


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_nothing_is_both_allowed_and_refused(machine: str) -> None:
    rules = profile(machine)["syscalls"]
    allowed_names = [name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]]
    assert not set(allowed_names) & set(REFUSED.split())
    plain = [name for rule in rules if not rule.get("args") for name in rule["names"]]
    assert len(plain) == len(set(plain))
    with_conditions = {name for rule in rules if rule.get("args") for name in rule["names"]}
    assert not with_conditions & set(plain), "an unconditional rule would swallow the conditions"


def test_no_rule_has_two_conditions_on_one_argument() -> None:
    for rule in profile("x86_64")["syscalls"]:
        indexes = [condition["index"] for condition in rule.get("args", [])]
        assert len(indexes) == len(set(indexes)), rule


def test_dangerous_calls_are_not_allowed() -> None:
    rules = profile("x86_64")["syscalls"]
    names = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert not names & {"clone3", "io_uring_setup", "mount", "unshare", "setns", "bpf", "keyctl", "kexec_load"}


def test_without_auditing_as_a_kernel_that_has_none() -> None:
    """useradd and groupadd give up on any other answer."""
    [rule] = [rule for rule in profile("x86_64")["syscalls"] if rule.get("errnoRet") == errno.EPROTONOSUPPORT]
    assert (rule["names"], [each["value"] for each in rule["args"]]) == (["socket"], [socket.AF_NETLINK, 9])


# Accounts in the guest


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\nbig:x:70000:0::/:/bin/sh\nbroken\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nann:x:1001:\naudio:x:29:bob,ann\nstaff:x:50:ann\nbad:x:y:ann\n")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("root", (0, 0, (), "/root")),
        ("ann", (1000, 1001, (29, 50), "/home/ann")),
        ("1000", (1000, 1001, (29, 50), "/home/ann")),
        ("ann:staff", (1000, 50, (), "/home/ann")),
        ("ann:7", (1000, 7, (), "/home/ann")),
        ("4242", (4242, 0, (), "/")),
        ("4242:4343", (4242, 4343, (), "/")),
    ],
)
def test_identity(disk: Path, user: str, expected: tuple[object, ...]) -> None:
    with GuestTree(disk) as tree:
        who = tree.identity(user, field="user")
    assert (who.uid, who.gid, who.groups, who.home) == expected


@pytest.mark.parametrize("user", ["bob", "ann:nobody", "70000", "big", "1:65536"])
def test_identity_refused(disk: Path, user: str) -> None:
    with GuestTree(disk) as tree, pytest.raises(Invalid) as caught:
        tree.identity(user, field="user")
    assert caught.value.field == "user"


def test_root_needs_no_accounts(tmp_path: Path) -> None:
    with GuestTree(tmp_path) as tree:
        assert tree.identity("root", field="user").uid == 0


def test_hostile_accounts(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("evil:x:0:0::/:/bin/sh\n")
    (disk / "etc/passwd").unlink()
    for trap in (str(outside), f"../../../../../../..{outside}", "/proc/self/root" + str(outside)):
        (disk / "etc/passwd").unlink(missing_ok=True)
        (disk / "etc/passwd").symlink_to(trap)
        with GuestTree(disk) as tree, pytest.raises(Invalid):
            tree.identity("evil", field="user")
    (disk / "etc/passwd").unlink()
    os.mkfifo(disk / "etc/passwd")  # opening it must not wait for a writer
    with GuestTree(disk) as tree, pytest.raises(Invalid):
        tree.identity("evil", field="user")


def test_programs_are_looked_for_as_the_guest_would(disk: Path) -> None:
    for name in ("bin", "srv"):
        (disk / name).mkdir()
    (disk / "bin/tool").write_text("#!/bin/sh\n")
    (disk / "bin/tool").chmod(0o755)
    (disk / "bin/text").write_text("text")
    (disk / "srv/link").symlink_to("/bin/tool")
    with GuestTree(disk) as tree:

        def runs(command: str, workdir: str = "/") -> bool:
            return tree.can_run(command, path_variable="/nowhere:/bin", workdir=workdir)

        assert runs("tool")
        assert runs("/bin/tool")
        assert runs("./link", workdir="/srv")
        assert not runs("text")
        assert not runs("/bin")
        assert not runs("missing")


# What crun says


def test_complaints_are_read_and_removed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"msg":"a warning","level":"warning"}\nnot json\n{"msg":"it broke\\n","level":"error"}\n')
    assert complaint(log) == "it broke"
    assert not log.exists()
    assert complaint(log) is None
    log.write_text("")
    assert complaint(log) is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", 127),
        ("open executable: Permission denied", 126),
        ("open executable: Operation not permitted", 126),
        ("open executable: Too many levels of symbolic links", 126),
        ("exec: Argument list too long", 126),
        ("exec container process `/x`: Exec format error", 126),
        ("chdir `/nope`: No such file or directory", None),
        ("the container `sb` is not running", None),
    ],
)
def test_exit_codes(words: str, code: int | None) -> None:
    assert exit_code_of(words) == code


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("chdir `/nope`: No such file or directory", Invalid),
        ("mkdir `/x`: Disk quota exceeded", NoRoom),
        ("container `sb` does not exist", Conflict),
        ("openat2 `etc`: No such file or directory", Invalid),
        ("something new", Failed),
        (None, Failed),
    ],
)
def test_errors(words: str | None, kind: type[Exception]) -> None:
    assert type(error_of(words, what="it cannot start")) is kind


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("crun version 1.8.1\ncommit: x\n", (1, 8, 1)),
        ("crun version 1.21\n", (1, 21)),
        ("crun version v1.9\n", (1, 9)),
        ("runc version 1.1\n", None),
        ("", None),
    ],
)
def test_version(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


# Processes


def test_family_is_session_and_descendants() -> None:
    script = "sleep 100 & echo $!; setsid sleep 100 & echo $!; read wait; kill %1 %2"
    shell = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert shell.stdout is not None
    children = [int(shell.stdout.readline()) for _ in range(2)]
    pids = [*children, shell.pid, os.getpid(), 2**22 - 1]
    try:
        found = family(pids, {shell.pid})
        assert found[0] == shell.pid  # parents first
        assert set(found) == {shell.pid, *children}
        assert family(pids, {2**22 - 1}) == []
    finally:
        for pid in (*children, shell.pid):
            os.kill(pid, 9)
        shell.communicate()


# Ids of a host folder


@given(owner=st.integers(0, 12) | st.integers(60, 2**31), guest=st.integers(0, 9), count=st.just(10))
def test_an_owner_trades_places_with_the_user_of_the_sandbox(owner: int, guest: int, count: int) -> None:
    extents = owner_is(owner, guest, base=1000, count=count)
    seen = {first + n: there + n - 1000 for first, there, length in extents for n in range(length)}
    assert sum(length for *_, length in extents) == len(seen) == len(set(seen.values())), "no id twice"
    expected = {each: each for each in range(count)} | {guest: owner} | {owner: guest}
    if owner >= count and owner != guest:
        del expected[guest]
    assert seen == expected
    assert len(extents) <= 5
