"""What a sandbox may have and how it runs, changed while its disk stays: live, and over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry import Client
from skerry.errors import Conflict, Invalid, RestartNeeded
from skerry.model.sandbox import MIB
from tests.system.test_life import IMAGE, until

CEILING = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
DOOR = "test -S /.skerry/run/api.sock && echo door"


def run(box: Any, command: str) -> str:
    return box.commands.run(command).stdout.strip()


def test_limits_change_under_its_feet(client: Client) -> None:
    with client.sandboxes.create(IMAGE, memory="64MiB", disk="64MiB") as box:
        main = run(box, "cat /proc/1/stat")
        box.update(memory="128MiB", disk="128MiB", cpu=0.5, pids=50)
        until(lambda: box.info().applied)
        assert run(box, CEILING) == str(128 * MIB)
        assert run(box, "head -c 100M /dev/zero > /root/large && sync && stat -c %s /root/large") == str(100 * MIB)
        until(lambda: box.stats().disk_bytes > 90 * MIB)
        with pytest.raises(Conflict, match=r"disk: 32\.0MiB is less than"):
            box.update(disk="32MiB")
        box.update(memory="96MiB")
        until(lambda: box.info().applied)
        assert run(box, CEILING) == str(96 * MIB)
        assert run(box, "cat /proc/1/stat").split()[21] == main.split()[21], "it was never stopped"


def test_the_rest_changes_over_a_restart_and_the_disk_stays(client: Client, shared_folder: Path) -> None:
    folder = shared_folder / "later"
    folder.mkdir()
    (folder / "note").write_text("from the host")
    with client.sandboxes.create(IMAGE, env={"LEVEL": "info"}, bandwidth={"down": "8Mbit"}) as box:
        box.files.write("/root/kept", b"precious")
        address = box.info().address
        change: dict[str, Any] = {"env": {"LEVEL": "debug"}, "mounts": [f"{folder}:/data:ro"], "self_lease": True}
        with pytest.raises(RestartNeeded, match="env, mounts, self_lease can only change while it is stopped"):
            box.update(**change)
        with pytest.raises(Invalid, match="not shared"):
            box.update(**{**change, "mounts": ["/etc:/data"]}, reload=True)
        assert run(box, "echo $LEVEL") == "info"
        box.update(**change, user="nobody", workdir="/tmp", network=False, reload=True, grace_s=0)
        seen = run(box, f"echo $LEVEL $(id -un) $PWD; cat /data/note; echo; {DOOR}; ls /sys/class/net")
        assert seen.split() == ["debug", "nobody", "/tmp", "from", "the", "host", "door", "lo"]
        assert box.files.read("/root/kept") == b"precious"
        box.update(user=None, workdir=None, network=True, mounts=[], self_lease=False, reload=True, grace_s=0)
        assert run(box, f"echo $(id -un) $PWD; ls /data; {DOOR}; cat /root/kept").split() == [
            "root",
            "/",
            "precious",
        ]
        assert box.info().address == address
        box.reload(grace_s=0)
        assert run(box, "cat /root/kept") == "precious"
