"""Accelerators that a machine has: by its settings, or by what a program says that stands in for nvidia-smi."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from skerry.agent.busy_routes import share_of
from skerry.agent.devices import Devices, found_by, kind_of
from skerry.model.resources import Accelerator, AcceleratorSetting
from skerry.settings import Settings
from skerry.telemetry import Log

GIB = 1024**3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.anyio
async def test_nvidias_devices_are_found_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(
        tmp_path,
        'test "$*" = "--query-gpu=name,memory.total --format=csv,noheader,nounits" || exit 9\n'
        'printf "NVIDIA H100 80GB HBM3, 81920\\nNVIDIA H100 80GB HBM3, 81920\\nTesla T4, [N/A]\\n"',
        monkeypatch,
    )
    devices = Devices([], Log("agent", "error"), time.monotonic)
    await devices.look()
    assert devices.accelerators == [
        Accelerator(kind="h100", count=2, memory=80 * GIB),
        Accelerator(kind="t4", count=1, memory=0),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("script", ["echo 'Failed to initialize NVML' >&2; exit 9", "echo nonsense", ""])
async def test_a_driver_that_does_not_answer_is_no_device(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, script, monkeypatch)
    devices = Devices([], Log("agent", "error"), time.monotonic)
    await devices.look()
    assert devices.accelerators == []


@pytest.mark.anyio
async def test_what_the_settings_say_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "echo 'Tesla T4, 15360'", monkeypatch)
    setting = AcceleratorSetting.model_validate(
        {"kind": "l4", "count": 2, "memory": "24GiB", "paths": ["/dev/nvidia0", "/dev/nvidia1"]}
    )
    devices = Devices([setting], Log("agent", "error"), time.monotonic)
    await devices.look()
    assert devices.accelerators == [Accelerator(kind="l4", count=2, memory=24 * GIB)]
    assert setting.paths == [["/dev/nvidia0"], ["/dev/nvidia1"]]


@pytest.mark.anyio
async def test_how_busy_they_are_is_asked_of_the_same_program_and_not_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(
        tmp_path,
        'test "$*" = "--query-gpu=utilization.gpu --format=csv,noheader,nounits" || exit 9\n'
        f'echo asked >> {tmp_path}/asked; printf "40\\n100\\n[N/A]\\n"',
        monkeypatch,
    )
    times = iter([0.0, 0.5, 1.0, 9.0, 9.5])
    devices = Devices([], Log("agent", "error"), lambda: next(times))
    assert await devices.busy() == ([0.4, 1.0, None], None)
    assert await devices.busy() == ([0.4, 1.0, None], None)
    assert (tmp_path / "asked").read_text().count("asked") == 1
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver' >&2; exit 9\n")
    assert await devices.busy() == ([], "nvidia-smi does not tell: no driver")


@pytest.mark.anyio
async def test_without_that_program_it_is_said_that_nobody_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    setting = AcceleratorSetting.model_validate({"kind": "l4", "count": 2})
    shares, why = await Devices([setting], Log("agent", "error"), time.monotonic).busy()
    assert (shares, why) == ([], "nvidia-smi is not there, and nothing else tells how busy devices are")


def test_a_sandbox_is_as_busy_as_its_devices_in_the_mean() -> None:
    assert share_of([(0, 1000, 0), (1, 1000, 0)], [0.4, 1.0]) == pytest.approx(0.7)
    assert share_of([(0, 1000, 0), (1, 1000, 0)], [0.4, None]) is None
    assert share_of([(3, 1000, 0)], [0.4]) is None
    assert share_of([], [0.4]) is None


def test_a_sandbox_is_told_of_its_devices_and_given_their_files() -> None:
    cards = {"kind": "h100", "count": 2, "paths": ["/dev/nvidia0", "/dev/nvidia1"], "shared": ["/dev/nvidiactl"]}
    other = {"kind": "mi300", "count": 1, "paths": [["/dev/kfd", "/dev/dri/renderD128"]]}
    unshown = {"kind": "tpu", "count": 1}
    settings = [AcceleratorSetting.model_validate(each) for each in (cards, other, unshown)]
    devices = Devices(settings, Log("agent", "error"), time.monotonic)
    assert devices.paths([]) == []
    assert devices.env([]) == {}
    assert [str(path) for path in devices.paths([(1, 500, 7)])] == ["/dev/nvidia1", "/dev/nvidiactl"]
    assert [str(path) for path in devices.paths([(0, 1000, 0), (1, 1000, 0)])] == [
        "/dev/nvidia0",
        "/dev/nvidiactl",
        "/dev/nvidia1",
    ]
    assert [str(path) for path in devices.paths([(2, 1000, 0)])] == ["/dev/kfd", "/dev/dri/renderD128"]
    assert devices.paths([(3, 1000, 0), (9, 1000, 0)]) == []
    assert devices.env([(1, 500, 40 * GIB)]) == {
        "SKERRY_GPU_DEVICES": "1",
        "SKERRY_GPU_SHARE": "0.5",
        "SKERRY_GPU_MEMORY_BYTES": str(40 * GIB),
        "CUDA_VISIBLE_DEVICES": "0",
        "NVIDIA_VISIBLE_DEVICES": "1",
    }


def test_no_device_of_a_machine_without_files_is_given_out() -> None:
    [found] = found_by("NVIDIA L40S, 46068\n")
    assert (found.kind, found.count, found.paths, found.shared) == ("l40s", 1, [], [])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA GeForce RTX 3080 Ti", "rtx-3080-ti"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA TITAN V", "titan-v"),
        ("???", "gpu"),
    ],
)
def test_kinds_are_slugs(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_settings_are_read_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skerry.toml").write_text(
        'node_taints = ["team=vision"]\n[node_labels]\nrack = "a"\n[extras]\nlicense = 4\n'
        '[[accelerators]]\nkind = "h100"\ncount = 1\nmemory = "80GiB"\npaths = ["/dev/nvidia0"]\n'
    )
    settings = Settings(data_dir=tmp_path)
    assert (settings.node_labels, settings.node_taints, settings.extras) == (
        {"rack": "a"},
        ["team=vision"],
        {"license": 4},
    )
    assert settings.accelerators[0].memory == 80 * GIB
    monkeypatch.setenv("SKERRY_ACCELERATORS", '[{"kind": "t4", "count": 3}]')
    assert [(each.kind, each.count) for each in Settings(data_dir=tmp_path).accelerators] == [("t4", 3)]


@pytest.mark.parametrize(
    "given",
    [
        {"accelerators": [{"kind": "h100", "count": 2, "paths": ["/dev/nvidia0"]}]},
        {"accelerators": [{"kind": "h100", "count": 1, "shared": ["/dev/nvidiactl"]}]},
        {"accelerators": [{"kind": "h100", "count": 1, "paths": ["/etc/passwd"]}]},
        {"accelerators": [{"kind": "h100", "count": 1, "paths": ["/dev/../etc/passwd"]}]},
        {"accelerators": [{"kind": "H100", "count": 1}]},
        {"node_taints": ["team"]},
        {"extras": {"License": 1}},
    ],
)
def test_settings_that_cannot_be(given: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"data_dir": tmp_path, **given})
