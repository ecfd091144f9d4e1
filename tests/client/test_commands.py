"""Commands through the SDK: the same on every transport."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from skerry.client import Client, CommandFailed
from skerry.client import wire as client_wire
from skerry.errors import Conflict, DeadlineExceeded, NotFound
from tests.client.fake_control import KEY, FakeControl


def test_run_gives_output_and_code(box: Any) -> None:
    result = box.commands.run("echo out; echo err >&2; exit 3", env={"A": "b"}, workdir="/tmp", user="root")
    assert (result.exit_code, result.stdout, result.stderr, result.ok) == (3, "out\n", "err\n", False)


def test_run_takes_text_for_the_shell_and_a_list_as_it_is(box: Any, control: FakeControl) -> None:
    assert box.commands.run("echo $((1+1))").stdout == "2\n"
    assert box.commands.run(["echo", "$((1+1))"]).stdout == "$((1+1))\n"


def test_output_comes_as_it_is_printed(box: Any, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    heard = tmp_path / "heard"

    def on_stdout(text: str) -> None:
        seen.append(("out", text))
        heard.touch()

    result = box.commands.run(
        f"echo one; until [ -e {heard} ]; do sleep 0.05; done; echo zwei >&2",
        on_stdout=on_stdout,
        on_stderr=lambda text: seen.append(("err", text)),
    )
    assert seen == [("out", "one\n"), ("err", "zwei\n")]
    assert (result.stdout, result.stderr, result.exit_code) == ("one\n", "zwei\n", 0)


def test_check_raises_with_the_result(box: Any) -> None:
    with pytest.raises(CommandFailed, match="exit 2: no such thing") as failed:
        box.commands.run("echo no such thing >&2; exit 2", check=True)
    assert failed.value.result.exit_code == 2


def test_timeout_is_124(box: Any) -> None:
    result = box.commands.run("sleep 9", timeout_s=0.1)
    assert (result.exit_code, result.timed_out) == (124, True)


def test_large_output_is_cut_and_says_so(box: Any) -> None:
    kept = box.commands.run("head -c 5000 /dev/zero | tr '\\0' x", output_bytes_max=1000)
    assert (len(kept.stdout), kept.truncated) == (1000, True)
    pieces: list[str] = []
    kept = box.commands.run("head -c 5000 /dev/zero | tr '\\0' x", output_bytes_max=1000, on_stdout=pieces.append)
    assert (len(kept.stdout), kept.truncated, len("".join(pieces))) == (1000, True, 5000)


def test_detached_command_is_listed_followed_and_found_again(box: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = box.commands.start(f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two; exit 5")
    assert [session.id for session in box.commands.list()] == [command.id]
    assert command.info().exit is None
    go.touch()
    again = box.commands.connect(command.id)
    assert "".join(text for _, text in again.output()) == "one\ntwo\n"
    result = again.wait()
    assert (result.exit_code, result.stdout) == (5, "one\ntwo\n")


def test_wait_gives_up_and_kill_ends_it(box: Any) -> None:
    command = box.commands.start("sleep 90")
    with pytest.raises(DeadlineExceeded):
        command.wait(timeout_s=0.1)
    command.kill("KILL")
    assert command.wait(timeout_s=30).exit_code == 137


def test_interactive_command_reads_what_is_sent(box: Any, control: FakeControl) -> None:
    with box.commands.open(["sh", "-c", "cat; exit 4"], tty=True, rows=40, columns=100) as socket:
        socket.send_stdin(b"hello")
        socket.resize(50, 120)
        socket.close_stdin()
        frames = list(socket.frames())
    assert frames[0] == (client_wire.STDOUT, b"hello")
    assert frames[-1][0] == client_wire.EXIT
    assert (control.commands.specs[-1].size.rows, control.commands.specs[-1].tty) == (40, True)
    session = control.commands.sessions[box.commands.list()[-1].id]
    assert session.sizes == [{"rows": 50, "columns": 120}]


def test_a_quick_end_loses_no_output(box: Any) -> None:
    for _ in range(10):
        with box.commands.open(["echo", "x"]) as socket:
            socket.close_stdin()
            assert [channel for channel, _ in socket.frames()] == [client_wire.STDOUT, client_wire.EXIT]


def test_interactive_errors_are_typed(box: Any) -> None:
    with pytest.raises(NotFound):
        box.commands.connect("ex-unknown")
    box.stop()
    with box.commands.open(["true"]) as socket, pytest.raises(Conflict, match="box is stopped"):
        list(socket.frames())
    box.delete()
    with pytest.raises(NotFound):
        box.commands.open(["true"])


@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_more_than_every_buffer_holds_passes_both_ways(control: FakeControl, over: str) -> None:
    """A command that echoes: whoever sends must not keep whoever reads from reading."""
    data = bytes(range(256)) * 16 * 1024  # 4 MiB
    with Client(control.unix if over == "unix" else control.tcp, KEY, environ={"HOME": "/nowhere"}) as client:
        box = client.sandboxes.create("debian:12")
        with box.commands.open(["cat"]) as socket:

            def send() -> None:
                for start in range(0, len(data), 65536):
                    socket.send_stdin(data[start : start + 65536])
                socket.close_stdin()

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            echoed = b"".join(payload for channel, payload in socket.frames(60) if channel == client_wire.STDOUT)
            sender.join(5)
    assert echoed == data
