"""What may be asked of images: make one in four ways, delete one, remove all that nobody uses."""

from __future__ import annotations

from typing import ClassVar

from skerry.control.intents.checkpoints import require_disk
from skerry.errors import AlreadyExists, Conflict, InUse, Invalid
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageRequest, ImageState, image_name
from skerry.model.sandbox import Sandbox
from skerry.store.transaction import Transaction

_I = ImageState
USERS_NAMED_MAX = 5
IMAGES_MAX = 10_000


class ImageIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset({(was, _I.DELETING) for was in (_I.CREATING, _I.READY, _I.FAILED)})


async def request_image(tx: Transaction, request: ImageRequest) -> Image:
    source = request.source or f"recipe:{request.recipe}"
    return await _insert(tx, request.name, source, include=request.include, insecure=request.insecure)


async def request_upload(tx: Transaction, name: str) -> Image:
    return await _insert(tx, checked_name(name, "name"), "upload")


async def request_commit(tx: Transaction, sandbox: Sandbox, name: str) -> Image:
    require_disk(sandbox, "commit")
    return await _insert(tx, checked_name(name, "image"), f"sandbox:{sandbox.id}")


def checked_name(name: str, field: str) -> str:
    try:
        return image_name(name)
    except ValueError as error:
        raise Invalid(f"{field}: {name[:60]!r} is not allowed; {error}", field=field) from None


async def _insert(
    tx: Transaction, name: str, source: str, *, include: list[str] | None = None, insecure: bool = False
) -> Image:
    for old in await tx.images.newest_named([name]):
        if old.project == tx.project and old.state is _I.FAILED:
            # What could not be made is of no use to anybody who tries again under the same name.
            await request_deletion(tx, old)
    image_id = make_id("image", tx.chance(6))
    operation = tx.operations.new("image.create", image_id, tx.project)
    image = Image(
        id=image_id,
        project=tx.project,
        name=name,
        state=_I.CREATING,
        source=source,
        include=include or [],
        insecure=insecure,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    try:
        await tx.images.insert([image], [operation], message=source)
    except AlreadyExists as error:
        raise AlreadyExists(
            f"there is already an image {name}; delete it first, or take another name",
            because=error.because,
            field="name",
        ) from error
    return image


async def request_deletion(tx: Transaction, image: Image) -> Image:
    """Raises InUse while sandboxes began from it, unless another name keeps the same disk."""
    if image.state is _I.DELETING:
        return image
    users = await users_of(tx, image)
    if users:
        more = f" and {len(users) - USERS_NAMED_MAX} more" if len(users) > USERS_NAMED_MAX else ""
        named = ", ".join(users[:USERS_NAMED_MAX])
        raise InUse(f"image {image.name} is used by {named}{more}; delete these sandboxes first")
    if image.state is not _I.FAILED and (going_on := await tx.jobs.users_of_image(image.name)):
        raise InUse(f"image {image.name} is used by job {going_on[0]}; wait for its end, or cancel it first")
    if image.state is not _I.FAILED and (services := await tx.services.users_of_image(image.name)):
        raise InUse(f"image {image.name} is used by service {services[0]}; delete it, or give it another image first")
    operation = tx.operations.new("image.delete", image.id, tx.project)
    written = await tx.images.move(image, _I.DELETING, "deleting", operation=operation)
    if written is None:
        raise Conflict(f"image {image.name} has just changed; look, then try again")
    return written


async def users_of(tx: Transaction, image: Image) -> list[str]:
    """Names of the sandboxes that would miss it."""
    if image.state is _I.FAILED:
        return []
    if image.digest is not None and len(await tx.images.with_digest(image.digest)) > 1:
        return await tx.sandboxes.users_of_image(None, image.name)
    return await tx.sandboxes.users_of_image(image.digest, image.name)


async def prune(tx: Transaction) -> list[Image]:
    """Ask for the deletion of every ready image that no sandbox, job or service uses, and of failed ones. What is
    being made stays."""
    removed: list[Image] = []
    for image in await tx.images.in_states([_I.READY, _I.FAILED], IMAGES_MAX):
        used = image.digest is not None and await tx.sandboxes.users_of_image(image.digest, image.name)
        if image.state is _I.READY and not used:
            used = await tx.jobs.users_of_image(image.name) or await tx.services.users_of_image(image.name)
        if not used:
            removed.append(await request_deletion(tx, image))
    return removed
