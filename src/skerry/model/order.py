"""What control tells an agent about one sandbox, and what the agent answers. Orders are idempotent by generation."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from skerry.model.fields import Frozen
from skerry.model.guest_service import HealthStatus, Statuses
from skerry.model.network import Membership
from skerry.model.policy import Action, Policy
from skerry.model.sandbox import Exit, SandboxSpec
from skerry.model.secret import SealedSecret
from skerry.model.sleep import Asleep


class Order(Frozen):
    """Be running like this. Repeating an order, or sending it after a crash, changes nothing that is already so."""

    sandbox_id: str
    generation: int
    name: str
    spec: SandboxSpec
    image_digest: str
    source_checkpoint: str | None = None
    """Make the first disk from this checkpoint and not from the image."""
    has_run: bool = False
    """It has its disk already: should that be gone, say so, and never quietly give it a new one."""
    fork: bool = False
    """A fork gets a new machine-id and host keys before it first starts."""
    networks: list[Membership] = []
    volumes: dict[str, str] = {}
    """Name -> id of those that its mounts name."""
    models: dict[str, str] = {}
    """Likewise of models."""
    devices: list[tuple[int, int, int]] = []
    """Accelerators of this machine that it has: (index, thousandths, bytes of memory)."""
    folders: list[str] = []
    """Paths in it, below mounts of volumes, that are made before it starts."""
    secrets: list[SealedSecret] = []
    """Those that the spec names, as they were when it was made. Written down by the machine as they are, sealed."""

    @property
    def hostname(self) -> str:
        return self.spec.hostname or self.name

    @property
    def has_cable(self) -> bool:
        return self.spec.network.enabled or bool(self.networks)

    @property
    def policy(self) -> Policy:
        """What it may reach besides members of its networks: nothing where it has only those."""
        outside = not self.networks or not all(network.internal for network in self.networks)
        return self.spec.network.policy if self.spec.network.enabled and outside else Policy(default=Action.DENY)


class Presence(StrEnum):
    ABSENT = "absent"  # this machine has nothing of it
    STOPPED = "stopped"  # disk, no processes; `exit` tells how it ended
    RUNNING = "running"
    ASLEEP = "asleep"  # frozen or stopped, and awake again as soon as somebody wants it
    LOST = "lost"  # it should run by the agent's journal, but its processes are gone (reboot)


class Report(Frozen):
    """What is true of one sandbox on one machine."""

    sandbox_id: str
    generation: int
    presence: Presence
    address: str | None = None
    exit: Exit | None = None
    asleep: Asleep | None = None
    woken_by: str | None = None
    """What woke it last, if anything has: shown in its history."""
    services: Statuses = ()
    """As it has them now; none when it has no processes."""
    health: HealthStatus | None = None
    """Likewise."""
    checkpoint_wanted: dict[str, Any] | None = None
    """The guest asked for a checkpoint through its socket: {"request_id", "comment"}."""
