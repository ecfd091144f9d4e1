"""One activator for each reconciler. They carry no input: a reconciler that is woken looks at everything it owns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields

from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.image import Image, ImageState
from skerry.model.node import Node, NodeState
from skerry.model.sandbox import S, Sandbox
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
    watch_node: Wakeup = field(default_factory=Wakeup)
    sweep_node: Wakeup = field(default_factory=Wakeup)
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
            case Node() if record.state is NodeState.READY:
                for each in fields(self):
                    getattr(self, each.name).set()
            case _:
                pass

    def _about_sandbox(self, sandbox: Sandbox) -> None:
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
                if sandbox.spec.services:
                    self.observe_sandboxes.set()  # they may have got on while its record still said it was starting
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
            case CheckpointState.DELETED:
                pass
