"""The sections of a file in the order in which they are made; they are taken away in the opposite one."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.environment.kinds.contract import Kind
from skerry.environment.kinds.images import Images
from skerry.environment.kinds.jobs import Jobs
from skerry.environment.kinds.models import Models
from skerry.environment.kinds.networks import Networks
from skerry.environment.kinds.queues import Queues
from skerry.environment.kinds.sandboxes import Sandboxes
from skerry.environment.kinds.services import Services
from skerry.environment.kinds.volumes import Volumes

KINDS: Sequence[Kind] = (Images(), Networks(), Volumes(), Models(), Queues(), Sandboxes(), Jobs(), Services())


def kind_of(section: str) -> Kind:
    return next(kind for kind in KINDS if kind.section == section)
