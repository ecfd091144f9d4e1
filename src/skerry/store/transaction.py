"""One look at the database or one change of it, with every noun at hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncConnection

from skerry.store.changes import Record
from skerry.store.checkpoints import Checkpoints
from skerry.store.events import Events
from skerry.store.images import Images
from skerry.store.jobs import Jobs
from skerry.store.keys import Keys
from skerry.store.ledger import Ledger
from skerry.store.metering import Metering
from skerry.store.models import Models
from skerry.store.networks import Networks
from skerry.store.nodes import Nodes
from skerry.store.notices import Notices
from skerry.store.operations import Operations
from skerry.store.pruning import Pruning
from skerry.store.queues import Queues
from skerry.store.sandboxes import Sandboxes
from skerry.store.secrets import Secrets
from skerry.store.services import Services
from skerry.store.stays import Stays
from skerry.store.tasks import Tasks
from skerry.store.tokens import Tokens
from skerry.store.traffic import Traffic
from skerry.store.volumes import Volumes

PROJECT = "default"
"""The one project there is until projects are a noun of their own; every row names it already."""


class Transaction:
    def __init__(
        self, connection: AsyncConnection, *, now: datetime, chance: Callable[[int], bytes], is_sqlite: bool
    ) -> None:
        self.connection = connection
        self.now = now
        self.chance = chance
        self.is_sqlite = is_sqlite
        self.project = PROJECT
        self.written: list[Record] = []
        """Told to watchers once it is committed."""
        self.told_events = False

    @cached_property
    def sandboxes(self) -> Sandboxes:
        return Sandboxes(self)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self)

    @cached_property
    def images(self) -> Images:
        return Images(self)

    @cached_property
    def operations(self) -> Operations:
        return Operations(self)

    @cached_property
    def events(self) -> Events:
        return Events(self)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self)

    @cached_property
    def networks(self) -> Networks:
        return Networks(self)

    @cached_property
    def volumes(self) -> Volumes:
        return Volumes(self)

    @cached_property
    def models(self) -> Models:
        return Models(self)

    @cached_property
    def secrets(self) -> Secrets:
        return Secrets(self)

    @cached_property
    def queues(self) -> Queues:
        return Queues(self)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self)

    @cached_property
    def notices(self) -> Notices:
        return Notices(self)

    @cached_property
    def tasks(self) -> Tasks:
        return Tasks(self)

    @cached_property
    def services(self) -> Services:
        return Services(self)

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self)

    @cached_property
    def metering(self) -> Metering:
        return Metering(self)

    @cached_property
    def traffic(self) -> Traffic:
        return Traffic(self)

    @cached_property
    def nodes(self) -> Nodes:
        return Nodes(self)

    @cached_property
    def stays(self) -> Stays:
        return Stays(self)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self)

    @cached_property
    def pruning(self) -> Pruning:
        return Pruning(self)
