"""exec, run, shell, sessions and cp: bytes pass, codes pass, terminals come back as they were."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Skerry
from tests.client.fake_control import FakeControl, tar_of

WAIT_S = 30.0


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from skerry.main import main; main()", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ("exec", "box", "echo", "-n", "x"),
        ("exec", "box", "--", "echo", "-n", "x"),
        ("exec", "--", "box", "echo", "-n", "x"),
        ("exec", "-w", "/tmp", "box", "-e", "A=b", "echo", "-n", "x"),
        ("exec", "box", "-w", "/tmp", "--", "echo", "-n", "x"),
    ],
)
def test_options_on_both_sides_of_the_sandbox(skerry: Skerry, box: str, arguments: tuple[str, ...]) -> None:
    ended = skerry(*arguments)
    assert (ended.code, ended.out, ended.err) == (0, "x", "")


def test_the_command_keeps_its_own_dashes(skerry: Skerry, box: str) -> None:
    assert skerry("exec", "box", "sh", "-c", 'echo "$@"', "--", "-e", "--", "--help").out == "-e -- --help\n"


def test_code_stdout_and_stderr_pass(skerry: Skerry, box: str) -> None:
    ended = skerry("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (ended.code, ended.out, ended.err) == (42, "out\n", "err\n")
    assert skerry("exec", "box", "no-such-command").code == 127
    assert skerry("exec", "box", "sh", "-c", "kill -9 $$").code == 137


def test_timeout_is_124_and_says_so(skerry: Skerry, box: str) -> None:
    ended = skerry("exec", "--timeout", "100ms", "box", "sleep", "9")
    assert ended.code == 124
    assert "longer than allowed" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [("exec", "nobody", "true"), ("exec", "box"), ("exec", "--no-such", "box", "true"), ("run", "nope", "true")],
)
def test_failures_of_our_own_are_125(skerry: Skerry, box: str, arguments: tuple[str, ...]) -> None:
    ended = skerry(*arguments)
    assert ended.code == 125
    assert ended.err.startswith("error: ")


def test_json_is_the_whole_result(skerry: Skerry, box: str) -> None:
    ended = skerry("exec", "--json", "box", "sh", "-c", "echo out; exit 3")
    assert (ended.code, ended.json["stdout"], ended.json["exit"]["code"]) == (3, "out\n", 3)
    failed = skerry("--json", "exec", "nobody", "true")
    assert '"code": "not_found"' in failed.err


def test_env_of_ours_by_name_alone(skerry: Skerry, box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "yes")
    assert skerry("exec", "-e", "OURS", "-e", "UNSET_HERE", "box", "sh", "-c", "echo $OURS").out == "yes\n"


def test_sessions(skerry: Skerry, box: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two; exit 7"
    session = skerry("exec", "--detach", "box", "sh", "-c", script).out.strip()
    assert re.fullmatch(r"ex-[0-9a-f]{12}", session)
    assert "running" in skerry("session", "list", "box").out
    go.touch()
    ended = skerry("session", "attach", "box", session[:8])
    assert (ended.code, ended.out) == (7, "one\ntwo\n")
    assert "exit 7" in skerry("session", "list", "box").out
    assert skerry("session", "attach", "box").code == 125
    skerry("exec", "-d", "box", "sleep", "90")
    assert skerry("session", "kill", "box", "-s", "KILL").code == 0


def test_a_session_with_a_terminal_is_left_and_found_again(environ: dict[str, str], skerry: Skerry, box: str) -> None:
    session = skerry("exec", "-d", "-t", "box", "sh", "-c", "echo ready; read line; exit 6").out.strip()
    for _ in range(2):
        terminal = Terminal(environ, "session", "attach", "box", session)
        try:
            terminal.until(b"ready")
            os.write(terminal.ours, b"\x1d")
            terminal.until(b"goes on")
            assert terminal.process.wait(WAIT_S) == 0
            assert termios.tcgetattr(terminal.theirs) == terminal.before
        finally:
            terminal.close()
    assert "running" in skerry("session", "list", "box").out


def test_run_deletes_what_it_made(skerry: Skerry, control: FakeControl) -> None:
    ended = skerry("run", "debian:12", "--", "sh", "-c", "echo hi; exit 3")
    assert (ended.code, ended.out, ended.err) == (3, "hi\n", "")
    assert control.sandboxes == {}


def test_run_keeps_what_has_a_name(skerry: Skerry, control: FakeControl) -> None:
    assert skerry("run", "--name", "web", "debian:12", "true").code == 0
    assert skerry("run", "--keep", "debian:12", "true").code == 0
    assert skerry("run", "--rm", "--name", "gone", "debian:12", "true").code == 0
    assert "web" in (names := [found.name for found in control.sandboxes.values()])
    assert len(names) == 2


def test_run_never_deletes_a_sandbox_it_did_not_make(skerry: Skerry, box: str, control: FakeControl) -> None:
    assert skerry("run", "--rm", "--name", "box", "debian:12", "true").code == 125
    assert [found.name for found in control.sandboxes.values()] == ["box"]


def test_stdin_passes(environ: dict[str, str], box: str) -> None:
    data = os.urandom(500_000)
    ended = subprocess.run(
        program("exec", "-i", "box", "cat"), input=data, env=environ, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout == data, ended.stderr) == (0, True, b"")
    script = subprocess.run(program("shell", "box"), input=b"echo in shell; exit 9", env=environ, capture_output=True)
    assert (script.returncode, script.stdout) == (9, b"in shell\n")


class Terminal:
    """`skerry` on a terminal of its own."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (31, 101))
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            program(*arguments),
            env=environ | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.set_inheritable(0, True),
        )
        self.theirs = theirs
        self.seen = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.ours], [], [], 0.2)[0]:
                self.seen += os.read(self.ours, 4096)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(environ: dict[str, str], box: str) -> Iterator[Terminal]:
    terminal = Terminal(environ, "exec", "-it", "box", "sh", "-c", "echo ready; read line; echo got $line; exit 6")
    yield terminal
    terminal.close()


