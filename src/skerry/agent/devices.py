"""Accelerators of this machine: those that its settings name, or NVIDIA's, by what nvidia-smi tells."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from skerry.model.resources import GPU_MILLI, Accelerator, AcceleratorSetting
from skerry.model.sandbox import MIB
from skerry.telemetry import Log

ANSWER_S = 20.0
"""The first question after a boot loads the driver."""
FORMAT = "--format=csv,noheader,nounits"
QUERY = ("--query-gpu=name,memory.total", FORMAT)
BUSY = ("--query-gpu=utilization.gpu", FORMAT)
BUSY_KEPT_S = 2.0
"""Asking takes a part of a second of a processor, and the driver itself means over as long."""
NOBODY_TELLS = "nvidia-smi is not there, and nothing else tells how busy devices are"
SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
PRODUCT = re.compile(r"\b(?:[a-z]{1,3}\d{2,4}[a-z]{0,2}|[rg]tx-a?\d{3,5}(?:-(?:ti|super))*)\b")


class Devices:
    def __init__(self, settings: Sequence[AcceleratorSetting], log: Log, monotonic_s: Callable[[], float]) -> None:
        self._log = log
        self._monotonic_s = monotonic_s
        self._busy: list[float | None] = []
        self._busy_unknown: str | None = None
        self._busy_at_s: float | None = None
        self._asking = asyncio.Lock()
        self._known: list[AcceleratorSetting] = list(settings)

    async def look(self) -> None:
        """Once, at the start: a device that comes or goes later takes a restart of the agent."""
        program = shutil.which("nvidia-smi")
        if self._known or program is None:
            return
        try:
            self._known = found_by(await _ask(program, QUERY))
        except (OSError, TimeoutError, ValueError) as error:
            self._log.warning("nvidia-smi does not tell which devices there are", because=str(error))

    async def busy(self) -> tuple[list[float | None], str | None]:
        """Share of its time that each device was at work lately, by its number; or why that is not known."""
        async with self._asking:  # who comes meanwhile is told the same
            now_s = self._monotonic_s()
            if self._busy_at_s is None or now_s - self._busy_at_s > BUSY_KEPT_S:
                self._busy, self._busy_unknown = await self._ask_busy()
                self._busy_at_s = self._monotonic_s()
            return self._busy, self._busy_unknown

    async def _ask_busy(self) -> tuple[list[float | None], str | None]:
        program = shutil.which("nvidia-smi")
        if program is None:
            return [], NOBODY_TELLS
        try:
            return busy_by(await _ask(program, BUSY)), None
        except (OSError, TimeoutError, ValueError) as error:
            return [], f"nvidia-smi does not tell: {error}"

    @property
    def accelerators(self) -> list[Accelerator]:
        """As they are told to control: where their files are is this machine's own business."""
        fields = set(Accelerator.model_fields)
        return [Accelerator.model_validate(each.model_dump(include=fields)) for each in self._known]

    def paths(self, assigned: Sequence[tuple[int, int, int]]) -> list[Path]:
        """The files of /dev that a sandbox with these devices may use."""
        files: dict[str, None] = {}
        for index, _, _ in assigned:
            for setting, at in self._all()[index : index + 1]:
                if setting.paths:
                    files |= dict.fromkeys([*setting.paths[at], *setting.shared])
        return [Path(path) for path in files]

    def env(self, assigned: Sequence[tuple[int, int, int]]) -> dict[str, str]:
        """By which programs in the sandbox know what is theirs. In it CUDA sees only those, counted from 0."""
        if not assigned:
            return {}
        indices = [index for index, _, _ in assigned]
        return {
            "SKERRY_GPU_DEVICES": _listed(indices),
            "SKERRY_GPU_SHARE": f"{sum(milli for _, milli, _ in assigned) / GPU_MILLI:g}",
            "SKERRY_GPU_MEMORY_BYTES": _listed([memory for _, _, memory in assigned]),
            "CUDA_VISIBLE_DEVICES": _listed(range(len(indices))),
            "NVIDIA_VISIBLE_DEVICES": _listed(indices),
        }

    def _all(self) -> list[tuple[AcceleratorSetting, int]]:
        """Each device, by its number: which kind, and which of that kind."""
        return [(setting, at) for setting in self._known for at in range(setting.count)]


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


async def _ask(program: str, query: Sequence[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        *query,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            out, wrong = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise ValueError((wrong or out).decode(errors="replace").strip()[:500] or f"it ended with {process.returncode}")
    return out.decode(errors="replace")


def busy_by(told: str) -> list[float | None]:
    """Lines of percent, in the order of the devices' numbers; a device that is split does not tell."""
    lines = filter(None, map(str.strip, told.splitlines()))
    return [int(line) / 100 if line.isdigit() else None for line in lines]


def found_by(told: str) -> list[AcceleratorSetting]:
    """Lines such as `NVIDIA H100 80GB HBM3, 81559`, in the order of the devices' numbers. Raises ValueError."""
    each: list[tuple[str, int]] = []
    for line in filter(None, map(str.strip, told.splitlines())):
        name, comma, memory = line.rpartition(",")
        if not comma:
            raise ValueError(f"{line[:80]!r} is not NAME, MEMORY")
        each.append((kind_of(name), int(memory) * MIB if memory.strip().isdigit() else 0))
    made: list[AcceleratorSetting] = []
    number = 0
    for (kind, memory_bytes), same in groupby(each):
        count = len(list(same))
        paths = [[f"/dev/nvidia{number + index}"] for index in range(count)]
        there = all(Path(path).is_char_device() for [path] in paths)
        made.append(
            AcceleratorSetting(
                kind=kind,
                count=count,
                memory=memory_bytes,
                paths=paths if there else [],
                shared=[path for path in SHARED if there and Path(path).is_char_device()],
            )
        )
        number += count
    return made


def kind_of(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> h100, `Tesla T4` -> t4; a name in which no product is seen, as a slug of itself."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = slug.removeprefix("nvidia-").removeprefix("tesla-").removeprefix("geforce-") or "gpu"
    product = PRODUCT.search(slug)
    return product[0] if product else slug[:63].strip("-")
