"""`skerry serve` told wrong things: one sentence that says what is allowed, exit code 2, nothing made."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from skerry.cli.serve import serve


@pytest.fixture(autouse=True)
def stay_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that should refuse and does not would otherwise replace this process by a supervisor."""

    def execve(*_: object) -> None:
        raise AssertionError("it became the supervisor")

    monkeypatch.setattr(os, "execve", execve)


def refused(*options: str) -> str:
    ended = CliRunner().invoke(serve, options)
    assert ended.exit_code == 2, ended.output
    lines = ended.output.strip().splitlines()
    assert len(lines) == 1, ended.output
    return lines[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--network-subnet", "banana"), "network_subnet"),
        (("--network-subnet", "10.0.0.0/8"), "between /16 and /24"),
        (("--pool-size", "1MiB"), "pool_size"),
        (("--pool-size", "much"), "512MiB"),
        (("--programs", "agent,web"), "expected some of agent, control"),
        (("--programs", ""), "expected some of agent, control"),
        (("--listen", "7070"), "expected HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), "expected HOST:PORT"),
        (("--listen", "192.0.2.1:7070"), "cannot listen"),
        (("--gateway-workers", "0"), "gateway_workers"),
        (("--database-url", "postgres://ann:hunter2@db/skerry"), "expected postgresql+psycopg://USER"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    data_dir = tmp_path / "data"
    assert told in refused("--data-dir", str(data_dir), *options)
    assert not data_dir.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    assert "cannot make the folder /dev/null/data: Not a directory" in refused("--data-dir", "/dev/null/data")


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "in use" in refused("--data-dir", str(tmp_path / "data"), "--listen", address)


def test_the_environment_is_a_setting_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_LISTEN", "nowhere")
    assert "'nowhere'" in refused("--data-dir", str(tmp_path / "data"))


def test_the_unit_leaves_sandboxes_alone(tmp_path: Path) -> None:
    """systemd must neither kill what runs in the unit's cgroup nor take the cgroups away."""
    ended = CliRunner().invoke(serve, ["--data-dir", str(tmp_path), "--print-unit"])
    assert ended.exit_code == 0
    assert "KillMode=process\n" in ended.output
    assert "Delegate=yes\n" in ended.output
    assert "ExecReload=/bin/kill -HUP $MAINPID\n" in ended.output
    assert f"serve --data-dir {tmp_path}\n" in ended.output


def test_the_unit_starts_what_was_asked_for(tmp_path: Path) -> None:
    options = ["--listen", "127.0.0.1:7171", "--share", "my files", "--share", "/srv/100%$", "--programs", "agent"]
    ended = CliRunner().invoke(serve, ["--data-dir", str(tmp_path), *options, "--print-unit"])
    started = (
        f"serve --data-dir {tmp_path} --listen 127.0.0.1:7171 --share '{Path.cwd()}/my files' --share '/srv/100%%$$'"
    )
    assert f"{started} --programs agent\n" in ended.output


def test_a_broken_settings_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text("listen = = 1\n")
    assert "skerry.toml in the data folder is not TOML" in refused("--data-dir", str(tmp_path))


def test_a_second_serve_hears_of_the_first(tmp_path: Path) -> None:
    """Not that its address is taken, which is only how it shows."""
    with (tmp_path / "serve.lock").open("w") as lock, socket.socket() as taken:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = refused("--data-dir", str(tmp_path), "--listen", address)
        assert "already running" in told
        assert "4711" in told