def test_a_terminal_is_raw_resized_and_given_back(terminal: Terminal, control: FakeControl) -> None:
    terminal.until(b"ready")
    assert control.commands.specs[-1].size.model_dump() == {"rows": 31, "columns": 101}
    assert control.commands.specs[-1].env["TERM"] == "xterm"
    assert not termios.tcgetattr(terminal.theirs)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetwinsize(terminal.theirs, (40, 120))
    terminal.process.send_signal(signal.SIGWINCH)
    session = list(control.commands.sessions.values())[-1]
    deadline = time.monotonic() + WAIT_S
    while not session.sizes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert session.sizes == [{"rows": 40, "columns": 120}]
    os.write(terminal.ours, b"hello\n")
    terminal.until(b"got hello")
    assert terminal.process.wait(WAIT_S) == 6
    assert termios.tcgetattr(terminal.theirs) == terminal.before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_terminal_is_given_back_when_we_are_told_to_go(terminal: Terminal, number: int, code: int) -> None:
    terminal.until(b"ready")
    terminal.process.send_signal(number)
    assert terminal.process.wait(WAIT_S) == code
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_interrupt_ends_a_run_and_its_sandbox(environ: dict[str, str], control: FakeControl) -> None:
    process = subprocess.Popen(
        program("run", "debian:12", "--", "sh", "-c", "echo ready; sleep 30"), env=environ, stdout=-1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 130
    assert control.sandboxes == {}
    process.stdout.close()


def test_cp_both_ways(skerry: Skerry, box: str, control: FakeControl, tmp_path: Path) -> None:
    (tmp_path / "site/sub").mkdir(parents=True)
    (tmp_path / "site/sub/page").write_text("hello")
    (control.disk(control.find(box).id) / "srv").mkdir()
    assert skerry("cp", "--json", str(tmp_path / "site"), "box:/srv").json["files"] == 1
    assert skerry("cp", "box:srv/site/sub/page", str(tmp_path / "page")).code == 0
    assert (tmp_path / "page").read_text() == "hello"
    assert skerry("cp", "box:/srv/site/.", str(tmp_path / "copy")).code == 0
    assert (tmp_path / "copy/sub/page").read_text() == "hello"


def test_cp_streams(environ: dict[str, str], box: str, control: FakeControl) -> None:
    archive = tar_of({"a": "/", "a/b": b"streamed"})
    into = subprocess.run(program("cp", "-", "box:/in"), input=archive, env=environ, capture_output=True, check=True)
    assert into.stdout == b""
    out = subprocess.run(program("cp", "box:/in/a", "-"), env=environ, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as found:
        assert found.getnames() == ["a", "a/b"]


def test_cp_follows_a_link_only_when_told(skerry: Skerry, box: str, control: FakeControl, tmp_path: Path) -> None:
    disk = control.disk(control.find(box).id)
    (disk / "etc").mkdir()
    (disk / "etc/real").write_text("content")
    (disk / "etc/link").symlink_to("real")
    assert skerry("cp", "-L", "box:/etc/link", str(tmp_path / "got")).code == 0
    assert (tmp_path / "got").read_text() == "content"
    ended = skerry("cp", "box:/etc/link", str(tmp_path / "as-link"))
    assert "outside of the copy" in ended.err
    assert "-L copies what /etc/link points to" in ended.err
    assert ended.code == 2


@pytest.mark.parametrize("arguments", [("a", "b"), ("x:/a", "y:/b")])
def test_cp_needs_one_sandbox(skerry: Skerry, arguments: tuple[str, str]) -> None:
    assert skerry("cp", *arguments).code == 2
