"""One activator for each reconciler. They carry no input: a reconciler that is woken looks at everything it owns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.image import Image, ImageState
from skerry.model.job import JOB_FINAL, Job, JobState, Task
from skerry.model.placed import Placed
from skerry.model.queue import Queue
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Service
from skerry.model.volume import Volume, VolumeState
from skerry.model.weights import Model, ModelState
from skerry.store.changes import Record


class Wakeup:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds_max: float) -> None:
        """Until woken, or for so long. Several wake-ups in between are one."""
        try:
            async with asyncio.timeout(seconds_max):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


@dataclass(frozen=True)
class Wakeups:
    place_sandboxes: Wakeup = field(default_factory=Wakeup)
    evict_sandboxes: Wakeup = field(default_factory=Wakeup)
    start_sandboxes: Wakeup = field(default_factory=Wakeup)
    apply_changes: Wakeup = field(default_factory=Wakeup)
    observe_sandboxes: Wakeup = field(default_factory=Wakeup)
    stop_sandboxes: Wakeup = field(default_factory=Wakeup)
    restore_sandboxes: Wakeup = field(default_factory=Wakeup)
    delete_sandboxes: Wakeup = field(default_factory=Wakeup)
    create_checkpoints: Wakeup = field(default_factory=Wakeup)
    delete_checkpoints: Wakeup = field(default_factory=Wakeup)
    schedule_checkpoints: Wakeup = field(default_factory=Wakeup)
    release_checkpoints: Wakeup = field(default_factory=Wakeup)
    answer_guests: Wakeup = field(default_factory=Wakeup)
    create_images: Wakeup = field(default_factory=Wakeup)
    delete_images: Wakeup = field(default_factory=Wakeup)
    create_volumes: Wakeup = field(default_factory=Wakeup)
    resize_volumes: Wakeup = field(default_factory=Wakeup)
    delete_volumes: Wakeup = field(default_factory=Wakeup)
    create_models: Wakeup = field(default_factory=Wakeup)
    delete_models: Wakeup = field(default_factory=Wakeup)
    depend_jobs: Wakeup = field(default_factory=Wakeup)
    advance_tasks: Wakeup = field(default_factory=Wakeup)
    notify_jobs: Wakeup = field(default_factory=Wakeup)
    forget_jobs: Wakeup = field(default_factory=Wakeup)
    advance_jobs: Wakeup = field(default_factory=Wakeup)
    settle_services: Wakeup = field(default_factory=Wakeup)
    scale_services: Wakeup = field(default_factory=Wakeup)
    watch_node: Wakeup = field(default_factory=Wakeup)
    sweep_node: Wakeup = field(default_factory=Wakeup)
    settle_imports: Wakeup = field(default_factory=Wakeup)
    prune_records: Wakeup = field(default_factory=Wakeup)

    def about(self, record: Record) -> None:
        """Wake who owes the record its next move. Told of every commit, so that no writer can forget it."""
        match record:
            case Sandbox():
                self._about_sandbox(record)
            case Checkpoint():
                self._about_checkpoint(record)
            case Image():
                match record.state:
                    case ImageState.CREATING:
                        self.create_images.set()
                    case ImageState.DELETING:
                        self.delete_images.set()
                    case _:
                        self.place_sandboxes.set()
            case Volume():
                match record.state:
                    case VolumeState.CREATING:
                        self.create_volumes.set()
                    case VolumeState.RESIZING:
                        self.resize_volumes.set()
                    case VolumeState.DELETING:
                        self.delete_volumes.set()
                    case _:
                        pass
            case Model():
                match record.state:
                    case ModelState.CREATING:
                        self.create_models.set()
                    case ModelState.DELETING:
                        self.delete_models.set()
                    case _:
                        pass
            case Placed():
                self.start_sandboxes.set()
                self.restore_sandboxes.set()
            case Queue():
                self.place_sandboxes.set()
            case Job():
                self.advance_jobs.set()
                self.notify_jobs.set()
                if record.state is JobState.BLOCKED or record.state in JOB_FINAL:
                    self.depend_jobs.set()
                if record.state in JOB_FINAL:
                    self.forget_jobs.set()
            case Task():
                self.advance_jobs.set()
                self.notify_jobs.set()
            case Service():
                self.settle_services.set()
            case _:
                pass

    def about_agent(self) -> None:
        """It answers again: wake who has something to ask of it. Who gives places is woken by what has changed of the
        node (`Mirror.hear`)."""
        for each in (
            self.start_sandboxes,
            self.apply_changes,
            self.observe_sandboxes,
            self.stop_sandboxes,
            self.restore_sandboxes,
            self.delete_sandboxes,
            self.create_checkpoints,
            self.delete_checkpoints,
            self.answer_guests,
            self.create_images,
            self.delete_images,
            self.create_volumes,
            self.resize_volumes,
            self.delete_volumes,
            self.forget_jobs,
            self.sweep_node,
            self.settle_imports,
        ):
            each.set()

    def _about_sandbox(self, sandbox: Sandbox) -> None:
        if sandbox.job is not None:
            self.advance_tasks.set()
            if sandbox.state is S.DELETED:
                self.advance_jobs.set()
        if sandbox.replica is not None:
            self.settle_services.set()
        match sandbox.state:
            case S.PENDING:
                self.place_sandboxes.set()
            case S.STARTING:
                self.start_sandboxes.set()
            case S.STOPPING:
                self.stop_sandboxes.set()
            case S.RESTORING:
                self.restore_sandboxes.set()
            case S.DELETING:
                self.delete_sandboxes.set()
            case S.STOPPED | S.FAILED | S.DELETED:
                self.place_sandboxes.set()  # there may be room now
            case S.RUNNING | S.ASLEEP:
                spec = sandbox.spec
                if spec.services or spec.health is not None or spec.command is not None:
                    self.observe_sandboxes.set()  # they may have got on while its record still said it was starting
        if sandbox.evicted is not None:
            self.evict_sandboxes.set()
        if not sandbox.applied:
            self.apply_changes.set()
        if sandbox.source_checkpoint is not None:
            self.release_checkpoints.set()

    def _about_checkpoint(self, checkpoint: Checkpoint) -> None:
        match checkpoint.state:
            case CheckpointState.CREATING:
                self.create_checkpoints.set()
            case CheckpointState.DELETING:
                self.delete_checkpoints.set()
            case CheckpointState.READY | CheckpointState.FAILED:
                self.place_sandboxes.set()
                if checkpoint.origin is Origin.FORK:
                    self.release_checkpoints.set()
                if checkpoint.origin is Origin.AUTO:
                    self.evict_sandboxes.set()  # one that makes room may have waited for it
            case CheckpointState.DELETED:
                pass
