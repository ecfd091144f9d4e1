"""Nodes, work and queues in few words, for the tests of the scheduler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skerry.model.tier import Tier
from skerry.scheduler.plan import Plan
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Device, Node, Placement, Queue, Snapshot, Work

GIB = 2**30


def node(id: str, cpu: float = 4, gpus: int = 0, kind: str = "h100", memory: int = 64, **more: Any) -> Node:
    devices = tuple(Device(kind, 80 * GIB) for _ in range(gpus))
    return Node(id, round(cpu * 1000), memory * GIB, devices=devices, **more)


def shape(cpu: float = 1, gpu: float = 0, memory: float = 1, **more: Any) -> Shape:
    count, milli = (0, 1000) if not gpu else (1, round(gpu * 1000)) if gpu < 1 else (round(gpu), 1000)
    return Shape(round(cpu * 1000), round(memory * GIB), gpu_count=count, gpu_milli=milli, **more)


def work(id: str, cpu: float = 1, gpu: float = 0, members: int = 1, asks: Shape | None = None, **more: Any) -> Work:
    asked = asks or shape(cpu, gpu)
    names = [id] if members == 1 else [f"{id}-{rank}" for rank in range(members)]
    return Work(id, tuple((name, asked) for name in names), **{"tier": Tier.BEST_EFFORT, **more})


def running(id: str, on: str, cpu: float = 1, gpu: float = 0, **more: Any) -> Placement:
    asked = shape(cpu, gpu)
    devices = tuple((index, asked.gpu_milli, 0) for index in range(asked.gpu_count))
    settings: dict[str, Any] = {"work": id, "tier": Tier.BEST_EFFORT, "devices": devices, "since_s": -1e6, **more}
    return Placement(id, node=on, shape=asked, **settings)


def after(snapshot: Snapshot, plan: Plan, now: float) -> Snapshot:
    """What is there once the plan has been carried out."""
    works = {each.id: each for each in snapshot.waiting}
    placements = {each.id: each for each in snapshot.placements}
    for eviction in plan.evictions:
        placements[eviction.id] = replace(placements[eviction.id], leaving=True)
    for start in plan.starts:
        of = works[start.work]
        minimum = len(of.members) if of.minimum is None else of.minimum
        placements[start.id] = Placement(
            start.id,
            start.work,
            start.node,
            dict(of.members)[start.id],
            start.devices,
            of.queue,
            of.project,
            of.user,
            of.tier,
            of.priority,
            now,
            None if of.limit_s is None else now + of.limit_s,
            minimum,
        )
    started = {start.work for start in plan.starts}
    return replace(
        snapshot,
        placements=tuple(placements.values()),
        waiting=tuple(each for each in snapshot.waiting if each.id not in started),
    )


def started(plan: Plan) -> list[str]:
    return [start.work for start in plan.starts]


def fifo(**more: Any) -> Queue:
    from skerry.model.queue import Policy

    return Queue(**{"policy": Policy.FIFO, **more})
