"""Where a replica finds its model and its adapters: a folder of its image, of a volume, or a model that is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.control.intents import models
from skerry.errors import Failed, NoRoom
from skerry.model.sandbox import Mount
from skerry.model.service import ServiceSpec
from skerry.model.weights import MODELS_FOLDER, ModelCard, ModelState, default_name
from skerry.store.transaction import Transaction

ADAPTERS_FOLDER = "/adapters"
FETCHING_S = 2.0
_VOLUME = re.compile(r"([a-z0-9-]+):(/.*)")


@dataclass(frozen=True)
class Places:
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    """Source -> path in the sandbox."""
    cards: Mapping[str, ModelCard] = field(default_factory=dict[str, ModelCard])
    """Source -> what is said of a model that is fetched."""
    mounts: tuple[Mount, ...] = ()
    """What of it is to be mounted."""


def sources_of(spec: ServiceSpec) -> list[tuple[str, str]]:
    """(field, source) of each, the model first."""
    found = [("model", spec.model)] if spec.model is not None else []
    return [*found, *((f"adapters.{name}", source) for name, source in spec.adapters.items())]


async def expected(tx: Transaction, spec: ServiceSpec) -> Places:
    """Before they are there: what has to be fetched is, from now on. Raises what is wrong with one."""
    places = _Places()
    for _, source in sources_of(spec):
        if not places.add_plain(source):
            model = await models.ensure(tx, source)
            places.cards[source] = model.card
            places.paths[source] = f"{MODELS_FOLDER}/{default_name(source)}"
            if model.state is ModelState.FAILED:
                raise Failed(f"model: {model.name} could not be fetched: {model.reason}", field="model")
    return places.done()


async def found(tx: Transaction, spec: ServiceSpec) -> Places:
    """As they are here now. Raises NoRoom while one is being fetched, Failed where one could not be."""
    places = _Places()
    for _, source in sources_of(spec):
        if places.add_plain(source):
            continue
        model = await models.ensure(tx, source)
        if model.state is ModelState.FAILED:
            raise Failed(f"model {model.name} could not be fetched: {model.reason}")
        if model.state is not ModelState.READY:
            raise NoRoom(f"it waits for model {model.name}, which is being fetched", retry_after_s=FETCHING_S)
        places.paths[source] = model.place
        places.cards[source] = model.card
        places.mounts[model.name] = models.mount_of(model)
    return places.done()


def volume_mounts(spec: ServiceSpec) -> list[Mount]:
    """Of volumes alone, which a service holds on to by their ids."""
    places = _Places()
    for _, source in sources_of(spec):
        places.add_plain(source)
    return list(places.mounts.values())


class _Places:
    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.cards: dict[str, ModelCard] = {}
        self.mounts: dict[str, Mount] = {}

    def add_plain(self, source: str) -> bool:
        """False: it is one to be fetched."""
        if models.is_fetched(source):
            return False
        volume = _VOLUME.fullmatch(source)
        if volume is None:
            self.paths[source] = source
            return True
        key = f"{volume[1]}:"
        if key not in self.mounts:
            # The model's is where Backend.AI has it, and its files expect it.
            target = f"{ADAPTERS_FOLDER}/{volume[1]}" if self.mounts or self.paths else MODELS_FOLDER
            self.mounts[key] = Mount(volume=volume[1], target=target, readonly=True)
        self.paths[source] = (self.mounts[key].target + volume[2]).rstrip("/")
        return True

    def done(self) -> Places:
        return Places(self.paths, self.cards, tuple(self.mounts.values()))
