"""Secrets in real sandboxes: there inside, as variable and as file, and nowhere on a disk of the machine."""

from __future__ import annotations

import contextlib
import io
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry import Client, Sandbox
from skerry.cli.invocation import Invocation
from skerry.cli.program import run
from skerry.errors import Failed, NotFound, SkerryError
from skerry.runtime.container.memory import is_in_memory
from tests.server import Server
from tests.system.conftest import IMAGE, connect

FILE = "/srv/app/key.bin"


@pytest.fixture
def values(client: Client) -> Iterator[dict[str, str]]:
    """Three secrets of names of their own, and what they hold."""
    made = {f"{name}-{secrets.token_hex(3)}": f"hush{secrets.token_hex(12)}" for name in ("env", "file", "key")}
    for name, value in made.items():
        client.secrets.set(name, value)
    yield made
    for name in made:
        with contextlib.suppress(SkerryError):
            client.secrets.delete(name, force=True)


@contextlib.contextmanager
def sandbox(client: Client, values: dict[str, str]) -> Iterator[Sandbox]:
    env, file, key = values
    uses = [f"{env}=TOKEN", file, {"name": key, "file": FILE, "user": "daemon:adm", "mode": "0440"}]
    made = client.sandboxes.create(
        IMAGE, secrets=uses, command=["sh", "-c", 'test -n "$TOKEN" && echo has it; exec sleep 1000']
    )
    try:
        yield made
    finally:
        made.delete()


def sees(box: Sandbox, values: dict[str, str]) -> None:
    _, file, _ = values
    found = box.commands.run(f"printenv TOKEN; cat /run/secrets/{file}; echo; cat {FILE}").stdout.split()
    assert found == list(values.values())


def places_of(server: Server, values: dict[str, str]) -> list[str]:
    """Files on a disk of the machine that any of the values is in: data, logs, journals, disks, checkpoints."""
    settings = server.settings
    pool = f"/proc/{server.pid('agent')}/root{settings.run_path}/pool"
    trees = [path for path in Path(pool).glob("*") if path.name != "images"]
    patterns = [word for value in values.values() for word in ("-e", value)]
    where = [settings.data_dir, *trees, *([] if is_in_memory(settings.run_path) else [settings.run_path])]
    command = ["grep", "-rlaF", "-D", "skip", "--exclude=pool.img", *patterns, "--", *map(str, where)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def test_they_are_there_inside_and_nowhere_else(server: Server, client: Client, values: dict[str, str]) -> None:
    env, file, key = values
    with sandbox(client, values) as box:
        sees(box, values)
        stat = box.commands.run(f"stat -c '%a %U:%G' /run/secrets/{file} {FILE}; stat -fc %T {FILE}").stdout
        assert stat.splitlines() == ["400 root:root", "440 daemon:adm", "tmpfs"]
        for attempt in (f"echo x > {FILE}", f"rm {FILE}", f"chmod 444 {FILE}", f"umount {FILE}"):
            assert box.commands.run(attempt, check=False).exit_code != 0
        assert box.commands.run("cat " + FILE, user="nobody", check=False).exit_code != 0
        options = box.commands.run(f"grep -c ' {FILE} ro,nosuid,nodev,noexec' /proc/self/mountinfo", check=False)
        assert options.stdout == "1\n"
        checkpoint = box.checkpoint()
        [fork] = box.fork(count=1)
        sees(fork, values)
        told = box.info().model_dump_json() + str(client.events.list(target=box.id)) + str(client.secrets.list())
        assert client.secrets.get(env).used_by == [box.name, fork.name]
        with pytest.raises(SkerryError, match="used by"):
            client.secrets.delete(key)
        box.restore(checkpoint)
        sees(box, values)
        assert not any(value in told for value in values.values())
        assert "has it" in box.logs()
        assert places_of(server, values) == []
        box.commands.run("printenv TOKEN > /leak; sync /leak")
        assert [Path(path).name for path in places_of(server, values)] == ["leak"], "or we would find nothing anywhere"
        fork.delete()


def test_a_new_value_comes_with_the_next_start(server: Server, client: Client, values: dict[str, str]) -> None:
    env, *_ = values
    with sandbox(client, values) as box:
        had = dict(values)
        values[env] = "second" + secrets.token_hex(8)
        client.secrets.set(env, values[env])
        box.update(idle="never")  # its machine gets an order, and it goes on with what it has
        server.kill("agent")
        server.start("agent")
        sees(box, had)
        box.sleep(cold=True)
        sees(box, had)
        box.update(secrets=[f"{env}=NEW", *box.info().spec.secrets], reload=True, grace_s=0)
        sees(box, values)
        assert box.commands.run("printenv NEW").stdout.strip() == values[env]


def test_one_that_is_gone_or_has_no_place_is_said(client: Client, values: dict[str, str]) -> None:
    *_, key = values
    with sandbox(client, values) as box:
        box.commands.run(f"umount {FILE} 2>/dev/null; mkdir /etc/there; mv /srv /srv.old; ln -s /etc/there /srv")
        box.stop(grace_s=0)
        with pytest.raises(Failed, match=r"secrets\[2\].file: /srv/app/key.bin cannot be made in the sandbox"):
            box.start()
        assert box.info().reason
        client.secrets.delete(key, force=True)
        with pytest.raises(NotFound, match=rf"secrets\[2\].name: there is no secret {key}"):
            box.start()


def test_the_command_line_reads_a_value_and_never_prints_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name, value = f"typed-{secrets.token_hex(3)}", f"hush{secrets.token_hex(12)}"
    path = tmp_path / "value"
    path.write_text(value + "\n\n")
    environ = {"SKERRY_ADDRESS": server.address, "SKERRY_KEY": server.key, "SKERRY_CONFIG": str(tmp_path / "none")}

    def skerry(*arguments: str, stdin: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return run(Invocation(environ), ["secret", *arguments])

    size = len(value)
    for wanted, options, stdin in (
        (size, (), f"{value}\n".encode()),
        (size + 1, (), f"{value}\n\n".encode()),
        (size + 1, ("--binary",), f"{value}\n".encode()),
        (size + 2, ("--file", str(path)), b""),
        (65_536, (), b"x" * 65_536 + b"\n"),
    ):
        assert skerry("set", name, *options, stdin=stdin) == 0
        with connect(server) as client:
            assert client.secrets.get(name).size_bytes == wanted
    for options, stdin in (((), b"x" * 65_536 + b"\nx"), (("--binary",), b"x" * 65_537), ((), b"\xff"), ((), b"\n")):
        assert skerry("set", name, *options, stdin=stdin) == 2
    assert skerry("set", name, value) == 2
    assert [skerry("ls"), skerry("inspect", name), skerry("inspect", name, "--json"), skerry("rm", name)] == [0] * 4
    assert skerry("inspect", name) == 3
    printed = capfd.readouterr()
    assert f"{name} deleted" in printed.out
    assert value not in printed.out
