"""`skerry ssh` and `skerry ssh-config` as a user types them; the ssh they start is only looked at."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Skerry
from tests.client.fake_control import FakeControl


class Started(Exception):
    """os.execve does not return."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments


@pytest.fixture
def folder(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's files of SSH are."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/sh\n")
    (programs / "ssh").chmod(0o755)
    environ["PATH"] = f"{programs}:{environ['PATH']}"

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        assert program == str(programs / "ssh")
        raise Started(arguments)

    monkeypatch.setattr(os, "execve", execve)
    return tmp_path / "ssh"


def started(skerry: Skerry, *words: str) -> list[str]:
    with pytest.raises(Started) as caught:
        skerry("ssh", *words)
    return caught.value.arguments


def options(arguments: list[str]) -> dict[str, str]:
    pairs = [after for word, after in itertools.pairwise(arguments) if word == "-o"]
    return dict(pair.split("=", 1) for pair in reversed(pairs))


def test_ssh_is_told_everything_and_asks_nothing(skerry: Skerry, box: str, folder: Path, control: FakeControl) -> None:
    sandbox_id = control.find("box").id
    arguments = started(skerry, "-A", "-L", "8080:localhost:80", "box", "-u", "bob", "--", "ls", "-l")
    assert arguments[:3] == ["ssh", "-F", "none"], "what the user set for other hosts must not lead elsewhere"
    assert arguments[-6:] == ["-L", "8080:localhost:80", sandbox_id, "--", "ls", "-l"]
    assert "-A" in arguments
    told = options(arguments)
    assert (told["HostName"], told["Port"], told["User"]) == ("192.0.2.7", "7022", f"{sandbox_id}+bob")
    assert (told["StrictHostKeyChecking"], told["BatchMode"], told["IdentitiesOnly"]) == ("yes", "yes", "yes")
    assert (folder / f"{sandbox_id}.known_hosts").read_text() == f"{sandbox_id} ssh-ed25519 AAAAhost\n"
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_key_is_made_once_and_again_when_it_ends_or_is_revoked(
    skerry: Skerry, box: str, folder: Path, control: FakeControl
) -> None:
    key = folder / control.find("box").id
    seen: list[str] = []
    for step in range(5):
        if step == 2:
            assert skerry("ssh-config", "--revoke", "box").out == "no key opens box any more\n"
            assert not key.exists()
        if step == 3:
            key.unlink()
        control.ssh.lasts_s = 3600 if step == 3 else None  # less than a day is left: renewed by the next call
        started(skerry, "box")
        seen.append(key.read_text())
    assert seen[0] == seen[1]
    assert len(set(seen)) == 4


def test_host_of_a_listener_at_every_address_is_the_apis(
    skerry: Skerry, box: str, folder: Path, control: FakeControl
) -> None:
    control.ssh.host = None
    assert options(started(skerry, "box"))["HostName"] == "127.0.0.1"


def test_our_own_failures_have_a_code_apart(skerry: Skerry, folder: Path, environ: dict[str, str], box: str) -> None:
    assert skerry("ssh", "no-such-box").code == 125
    environ["PATH"] = "/nowhere"
    ended = skerry("ssh", "box")
    assert (ended.code, ended.err) == (
        125,
        "error: there is no ssh on this machine: run `apt-get install openssh-client`\n",
    )


def test_configuration_is_printed(skerry: Skerry, box: str, folder: Path, control: FakeControl) -> None:
    sandbox_id = control.find("box").id
    printed = skerry("ssh-config", "box").out.splitlines()
    assert printed[0] == f"Host box.skerry {sandbox_id}.skerry"
    assert f'  IdentityFile "{folder / sandbox_id}"' in printed
    assert "  ForwardAgent no" in printed
    [told] = skerry("ssh-config", "--json", "-A", "box").json
    assert (told["name"], told["options"]["ForwardAgent"]) == ("box.skerry", "yes")


def test_configuration_is_included_once_and_spares_what_is_there(
    skerry: Skerry, box: str, folder: Path, tmp_path: Path, control: FakeControl
) -> None:
    kept = tmp_path / "dotfiles"
    kept.write_text("Host mine\n  Port 2222\n")
    kept.chmod(0o644)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").symlink_to(kept)
    for _ in range(2):
        assert skerry("ssh-config", "--write").code == 0
    assert (tmp_path / ".ssh/config").is_symlink()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    lines = kept.read_text().splitlines()
    assert lines[1:] == [f'Include "{folder}/hosts/*.conf"', "", "Host mine", "  Port 2222"]
    first = control.find("box").id
    assert skerry("rm", "box").code == 0
    assert skerry("create", "debian:12", "--name", "box").code == 0
    assert skerry("ssh-config", "--write", "box").code == 0
    hosts = [path.stem for path in (folder / "hosts").iterdir()]
    assert hosts == [control.find("box").id] != [first], "a new sandbox of the name is not led to the old one"
