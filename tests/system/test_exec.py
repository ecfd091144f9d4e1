"""Commands in a sandbox: output, exit codes, terminals, time limits, sessions that go on without a client."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from skerry import Client, Sandbox
from skerry.errors import Conflict, Invalid
from tests.server import Server

IMAGE = "debian:12"


@pytest.fixture(scope="module")
def sandbox(client: Client) -> Iterator[Sandbox]:
    with client.sandboxes.create(IMAGE, name="exec", memory="256MiB") as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["/nonexistent"], 127),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
        (["sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_exit_codes(sandbox: Sandbox, command: list[str], code: int) -> None:
    assert sandbox.commands.run(command).exit_code == code


def test_stdout_and_stderr_are_kept_apart_and_streamed(sandbox: Sandbox) -> None:
    pieces: list[str] = []
    errors: list[str] = []

    def hear(piece: str) -> None:
        pieces.append(piece)
        sandbox.files.write("/tmp/heard", b"")

    script = "echo one; until [ -e /tmp/heard ]; do sleep 0.05; done; echo two; echo bad >&2"
    result = sandbox.commands.run(script, on_stdout=hear, on_stderr=errors.append)
    assert (result.stdout, result.stderr) == ("one\ntwo\n", "bad\n")
    assert pieces == ["one\n", "two\n"]
    assert errors == ["bad\n"]


def test_env_workdir_and_user(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("pwd; id -un; echo $A $HOME", env={"A": "b"}, workdir="/tmp", user="nobody")
    assert result.stdout.split() == ["/tmp", "nobody", "b", "/nonexistent"]
    with pytest.raises(Invalid, match="no-such-user"):
        sandbox.commands.run("true", user="no-such-user")


def test_stdin_is_given_whole(sandbox: Sandbox) -> None:
    text = "line\n" * 100_000
    assert sandbox.commands.run("wc -c", stdin=text).stdout.strip() == str(len(text))


def test_time_limit_kills_the_whole_session(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("sleep 98765 & sleep 98765", timeout_s=0.5)
    assert result.timed_out
    assert result.exit_code == 124
    assert "98765" not in sandbox.commands.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout.replace("/proc", "")


def test_a_background_child_that_holds_the_pipes_does_not_delay_the_answer(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("sleep 1000 & echo started").stdout == "started\n"
    sandbox.commands.run("pkill sleep || kill $(grep -l sleep /proc/[0-9]*/comm | cut -d/ -f3)")


def test_output_is_capped_and_said_so(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("head -c 300000 /dev/zero | tr '\\0' x", output_bytes_max=1000)
    assert result.stdout == "x" * 1000
    assert result.truncated


def test_out_of_memory_of_a_command_is_reported(sandbox: Sandbox) -> None:
    result = sandbox.commands.run(["perl", "-e", "my @a; push @a, 'x' x 1048576 while 1"])
    assert result.exit_code == 137
    assert result.oom
    assert sandbox.commands.run("echo alive").stdout == "alive\n"


def test_a_terminal_has_its_size_and_can_be_resized(sandbox: Sandbox) -> None:
    with sandbox.commands.open(["sh"], tty=True, rows=30, columns=90) as shell:
        shell.send_stdin(b"stty size\n")
        seen = b""
        frames = shell.frames(30)
        while b"30 90" not in seen:
            seen += next(frames)[1]
        shell.resize(40, 100)
        shell.send_stdin(b"stty size; exit 3\n")
        for frame in frames:
            seen += frame[1]
    assert b"40 100" in seen
    assert b'"code": 3' in seen or b'"code":3' in seen


def test_detached_sessions_are_listed_reattached_and_killed(sandbox: Sandbox, server: Server) -> None:
    command = sandbox.commands.start("for n in $(seq 1000); do echo tick $n; sleep 0.05; done")
    assert [session.id for session in sandbox.commands.list()] == [command.id]
    output = sandbox.commands.connect(command.id).output()
    first = next(iter(output))
    assert first[1].startswith("tick 1\n")
    command.kill("KILL")
    assert command.wait().exit_code == 137
    with pytest.raises(Conflict, match="ended already"):
        command.kill()


def test_a_detached_session_outlives_the_agent(sandbox: Sandbox, server: Server) -> None:
    command = sandbox.commands.start("until [ -e /root/go ]; do sleep 0.1; done; echo survived; exit 5")
    ended = sandbox.commands.start("until [ -e /root/over ]; do sleep 0.1; done; exit 6")
    before = sandbox.commands.start("echo kept; exit 7")
    assert before.wait().exit_code == 7
    over = sandbox.commands.start("sleep 0.5; touch /root/over")  # while no agent is there to see it
    server.kill("agent")
    time.sleep(1.5)
    server.revive()
    sandbox.files.write("/root/go", b"")
    result = command.wait()
    assert "survived" in result.stdout
    assert (result.exit_code, ended.wait().exit_code, over.wait().exit_code) == (5, 6, 0)
    told = before.wait()
    assert (told.exit_code, told.stdout) == (7, "kept\n"), "what had ended before is known yet"
    with pytest.raises(Conflict, match="ended already"):
        ended.kill()


def test_a_client_that_leaves_ends_its_command(sandbox: Sandbox) -> None:
    with pytest.raises(KeyboardInterrupt):
        sandbox.commands.run("echo begun; exec sleep 4242", on_stdout=interrupt)
    deadline = time.monotonic() + 30
    while "sleep" in sandbox.commands.run("cat /proc/[0-9]*/comm").stdout:
        assert time.monotonic() < deadline
    while any("4242" in str(session.command) for session in sandbox.commands.list()):
        assert time.monotonic() < deadline, "still listed"


def interrupt(_: str) -> None:
    raise KeyboardInterrupt
