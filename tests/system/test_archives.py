"""A sandbox with its checkpoints leaves in a file and comes back out of it, equal to the last bit, or not at all."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from skerry import Client
from skerry.client.client_async import AsyncClient
from skerry.client.sandbox import Sandbox
from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, NotFound
from skerry.model.sandbox import S
from tests.server import Server

IMAGE = "debian:12"

OWN = ("/etc ", "/etc/machine-id ", "/etc/hostname ", "/etc/hosts ", "/etc/resolv.conf ")
"""What a copy beside its origin has of its own, and what every sandbox has mounted there."""
LOOK = (
    r"find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /.skerry \) -prune -o "
    r"\( -type d -printf '%p %y %m %U %G %T@\0' -o -printf '%p %y %l %m %U %G %n %T@\0' \) | sort -z; "
    r"find /root /usr/share/doc -xdev -type f -print0 | sort -z | xargs -0r sha256sum -z; "
    'perl -e \'$f = "/root/kept"; $n = "user.colour"; $v = "." x 9; syscall(191, $f, $n, $v, 9); print $v\''
)
FIRST = r"""
cd /root; echo one > a; ln a b; ln -s a link; mkfifo pipe; chmod 0641 a; mkdir -p deep/er; echo f > deep/er/f
ln deep/er/f beside; printf x > 'new
line'; printf y > "$(printf '\377')"; : > "$(printf '%0250d' 0)"; echo gone > gone; echo kept > kept; chown 7:8 kept
perl -e '$f = "/root/kept"; $n = "user.colour"; $v = "red"; syscall(188, $f, $n, $v, 3, 0) and die $!'
touch -d '2001-02-03 04:05:06.789' kept
"""
SECOND = r"""
cd /root; rm gone b 'new
line'; echo two > two; mv deep moved; rm -r /usr/share/doc/bash /root/pipe; mkdir pipe; echo more >> a
rm link; echo file > link; ln two again
"""
THIRD = "cd /root; rm two; echo three > three; rm -r moved; echo file > moved; echo over > again"


def look(sandbox: Sandbox) -> list[str]:
    found = sandbox.commands.run(LOOK, check=True).stdout.split("\0")
    assert found[-1] == "red......"
    return [line for line in found if not line.startswith(OWN)]


def test_a_round_trip(client: Client, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "box.tar"
    seen: list[str] = []
    with client.sandboxes.create(
        IMAGE, name="traveller", labels={"a": "b", "skerry.member": "x"}, env={"X": "1"}
    ) as sandbox:
        for number, change in enumerate((FIRST, SECOND, THIRD)):
            sandbox.commands.run(change, check=True)
            seen.append(look(sandbox))
            if number < 2:
                sandbox.checkpoint(f"number {number + 1}")
        assert seen[0] != seen[1] != seen[2]
        kept = sandbox.checkpoints()
        assert sandbox.export(file) == file.stat().st_size
        assert sandbox.state is S.RUNNING
        with pytest.raises(AlreadyExists, match="traveller"):
            client.sandboxes.import_(file)
        with client.sandboxes.import_(file, name="arrived") as copy:
            about = copy.info()
            assert (about.state, about.spec.labels, about.spec.env) == (S.RUNNING, {"a": "b"}, {"X": "1"})
            assert about.address != sandbox.info().address
            assert look(copy) == seen[2]
            told = [(each.number, each.comment, each.origin, each.created_at) for each in copy.checkpoints()]
            assert told == [(each.number, each.comment, each.origin, each.created_at) for each in kept]
            assert copy.commands.run("cat /etc/machine-id").stdout != sandbox.commands.run("cat /etc/machine-id").stdout
            for version in (1, 2):
                copy.restore(version)
                assert look(copy) == seen[version - 1]
            assert copy.checkpoint().number == 3
        again = asyncio.run(_import(server, file))
        with client.sandboxes.connect(again) as stopped:
            assert stopped.state is S.STOPPED
            assert stopped.files.read("/root/three") == b"three\n"
            stopped.start()
            assert look(stopped) == seen[2]
    with client.sandboxes.import_(file) as moved:  # nobody here is the one it was: it is that, identity and all
        assert moved.name == "traveller"
        assert look(moved) == seen[2]


def until_empty(folders: list[Path]) -> None:
    """Who has the last byte of an export may be quicker than the agent's tidying up."""
    deadline_s = time.monotonic() + 30
    while left := [path for folder in folders for path in folder.iterdir()]:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.02)


async def _import(server: Server, file: Path) -> str:
    async with AsyncClient(address=server.address, key=server.key) as client:
        made = await client.sandboxes.import_(file, name="stopped", start=False)
        await made.export(file.with_suffix(".again"))  # it has a disk though it has never run here
        return made.id


def test_what_is_missing_or_taken_is_told_and_may_be_dropped(
    client: Client, server: Server, shared_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "box.tar"
    network = client.networks.create("archived", "10.88.7.0/24")
    mounts = [f"{shared_folder}:/srv"]
    box = client.sandboxes.create(IMAGE, name="wanting", ports=["80"], networks=["archived"], mounts=mounts)
    with box as sandbox:
        sandbox.export(file)
        with pytest.raises(InUse, match="published by sandbox wanting"):
            client.sandboxes.import_(file, name="other", drop=["networks"])
        with pytest.raises(Conflict, match=r"is taken by another sandbox; .* is sandbox wanting's; .* published by"):
            client.sandboxes.import_(file)
        with client.sandboxes.import_(file, name="other", drop=["ports", "networks", "mounts"]) as other:
            spec = other.info().spec
            assert (spec.ports, spec.networks, spec.mounts) == ([], [], [])
    client.networks.delete(network.name)
    with pytest.raises(NotFound, match="skerry network create archived"):
        client.sandboxes.import_(file)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    before = client.images.list()
    with pytest.raises(Invalid, match="has other content"):
        client.sandboxes.import_(file, drop=["networks"])
    assert client.images.list() == before
    assert not client.sandboxes.list(name="wanting")
    folders = [server.settings.data_dir / "agent" / name for name in ("incoming", "imports")]
    until_empty(folders)
