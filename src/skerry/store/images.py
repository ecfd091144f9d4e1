"""Images in the database: found by name, by id, or by the beginning of an id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Table, func, select

from skerry.model.image import IMAGE_MOVES, Image, ImageState, image_name
from skerry.model.moves import Moves
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import images

USABLE = (ImageState.CREATING.value, ImageState.READY.value)


class Images(Records[Image]):
    noun: ClassVar[str] = "image"
    prefix: ClassVar[str] = "im"
    table: ClassVar[Table] = images
    statements: ClassVar[Statements] = Statements(images, ("id", "state"))
    moves: ClassVar[Moves[Any]] = IMAGE_MOVES
    model = Image

    def index(self, record: Image) -> dict[str, Any]:
        return {"name": record.name, "digest": record.digest}

    def name_of(self, record: Image) -> str:
        return record.name

    def at_rest(self, record: Image) -> bool | None:
        match record.state:
            case ImageState.READY | ImageState.DELETED:
                return True
            case ImageState.FAILED:
                return False
            case _:
                return None

    def whole_name(self, ref: str) -> str:
        return _whole(ref)

    def _choose(self, ref: str, found: Sequence[Image]) -> Image:
        whole = _whole(ref)
        return super()._choose(whole if any(record.name == whole for record in found) else ref, found)

    async def list(
        self, project: str, *, name: str | None = None, limit: int, page_token: str | None = None
    ) -> Page[Image]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project, c.state != ImageState.DELETED.value]
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        return await self._page(where, limit, page_token)

    async def newest_named(self, names: Iterable[str]) -> list[Image]:
        """In the order of creation, so that of several with one name the newest comes last."""
        c = self.table.c
        return await self._many(select(c.body).where(c.name.in_(sorted(names))).order_by(c.sequence))

    async def with_digest(self, digest: str) -> list[Image]:
        """Every name of it that is not being taken away."""
        c = self.table.c
        return await self._many(select(c.body).where(c.digest == digest, c.state.in_(USABLE)))


def _whole(ref: str) -> str:
    """`debian` -> `debian:latest`; what is no image name at all stays as it is, and is not found."""
    try:
        return image_name(ref)
    except ValueError:
        return ref
