"""A machine's models on a folder of the test, with small limits; and how they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skerry.agent.images.progress import Step
from skerry.agent.models.cache import ModelCache
from skerry.agent.models.convert.run import Converter
from skerry.agent.models.fetch import FetchLimits
from skerry.agent.models.store import ModelLimits, ModelStore
from skerry.client.shares import Shares
from skerry.clock import SystemClock
from skerry.model.secret import SealedSecret, bound_to
from skerry.model.weights import MadeModel, ModelOrder
from skerry.sealing import Sealer

PART = 1024
FETCH = FetchLimits(part_bytes=PART, connections=4, tries=3, pause_s=0.01)


class Machine:
    def __init__(self, folder: Path, *, fetch: FetchLimits = FETCH, **limits: Any) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(exist_ok=True)
        self.volume = folder / "volume"
        self.volume.mkdir(exist_ok=True)
        self.sealer = Sealer(folder / "secrets.key")
        self.sealer.make_key()
        self.told: list[tuple[Step, int | None, int | None]] = []
        self.cache = ModelCache(folder / "models", reserve_bytes=0)
        self.store = ModelStore(
            cache=self.cache,
            sealer=self.sealer,
            shares=Shares(folder, [self.shared]),
            volume_path=lambda _: self.volume,
            endpoints={},
            converter=Converter(),
            clock=SystemClock(),
            limits=ModelLimits(fetch=fetch, **limits),
        )
        self.store.open()

    def secret(self, value: str) -> SealedSecret:
        sealed = self.sealer.seal(value.encode(), bound_to("default", "s", "sec-1", 1))
        return SealedSecret(id="sec-1", project="default", name="s", version=1, sealed=sealed)

    async def have(self, source: str, number: int = 1, secret: str | None = None, **order: Any) -> MadeModel:
        given = ModelOrder(source=source, secret=self.secret(secret) if secret else None, **order)
        return await self.store.have(model_id(number), given, lambda *told: self.told.append(told))

    def files(self, number: int = 1) -> dict[str, bytes]:
        tree = self.store.path(model_id(number))
        return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.cache.unfinished)) for path in self.cache.unfinished.rglob("*"))


def model_id(number: int) -> str:
    return f"mod-{number:012x}"
