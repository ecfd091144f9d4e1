"""SSH into real sandboxes with OpenSSH's own ssh, scp and sftp, and with rsync: what works, and who is kept out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncssh
import pytest

from skerry import Client, Sandbox
from skerry.model.sandbox import S
from tests.server import Server
from tests.system.conftest import IMAGE, free_port

SPEAK_TO_AGENT = (
    'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die "no agent: $!";'
    'print $s pack("NC", 1, 11); read($s, my $head, 5); my ($length, $kind) = unpack("NC", $head); print "$kind\n";'
)
"""Asks for the identities; the answer is of kind 12."""
ANSWER = (
    "use IO::Socket::INET;"
    'my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 8080, ReuseAddr => 1) or die;'
    'while (my $c = $l->accept) { my $line = <$c>; print $c "you said $line"; close $c }'
)


UNTIL_RESIZED = 'until [ "$(stty size)" = "44 55" ]; do sleep 0.1; done'


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


class Ssh(NamedTuple):
    """How to reach one sandbox with the programs of OpenSSH."""

    config: Path
    box: Sandbox

    def command(self, program: str, *words: str) -> list[str]:
        return [program, "-F", str(self.config), *words]

    def run(self, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        return self("ssh", "box", *words, **more)

    def __call__(self, program: str, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        given = {"text": True, "capture_output": True, "timeout": 60, "check": False, **more}
        if "input" not in given:
            given["stdin"] = subprocess.DEVNULL
        return subprocess.run(self.command(program, *words), **given)  # pyright: ignore

    @contextmanager
    def going(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        child = subprocess.Popen(self.command("ssh", *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            yield child
        finally:
            child.kill()
            child.communicate()


def reach(box: Sandbox, folder: Path, *, user: str | None = None, name: str | None = None) -> Ssh:
    """With a new key of that sandbox, logging in as `name` if given."""
    grant = box.ssh_key()
    key, known = folder / "key", folder / "known_hosts"
    key.write_text(grant.private_key)
    key.chmod(0o600)
    known.write_text(f"it {grant.host_key}\n")
    login = f"{name or grant.user}+{user}" if user else name or grant.user
    (folder / "config").write_text(
        f"Host box\n HostName {grant.host}\n Port {grant.port}\n User {login}\n IdentityFile {key}\n"
        f" IdentitiesOnly yes\n HostKeyAlias it\n UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n"
        " StrictHostKeyChecking yes\n BatchMode yes\n LogLevel ERROR\n SendEnv LANG\n"
    )
    return Ssh(folder / "config", box)


@pytest.fixture(scope="module")
def kept(client: Client) -> Iterator[Sandbox]:
    made = client.sandboxes.create(IMAGE, name="ssh-box")
    made.commands.run(
        "echo bob:x:1000:1000::/home/bob:/bin/sh >> /etc/passwd; echo bob:x:1000: >> /etc/group;"
        "mkdir /home/bob; chown 1000:1000 /home/bob; echo secret > /root/secret; chmod 600 /root/secret",
        check=True,
    )
    yield made
    made.delete()


@pytest.fixture
def ssh(kept: Sandbox, tmp_path: Path) -> Ssh:
    return reach(kept, tmp_path)


@pytest.fixture
def own(client: Client, tmp_path: Path) -> Iterator[Ssh]:
    """A sandbox of the test's own."""
    made = client.sandboxes.create(IMAGE)
    yield reach(made, tmp_path)
    made.delete(force=True)


# Commands


def test_command_with_its_output_input_environment_and_exit_code(ssh: Ssh) -> None:
    ran = ssh.run(
        "cat; pwd; echo $HOME $USER $SHELL $LANG; echo bad >&2; exit 7", input="in\n", env=env(LANG="C.UTF-8")
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "in\n/root\n/root root /bin/bash C.UTF-8\n", "bad\n")


def test_shell_reads_a_script(ssh: Ssh) -> None:
    ran = ssh.run(input="echo one; echo two\nexit 3\n")
    assert (ran.returncode, ran.stdout) == (3, "one\ntwo\n")


def test_name_and_user(kept: Sandbox, tmp_path: Path) -> None:
    ran = reach(kept, tmp_path, name="ssh-box", user="bob").run("id -un; pwd; cat /root/secret")
    assert ran.stdout == "bob\n/home/bob\n"
    assert "Permission denied" in ran.stderr
    refused = reach(kept, tmp_path, user="nobody-here").run("true")
    assert (refused.returncode, refused.stderr) == (255, "skerry: the sandbox has no user nobody-here\n")


