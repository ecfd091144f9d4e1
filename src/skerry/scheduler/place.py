"""pending -> starting: which machine each waiting sandbox gets, first come first served, the emptiest machine first.

Promises are counted, not use: cpu and memory of those with processes, times an overcommit factor. Disks are thin, so
only a machine whose pool is nearly full gets no more; its agent guards the reserve itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

WAIT_S_MAX = 600.0
"""A sandbox that found no room for so long, while machines were ready, fails and says so."""


@dataclass(frozen=True)
class Limits:
    cpu_overcommit: float
    memory_overcommit: float
    sandboxes_max: int
    """On one machine, in any state but deleted."""
    disk_reserve_bytes: int


@dataclass(frozen=True)
class Machine:
    id: str
    ready: bool
    cpu: float
    memory_bytes: int
    disk_free_bytes: int
    cpu_used: float = 0.0
    memory_used_bytes: int = 0
    sandboxes: int = 0


@dataclass(frozen=True)
class Want:
    id: str
    cpu: float
    memory_bytes: int
    waited_s: float
    machine: str | None = None
    """The one machine that has the checkpoint it starts from; None: any."""


@dataclass(frozen=True)
class Snapshot:
    machines: tuple[Machine, ...]
    wants: tuple[Want, ...]
    """Oldest first."""
    limits: Limits


@dataclass(frozen=True)
class Plan:
    placed: dict[str, str] = field(default_factory=dict[str, str])
    """sandbox -> machine"""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """sandbox -> why, for its user"""


def place(snapshot: Snapshot) -> Plan:
    """Who is in neither map waits on. Someone who does not fit does not hold up smaller ones behind."""
    plan = Plan()
    limits = snapshot.limits
    machines = {machine.id: machine for machine in snapshot.machines}
    for want in snapshot.wants:
        offered = [
            machine
            for machine in machines.values()
            if machine.ready and want.machine in (None, machine.id) and _fits(want, machine, limits)
        ]
        if offered:
            chosen = min(offered, key=lambda machine: (_load(machine, limits), machine.id))
            plan.placed[want.id] = chosen.id
            machines[chosen.id] = replace(
                chosen,
                cpu_used=chosen.cpu_used + want.cpu,
                memory_used_bytes=chosen.memory_used_bytes + want.memory_bytes,
                sandboxes=chosen.sandboxes + 1,
            )
        elif all(_disk_is_full(machine, limits) for machine in machines.values() if machine.ready) and any(
            machine.ready for machine in machines.values()
        ):
            # Waiting does not make room on a disk as it does in memory: nobody gives it back by going idle.
            plan.refused[want.id] = "the disk pool is full: delete checkpoints, sandboxes or images, or raise pool_size"
        elif want.waited_s >= WAIT_S_MAX and any(machine.ready for machine in machines.values()):
            plan.refused[want.id] = f"no machine had room for it within {WAIT_S_MAX:.0f} s; stop or delete others"
    return plan


def largest(machines: list[tuple[float, int]]) -> tuple[float, int]:
    """(cpu, memory bytes) that one sandbox can have at most. A ceiling above the real machine would be a lie."""
    return (
        max((cpu for cpu, _ in machines), default=0.0),
        max((memory_bytes for _, memory_bytes in machines), default=0),
    )


def _fits(want: Want, machine: Machine, limits: Limits) -> bool:
    return (
        want.cpu <= machine.cpu
        and want.memory_bytes <= machine.memory_bytes
        and machine.cpu_used + want.cpu <= machine.cpu * limits.cpu_overcommit
        and machine.memory_used_bytes + want.memory_bytes <= machine.memory_bytes * limits.memory_overcommit
        and machine.sandboxes < limits.sandboxes_max
        and not _disk_is_full(machine, limits)
    )


def _disk_is_full(machine: Machine, limits: Limits) -> bool:
    return machine.disk_free_bytes <= limits.disk_reserve_bytes


def _load(machine: Machine, limits: Limits) -> float:
    """The fuller of its two resources, 0 to 1."""
    return max(
        machine.cpu_used / (machine.cpu * limits.cpu_overcommit),
        machine.memory_used_bytes / (machine.memory_bytes * limits.memory_overcommit),
    )
