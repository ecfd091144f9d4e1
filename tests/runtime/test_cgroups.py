"""Both cgroup versions give the same answers: v1 and v2 as fixture folders, since a test machine has only one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.errors import Failed, TooLarge
from skerry.runtime.container import cgroups
from skerry.runtime.container.cgroups import Ceilings, CgroupsV1, CgroupsV2, GroupUsage, detect

V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "freezer", "devices", "systemd")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    write(tmp_path, cgroup__controllers="cpu memory pids\n")
    write(
        tmp_path / "skerry-abcd/sb-1",
        cgroup__procs="",
        cgroup__freeze="0\n",
        cgroup__events="populated 1\nfrozen 1\n",
        cgroup__kill="",
        cpu__stat="usage_usec 2500000\nuser_usec 1\n",
        memory__current="5000\n",
        memory__peak="9000\n",
        memory__stat="anon 1\ninactive_file 1000\nfile_dirty 4096\nfile_writeback 1\n",
        memory__events="low 0\noom 3\noom_kill 2\n",
        pids__current="7\n",
    )
    return tmp_path


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    group = "skerry-abcd/sb-1"
    for name in V1_CONTROLLERS:
        write(tmp_path / name / group, cgroup__procs="")
    write(tmp_path / "cpuacct" / group, cpuacct__usage="2500000000\n")
    write(tmp_path / "pids" / group, pids__current="7\n")
    write(tmp_path / "freezer" / group, freezer__state="THAWED\n")
    write(
        tmp_path / "memory" / group,
        memory__usage_in_bytes="5000\n",
        memory__max_usage_in_bytes="9000\n",
        memory__stat="cache 1\ntotal_inactive_file 1000\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    )
    return tmp_path


def test_detection(v2: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert isinstance(detect("abcd", v2), CgroupsV2)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(Failed):
        detect("abcd", empty)
    (empty / "freezer").mkdir()
    assert isinstance(detect("abcd", empty), CgroupsV1)


EXPECTED = GroupUsage(cpu_s=2.5, memory_bytes=4000, memory_peak_bytes=9000, oom_kills=2, pids=7)


def test_usage_v2(v2: Path) -> None:
    assert CgroupsV2(v2, "skerry-abcd").usage("sb-1") == EXPECTED


def test_usage_v1(v1: Path) -> None:
    assert CgroupsV1(v1, "skerry-abcd").usage("sb-1") == EXPECTED


def test_unwritten_data(v1: Path, v2: Path) -> None:
    assert CgroupsV2(v2, "skerry-abcd").dirty_bytes("sb-1") == 4097
    (v1 / "memory/skerry-abcd/sb-1/memory.stat").write_text("total_dirty 4096\ntotal_writeback 1\n")
    assert CgroupsV1(v1, "skerry-abcd").dirty_bytes("sb-1") == 4097


WANTED = Ceilings(cpu_quota_us=150_000, cpu_period_us=100_000, memory_bytes=8192, pids=99)


def test_new_ceilings_v2(v2: Path) -> None:
    groups, group = CgroupsV2(v2, "skerry-abcd"), v2 / "skerry-abcd/sb-1"
    write(group, cpu__max="max 100000\n", pids__max="max\n", memory__max="max\n")
    groups.limit("sb-1", WANTED)
    for name, text in (("cpu.max", "150000 100000"), ("pids.max", "99"), ("memory.max", "8192")):
        assert (group / name).read_text().startswith(text)
    with pytest.raises(TooLarge, match="in use; it goes on with what it had"):
        groups.limit("sb-1", replace(WANTED, memory_bytes=3999, pids=98))
    assert (group / "pids.max").read_text().startswith("98")
    assert (group / "memory.max").read_text().startswith("8192")


def test_new_ceilings_v1(v1: Path) -> None:
    write(v1 / "cpu/skerry-abcd/sb-1", cpu__cfs_quota_us="-1     \n")
    write(v1 / "pids/skerry-abcd/sb-1", pids__max="max\n")
    files = {"memory__limit_in_bytes": "4096\n", "memory__memsw__limit_in_bytes": "4096\n"}
    write(v1 / "memory/skerry-abcd/sb-1", **files)
    CgroupsV1(v1, "skerry-abcd").limit("sb-1", WANTED)
    group = Path("skerry-abcd/sb-1")
    for name, text in (
        ("cpu/{}/cpu.cfs_quota_us", "150000"),
        ("pids/{}/pids.max", "99"),
        ("memory/{}/memory.limit_in_bytes", "8192"),
        ("memory/{}/memory.memsw.limit_in_bytes", "8192"),
    ):
        assert (v1 / name.format(group)).read_text().startswith(text)


def test_peak_on_a_kernel_without_it(v2: Path) -> None:
    (v2 / "skerry-abcd/sb-1/memory.peak").unlink()
    assert CgroupsV2(v2, "skerry-abcd").usage("sb-1").memory_peak_bytes == 5000


@pytest.mark.parametrize("kind", [CgroupsV1, CgroupsV2])
def test_a_group_that_is_not_there_is_nothing(kind: type[CgroupsV1 | CgroupsV2], tmp_path: Path) -> None:
    groups = kind(tmp_path, "skerry-abcd")

    async def verbs() -> None:
        assert await groups.freeze("sb-1") is True
        groups.thaw("sb-1")
        groups.limit("sb-1", WANTED)
        await groups.kill("sb-1")
        await groups.remove("sb-1")
        await groups.remove_parent()

    asyncio.run(verbs())
    assert groups.usage("sb-1") == GroupUsage()
    assert (groups.names(), groups.pids("sb-1"), groups.exists("sb-1")) == ([], [], False)


def test_names_pids_and_path(v1: Path) -> None:
    groups = CgroupsV1(v1, "skerry-abcd")
    (v1 / "memory/skerry-abcd/sb-2").mkdir()  # half made
    (v1 / "freezer/skerry-abcd/sb-1/cgroup.procs").write_text("12\n0\n15\n")
    assert groups.names() == ["sb-1", "sb-2"]
    assert groups.exists("sb-2")
    assert groups.pids("sb-1") == [12, 15]
    assert groups.path("sb-1") == "/skerry-abcd/sb-1"


def test_freeze_and_thaw_v2(v2: Path) -> None:
    groups, group = CgroupsV2(v2, "skerry-abcd"), v2 / "skerry-abcd/sb-1"
    assert asyncio.run(groups.freeze("sb-1")) is True
    assert (group / "cgroup.freeze").read_text()[0] == "1"
    groups.thaw("sb-1")
    assert (group / "cgroup.freeze").read_text()[0] == "0"


def test_freeze_that_does_not_come_about(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "FREEZE_WAIT_S", 0.01)
    (v2 / "skerry-abcd/sb-1/cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert asyncio.run(CgroupsV2(v2, "skerry-abcd").freeze("sb-1")) is False


def test_kill_v2_uses_the_one_switch_and_thaws_first(v2: Path) -> None:
    group = v2 / "skerry-abcd/sb-1"
    (group / "cgroup.freeze").write_text("1")
    asyncio.run(CgroupsV2(v2, "skerry-abcd").kill("sb-1"))
    assert (group / "cgroup.kill").read_text() == "1"
    assert (group / "cgroup.freeze").read_text() == "0"


def test_kill_v1_reaches_processes_in_any_tree(v1: Path) -> None:
    import subprocess

    sleeper = subprocess.Popen(["sleep", "100"])
    procs = v1 / "devices/skerry-abcd/sb-1/cgroup.procs"
    procs.write_text(f"{sleeper.pid}\n")

    async def kill() -> None:
        killing = asyncio.ensure_future(CgroupsV1(v1, "skerry-abcd").kill("sb-1"))
        await asyncio.sleep(0.05)
        procs.write_text("")
        await killing

    asyncio.run(kill())
    assert sleeper.wait(30) is not None


def test_what_crun_leaves_beside_v1_is_removed(v1: Path) -> None:
    shadow = v1 / "unified/skerry-abcd/sb-1"
    write(shadow, cgroup__procs="123")
    groups = CgroupsV1(v1, "skerry-abcd")
    for name in V1_CONTROLLERS:  # in a real hierarchy the kernel's files do not keep a folder from going
        for file in (v1 / name / "skerry-abcd/sb-1").iterdir():
            file.unlink()
    asyncio.run(groups.remove("sb-1"))
    assert not shadow.exists()
    assert groups.names() == []