def test_much_input_and_output(ssh: Ssh) -> None:
    data = os.urandom(4_000_000)
    ran = ssh.run("cat", input=data, text=False)
    assert ran.stdout == data, "not a byte is lost or changed on either way"


def test_terminal_with_a_size_that_changes(ssh: Ssh) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    child = subprocess.Popen(
        ssh.command("ssh", "-tt", "box", f"echo $TERM; stty size; {UNTIL_RESIZED}; stty size; exit 5"),
        stdin=theirs, stdout=theirs, stderr=theirs, env=env(TERM="vt220"), start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    resized = False
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
            if not resized and b"33 77" in seen:
                fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 55, 0, 0))  # SIGWINCH follows
                resized = True
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(ours)
    assert child.wait(30) == 5
    assert re.search(rb"vt220\s+33 77\s+44 55", seen), seen


def test_signals_reach_the_command(ssh: Ssh) -> None:
    """OpenSSH's client sends none; others do."""

    async def ask() -> tuple[str, int | None]:
        access = ssh.box.ssh_access()
        key = str(ssh.config.parent / "key")
        async with asyncssh.connect(
            "127.0.0.1",
            access.port,
            username=ssh.box.id,
            client_keys=[key],
            known_hosts=None,
            config=[],
            agent_path=None,
        ) as connection:
            command = "trap 'echo heard; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
            async with connection.create_process(command) as process:
                assert await process.stdout.readline() == "ready\n"
                process.send_signal("USR1")
                ended = await process.wait(timeout=30)
                return str(ended.stdout), ended.exit_status

    assert asyncio.run(ask()) == ("heard\n", 9)


def test_client_that_leaves_ends_its_command(ssh: Ssh) -> None:
    with ssh.going("box", "sleep 4242 & wait"):
        until(lambda: "sleep 4242" in processes(ssh.box))
        assert ["sleep 4242 & wait"] in [each.command for each in ssh.box.commands.list()], "as it was typed"
        assert "exec: sleep 4242 & wait" in ssh.box.activity().kept_awake_by
    until(lambda: "sleep 4242" not in processes(ssh.box))


def processes(box: Sandbox) -> str:
    return box.commands.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def env(**more: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}, **more}


# Files


