"""`skerry doctor` shown hosts that lack one thing each: it must name the thing and the command that mends it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner

from skerry.cli.checks import catalog
from skerry.cli.checks.finding import Finding, Level
from skerry.cli.doctor import doctor, lines
from skerry.cli.invocation import Invocation

COMMANDS = (
    "crun",
    "catatonit",
    "mkfs.btrfs",
    "losetup",
    "ip",
    "nft",
    "skopeo",
    "umoci",
    "mmdebstrap",
    "qemu-system-x86_64",
)
GIB = 1024**3


@dataclass
class HostDouble:
    """A host that has everything until a test takes something away."""

    user: int = 0
    version: tuple[int, int] = (6, 18)
    free: int = 100 * GIB
    without: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str | None] = field(default_factory=dict)

    def user_id(self) -> int:
        return self.user

    def kernel(self) -> tuple[int, int]:
        return self.version

    def text(self, path: str) -> str | None:
        if path in self.without:
            return None
        return {
            "/proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow",
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
            "/proc/filesystems": "nodev\tproc\n\tbtrfs\n",
            "/proc/sys/net/ipv4/ip_forward": "1\n",
            **self.texts,
        }.get(path)

    def exists(self, path: str) -> bool:
        return path not in self.without

    def which(self, command: str) -> str | None:
        return None if command in self.without else f"/usr/bin/{command}"

    def output(self, *command: str) -> str | None:
        if command[0] in self.without:
            return None
        return {
            "crun": "crun version 1.8.1\n",
            "ldconfig": "\tlibnftables.so.1 (libc6,x86-64) => /lib/libnftables.so.1\n",
            "nft": '{"nftables": []}',
            "modprobe": None,
            **self.outputs,
        }[command[0]]

    def free_bytes(self, path: str) -> int:
        return self.free


def worst(host: HostDouble) -> dict[str, Finding]:
    return {f.name: f for f in catalog.everything(host, "/srv/skerry") if f.level is not Level.OK}


def forward_chain(table: str, **more: str) -> str:
    chain = {"family": "ip", "table": table, "name": "FORWARD", "hook": "forward", **more}
    return json.dumps({"nftables": [{"metainfo": {}}, {"chain": chain}]})


def test_a_complete_host_has_nothing_to_mend() -> None:
    assert worst(HostDouble()) == {}


@pytest.mark.parametrize(
    ("host", "name", "mend"),
    [
        (HostDouble(user=1000), "root", "sudo"),
        (HostDouble(version=(5, 10)), "kernel", "linux-image"),
        (HostDouble(without={"/proc/self/ns/user"}), "namespaces", None),
        (HostDouble(texts={"/proc/sys/user/max_user_namespaces": "0\n"}), "namespaces", "sysctl -w user"),
        (HostDouble(without={"/proc/sys/kernel/seccomp/actions_avail"}), "seccomp", None),
        (HostDouble(texts={"/sys/fs/cgroup/cgroup.controllers": "cpu pids"}), "cgroups", "+memory"),
        (
            HostDouble(without={"/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/freezer/tasks"}),
            "cgroups",
            "unified_cgroup_hierarchy",
        ),
        (HostDouble(texts={"/proc/filesystems": "\text4\n"}), "btrfs", "modprobe btrfs"),
        (HostDouble(without={"/dev/loop-control"}), "loop", "modprobe loop"),
        (HostDouble(without={"crun"}), "crun", "apt-get install -y crun"),
        (HostDouble(outputs={"crun": "crun version 1.5\n"}), "crun", "apt-get install -y crun"),
        (HostDouble(without={"catatonit"}), "catatonit", "apt-get install -y catatonit"),
        (HostDouble(without={"mkfs.btrfs"}), "mkfs.btrfs", "apt-get install -y btrfs-progs"),
        (HostDouble(without={"ip"}), "ip", "apt-get install -y iproute2"),
        (HostDouble(outputs={"ldconfig": ""}), "libnftables", "apt-get install -y libnftables1"),
        (HostDouble(free=GIB, without={"/srv/skerry/pool.img"}), "disk", "--data-dir"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_miss_that_stops_us_is_told_with_its_cure(host: HostDouble, name: str, mend: str | None) -> None:
    finding = worst(host)[name]
    assert finding.level is Level.FAIL
    assert mend is None or mend in (finding.mend or "")


@pytest.mark.parametrize(
    ("host", "name", "mend"),
    [
        (HostDouble(version=(6, 1)), "kernel", None),
        (HostDouble(without={"skopeo"}), "skopeo", "apt-get install -y skopeo"),
        (HostDouble(without={"mmdebstrap"}), "mmdebstrap", "apt-get install -y mmdebstrap"),
        (HostDouble(free=10 * GIB), "disk", "--data-dir"),
        (HostDouble(texts={"/proc/sys/net/ipv4/ip_forward": "0\n"}), "forwarding", "ip_forward=1"),
        (HostDouble(outputs={"nft": forward_chain("filter", policy="drop")}), "firewall", "iptables -I FORWARD"),
        (HostDouble(outputs={"nft": forward_chain("firewalld")}), "firewall", "firewall-cmd"),
        (HostDouble(without={"/dev/kvm"}), "kvm", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_limit_is_a_warning(host: HostDouble, name: str, mend: str | None) -> None:
    finding = worst(host)[name]
    assert finding.level is Level.WARN
    assert mend is None or mend in (finding.mend or "")


def test_our_own_firewall_is_not_a_foreign_one() -> None:
    assert worst(HostDouble(outputs={"nft": forward_chain("skerry_12ab", policy="drop")})) == {}


def test_hybrid_cgroups_are_fine_and_said() -> None:
    host = HostDouble(without={"/sys/fs/cgroup/cgroup.controllers"})
    told = {finding.name: finding for finding in catalog.everything(host, "/srv/skerry")}
    assert told["cgroups"].level is Level.OK
    assert "hybrid" in told["cgroups"].say


def test_serve_is_stopped_by_failures_only() -> None:
    assert catalog.misses(HostDouble(without={"skopeo"}, free=10 * GIB), "/srv/skerry") == []
    assert [f.name for f in catalog.misses(HostDouble(without={"crun"}), "/srv/skerry")] == ["crun"]


def test_the_cure_stands_under_the_miss() -> None:
    told = lines([Finding("crun", Level.FAIL, "not found", "apt-get install -y crun")])
    assert "crun  not found" in told[0]
    assert told[1].strip() == "mend: apt-get install -y crun"


def test_this_host_can_run_sandboxes() -> None:
    """Runs the real checks: where `make test` passes, doctor must agree."""
    ended = CliRunner().invoke(doctor, ["--json"], obj=Invocation({}))
    told = json.loads(ended.output)
    assert [check for check in told["checks"] if check["level"] == "fail"] == []
    assert (ended.exit_code, told["ok"]) == (0, True)
    assert {check["name"] for check in told["checks"]} >= {"kernel", "cgroups", "btrfs", "crun", "nft", "disk", "kvm"}


def test_the_disk_is_that_of_the_data_folder_in_the_environment() -> None:
    environment = {"SKERRY_DATA_DIR": "/srv/elsewhere"}
    ended = CliRunner().invoke(doctor, ["--json"], obj=Invocation({}), env=environment)
    (disk,) = [check for check in json.loads(ended.output)["checks"] if check["name"] == "disk"]
    assert "/srv/elsewhere" in disk["say"]
