"""Volumes with real sandboxes: shared while they run, limited, copied, and there after everything else has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry import Client
from skerry.errors import Failed, InUse
from tests import machine
from tests.server import Server
from tests.system.conftest import IMAGE

MIB = 1024**2


def test_two_sandboxes_share_a_volume_that_outlives_them(client: Client, server: Server) -> None:
    client.volumes.create("shared", size="32MiB")
    with client.sandboxes.create(IMAGE, name="writer", mounts=["shared:/srv/data"]) as writer:
        assert writer.commands.run("stat -c %u:%g:%a /srv/data").stdout == "0:0:755\n"
        writer.commands.run("cp /bin/sh /srv/data/sh; chmod 4755 /srv/data/sh; chown 1234 /srv/data/sh", check=True)
        with client.sandboxes.create(IMAGE, mounts=["shared:/mnt", "shared:/ro:ro"]) as reader:
            # An id in the volume is the same id for all, and set-user-id means nothing there.
            seen = reader.commands.run("stat -c %u /mnt/sh; /mnt/sh -c 'id -u'", user="1000:1000")
            assert seen.stdout == "1234\n1000\n"
            reader.files.write("/mnt/said", b"from the reader")
            assert writer.files.read("/srv/data/said") == b"from the reader"
            assert "Read-only" in reader.commands.run("touch /ro/x").stderr
            full = writer.commands.run("dd if=/dev/urandom of=/srv/data/big bs=1M count=64")
            assert "quota" in full.stderr.lower()
            assert reader.commands.run("dd if=/dev/urandom of=/root/big bs=1M count=40").exit_code == 0
        with pytest.raises(InUse, match="used by writer"):
            client.volumes.delete("shared")
        [fork] = writer.fork()
        fork.commands.run("rm /srv/data/big; echo fork > /srv/data/who", check=True)
        assert writer.commands.run("cat /srv/data/who; ls /srv/data").stdout == "fork\nsaid\nsh\nwho\n"
        fork.delete()
        writer.sleep(cold=True)
        assert writer.commands.run("cat /srv/data/who").stdout == "fork\n"
    assert client.volumes.get("shared").used_by == []
    with client.sandboxes.create(IMAGE, mounts=["shared:/later"]) as later:
        assert later.files.read("/later/who") == b"fork\n"
    client.volumes.delete("shared")
    assert machine.subvolumes(server.settings, server.pid("agent"))["volumes"] == set()


def test_a_snapshot_keeps_what_was_and_a_copy_goes_on_from_it(client: Client) -> None:
    client.volumes.create("base", size="32MiB", labels={"suite": "copies"})
    with client.sandboxes.create(IMAGE, mounts=["base:/data"]) as box:
        box.files.write("/data/state", b"first")
        client.volumes.snapshot("base", "monday")
        box.files.write("/data/state", b"second")
        assert client.volumes.update("base", size="64MiB").size_bytes == 64 * MIB
        assert box.commands.run("head -c 40M /dev/urandom > /data/more").exit_code == 0
    client.volumes.delete("base")
    copy = client.volumes.clone("monday", "copy", labels={"suite": "copies"})
    assert copy.size_bytes == 32 * MIB
    assert [each.name for each in client.volumes.list(labels={"suite": "copies"})] == ["copy"]
    assert client.models.pull("monday:/", "weights").size_bytes == len(b"first")
    with client.sandboxes.create(IMAGE, mounts=["copy:/data", "monday:/was:ro", "model://weights"]) as box:
        box.files.write("/data/state", b"third")
        assert box.files.read("/was/state") == b"first"
        seen = box.commands.run(
            "stat -c %u:%g:%a state; cat state; touch x", workdir="/models/weights", user="1000:1000"
        )
        assert (seen.stdout, "Read-only" in seen.stderr) == ("0:0:444\nfirst", True)
        with pytest.raises(InUse, match="used by"):
            client.models.delete("weights")
        box.stop(grace_s=0)
        box.update(mounts=["copy:/data"])
        client.models.delete("weights")
        client.volumes.delete("monday")  # its machine has not been told yet that the sandbox let go of it
        box.start()
        assert box.commands.run("cat /data/state; ls /was").stdout == "third"
    client.volumes.delete("copy")


def test_a_volume_that_its_machine_has_lost_is_not_replaced(client: Client, server: Server) -> None:
    client.volumes.create("lost", size="16MiB")
    with client.sandboxes.create(IMAGE, mounts=["lost:/data"]) as box:
        box.stop(grace_s=0)
        pool = f"/proc/{server.pid('agent')}/root{server.settings.run_path}/pool"
        (Path(pool) / "volumes" / client.volumes.get("lost").id).rename(Path(pool) / "trash" / "lost")
        with pytest.raises(Failed, match=r"mounts\[0\].volume: this machine has lost volume lost"):
            box.start()
    client.volumes.delete("lost")