def test_scp_both_ways(ssh: Ssh, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(data)
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_text("in a folder")
    assert ssh("scp", "-p", str(tmp_path / "there"), "box:there").returncode == 0
    assert ssh("scp", "-r", str(folder), "box:/srv/").returncode == 0
    assert ssh.box.files.read("/root/there") == data
    assert ssh.box.files.read("/srv/folder/deep/file") == b"in a folder"
    assert ssh("scp", "box:/root/there", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == data


def test_sftp_session(ssh: Ssh, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("text")
    ran = sftp(
        ssh,
        f"pwd\nmkdir work\ncd work\nput {tmp_path}/local one\nchmod 640 one\nrename one two\nsymlink two three\n"
        f"ls -ln\nget three {tmp_path}/got\nrm three\nrm two\ncd ..\nrmdir work\ndf\n",
    )
    assert ran.returncode == 0, ran.stderr
    assert "Remote working directory: /root" in ran.stdout
    assert re.search(r"-rw-r-----\s+\S+\s+0\s+0\s+4 .* two", ran.stdout)
    assert (tmp_path / "got").read_text() == "text"


def test_files_are_reached_with_the_rights_of_the_user(kept: Sandbox, tmp_path: Path) -> None:
    ssh = reach(kept, tmp_path, user="bob")
    (tmp_path / "local").write_text("text")
    assert sftp(ssh, f"put {tmp_path}/local mine\n").returncode == 0
    assert kept.commands.run("stat -c %u:%g /home/bob/mine").stdout == "1000:1000\n"
    for tried in (
        "get /root/secret x",
        f"put {tmp_path}/local /etc/mine",
        "chown 0 mine",
        "rm /etc/passwd",
        "rename mine /usr/bin/mine",
    ):
        assert sftp(ssh, f"{tried}\n").returncode != 0, tried
    assert not (tmp_path / "x").exists()


def test_what_a_guest_lays_in_the_way_leads_nowhere(ssh: Ssh, tmp_path: Path) -> None:
    ssh.box.commands.run(
        "cd /tmp; mkfifo pipe; ln -s /proc/1/root/etc/passwd out; ln -s ../../../../etc/hostname up;"
        "ln -s /proc/self/environ ours; mkdir -p d; ln -s / d/root",
        check=True,
    )
    for path in ("/tmp/pipe", "/dev/tty", "/dev/zero", "/tmp/out", "/tmp/ours", "/proc/1/environ"):
        assert sftp(ssh, f"get {path} {tmp_path}/got\n").returncode != 0, path
    assert sftp(ssh, f"get /tmp/up {tmp_path}/name\n").returncode == 0
    assert (tmp_path / "name").read_text() == "ssh-box\n", "a link above the root stays at the root"
    listed = sftp(ssh, "ls -1 /tmp/d/root/\n")
    assert "/tmp/d/root/.skerry" in sftp(ssh, "ls -1a /tmp/d/root/\n").stdout, listed


def sftp(ssh: Ssh, batch: str) -> subprocess.CompletedProcess[str]:
    return ssh("sftp", "-b", "-", "box", input=batch)


def test_rsync(ssh: Ssh, tmp_path: Path) -> None:
    """The image has none: ours and its libraries are put in."""
    program = shutil.which("rsync")
    assert program is not None
    libraries = re.findall(r"=> (/\S+)", subprocess.check_output(["ldd", program], text=True))
    ssh.box.commands.run(["mkdir", "-p", "/opt/rsync"], check=True)
    assert ssh("scp", program, *libraries, "box:/opt/rsync/").returncode == 0
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / str(number)).write_text(str(number) * 1000)
    shell = f"--rsh=ssh -F {ssh.config}"
    there = "--rsync-path=LD_LIBRARY_PATH=/opt/rsync /opt/rsync/rsync"
    for _ in range(2):
        ran = subprocess.run(
            ["rsync", "-ai", shell, there, f"{tree}/", "box:copy/"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert ran.stdout == "", "the second time there is nothing to send"
    assert ssh.box.files.read("/root/copy/7") == b"7" * 1000


# Ports and the agent


def test_ports_of_the_sandbox_and_no_others(ssh: Ssh) -> None:
    ssh.box.commands.start(["perl", "-e", ANSWER])
    here, other, closed = free_port(), free_port(), free_port()
    forwards = [f"{here}:localhost:8080", f"{other}:10.221.0.1:{ssh.box.ssh_access().port}", f"{closed}:localhost:9"]
    with ssh.going("-N", *(word for each in forwards for word in ("-L", each)), "box"):
        until(lambda: says(here, b"hello\n") == b"you said hello\n")
        assert says(here, b"again\n") == b"you said again\n"
        assert says(other, b"hello\n", 2) == b""
        assert says(closed, b"hello\n", 2) == b""


def test_what_is_not_served_is_refused(ssh: Ssh) -> None:
    assert ssh("ssh", "-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:22", "box", "true").returncode == 255
    with socket.create_connection(("127.0.0.1", ssh.box.ssh_access().port), 30) as stranger:
        assert stranger.recv(100).splitlines()[0] == b"SSH-2.0-Skerry", "no version to look up faults by"


def says(port: int, line: bytes, patience_s: float = 30) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), patience_s) as connection:
            connection.sendall(line)
            return connection.recv(1000)
    except OSError:
        return b""


def test_forwarded_agent_is_the_users_alone(kept: Sandbox, tmp_path: Path) -> None:
    ssh = reach(kept, tmp_path, user="bob")
    started = subprocess.check_output(["ssh-agent", "-s"], text=True)
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", started))
    try:
        ran = ssh(
            "ssh", "-A", "box", f"perl -e '{SPEAK_TO_AGENT}'; stat -c '%a %u' $(dirname $SSH_AUTH_SOCK)",
            env=env(SSH_AUTH_SOCK=found["SSH_AUTH_SOCK"]),
        )  # fmt: skip
        assert ran.stdout == "12\n700 1000\n", ran.stderr
    finally:
        os.kill(int(found["SSH_AGENT_PID"]), signal.SIGTERM)
    assert kept.commands.run("ls -d /tmp/ssh-*").exit_code != 0, "it is gone with the login"
    assert ssh.run('echo "[$SSH_AUTH_SOCK]"').stdout == "[]\n", "none is forwarded unless asked"


# Who is let in


def test_keys_of_nobody_and_of_others_are_refused(client: Client, own: Ssh, kept: Sandbox, tmp_path: Path) -> None:
    assert own.run("true").returncode == 0
    config = own.config.read_text()
    (tmp_path / "config").write_text(config.replace(own.box.id, kept.id))
    refused = own.run("true")
    assert (refused.returncode, "Permission denied (publickey)" in refused.stderr) == (255, True)
    (tmp_path / "config").write_text(config.replace(own.box.id, "no-such-box"))
    assert own.run("true").stderr.replace("no-such-box", kept.id) == refused.stderr, "nobody learns which names exist"
    (tmp_path / "config").write_text(config)
    (tmp_path / "key").unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    assert own.run("true").returncode == 255


def test_revoked_key_ends_what_it_opened(own: Ssh) -> None:
    with own.going("-N", "box") as open_one:
        until(lambda: own.run("true").returncode == 0)
        own.box.revoke_ssh()
        open_one.wait(30)
    assert own.run("true").returncode == 255
    assert own.box.ssh_access().keys == []


def test_fork_has_keys_of_its_own(own: Ssh, tmp_path: Path) -> None:
    [fork] = own.box.fork()
    try:
        assert fork.ssh_access().keys == []
        config = own.config.read_text()
        own.config.write_text(config.replace(own.box.id, fork.id))
        assert own.run("true").returncode == 255
        own.config.write_text(config)
    finally:
        fork.delete()


def test_new_name_is_known_at_once(own: Ssh, tmp_path: Path) -> None:
    own.box.update(name="renamed-for-ssh")
    until(lambda: reach(own.box, tmp_path, name="renamed-for-ssh").run("true").returncode == 0)


# Sleep, and an agent that dies


@pytest.mark.parametrize("cold", [False, True])
def test_login_wakes(own: Ssh, cold: bool) -> None:
    for use in (lambda: own.run("true"), lambda: sftp(own, "ls /\n")):
        own.box.sleep(cold=cold, force=True)
        assert use().returncode == 0
        until(lambda: own.box.state is S.RUNNING)
        assert own.box.activity().woken_by == "ssh"


def test_sftp_session_goes_on_after_a_cold_sleep(own: Ssh, tmp_path: Path) -> None:
    child = subprocess.Popen(
        own.command("sftp", "-q", "-b", "-", "box"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    child.stdin.write("pwd\n")
    child.stdin.flush()
    until(lambda: own.box.activity().last_active_by == "ssh")
    own.box.sleep(cold=True, force=True)
    (tmp_path / "local").write_text("text")
    said, _ = child.communicate(f"put {tmp_path}/local after\nls -1\n", timeout=60)
    assert (child.returncode, said.splitlines()[-1]) == (0, "after"), said


def test_connection_that_is_only_open_keeps_nobody_awake(own: Ssh) -> None:
    with own.going("-o", "ServerAliveInterval=1", "box") as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(b"echo one\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"one\n"
        own.box.update(idle="1s")
        until(lambda: own.box.state is S.ASLEEP)
        shell.stdin.write(b"echo two\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"two\n", "and what is typed into it wakes the sandbox"


def test_agent_that_was_killed_lets_in_by_the_same_keys(server: Server, own: Ssh) -> None:
    before = own.box.ssh_access().host_key
    assert own.run("true").returncode == 0
    server.kill("agent")
    server.start("agent")
    until(lambda: own.run("echo again").stdout == "again\n")
    assert own.box.ssh_access().host_key == before
    assert (server.settings.ssh_host_key_path.stat().st_mode & 0o777) == 0o600
    assert not list(server.settings.data_dir.glob("agent/ssh/*PRIVATE*"))


# The command line


def test_skerry_ssh_and_its_configuration(server: Server, own: Ssh, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text("Host mine\n  Port 2222\n")
    given = env(
        HOME=str(home), SKERRY_ADDRESS=server.address, SKERRY_KEY=server.key, SKERRY_CONFIG=str(home / "c/config.toml")
    )

    def skerry(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skerry.main", *words],
            env=given, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip

    ran = skerry("ssh", own.box.name, "--", "echo $USER; exit 9")
    assert (ran.returncode, ran.stdout) == (9, "root\n"), ran.stderr
    assert skerry("ssh-config", "--write", own.box.name).returncode == 0
    first = (home / ".ssh/config").read_text()
    assert skerry("ssh-config", "--write", own.box.name).returncode == 0
    assert (home / ".ssh/config").read_text() == first
    assert first.endswith("\n\nHost mine\n  Port 2222\n"), "what the user had there is there"
    ran = Ssh(home / ".ssh/config", own.box)("ssh", f"{own.box.name}.skerry", "hostname")
    assert ran.stdout == f"{own.box.name}\n", ran.stderr
    assert len(own.box.ssh_access().keys) == 2, "one of the test's, one for all calls of the command line"
    assert skerry("ssh-config", "--revoke", own.box.name).returncode == 0
    assert not list((home / "c/ssh").glob(f"{own.box.id}*"))
