"""What may be asked of volumes, and which of them a sandbox may mount: decided and written in one transaction, so that
none is deleted while somebody comes to mount it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, LimitReached, NotFound
from skerry.model.amounts import format_size
from skerry.model.identity import make_id
from skerry.model.sandbox import Mount
from skerry.model.volume import SIZE_DEFAULT, USABLE, Volume, VolumeRequest, VolumeState, VolumeUpdate
from skerry.store.transaction import Transaction

_V = VolumeState
USERS_NAMED_MAX = 5


class VolumeIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset(
        {(_V.READY, _V.RESIZING), *((was, _V.DELETING) for was in (_V.CREATING, _V.READY, _V.RESIZING, _V.FAILED))}
    )


async def create(tx: Transaction, request: VolumeRequest, *, volumes_max: int) -> Volume:
    await tx.volumes.lock_all()
    source = await _source(tx, request)
    for old in await tx.volumes.failed_named(request.name, tx.project):
        await delete(tx, old)  # what could not be made is of no use to anybody who tries again under the same name
    if await tx.volumes.count_living() >= volumes_max * max(1, await tx.nodes.count()):
        raise LimitReached(f"there may be {volumes_max} volumes on a machine; delete some (volumes_max)")
    volume_id = make_id("volume", tx.chance(6))
    operation = tx.operations.new("volume.create", volume_id, tx.project)
    volume = Volume(
        id=volume_id,
        project=tx.project,
        name=request.name,
        state=_V.CREATING,
        size_bytes=request.size or (source.size_bytes if source else SIZE_DEFAULT),
        labels=request.labels,
        readonly=request.readonly,
        source=source.id if source else None,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    try:
        await tx.volumes.insert([volume], [operation], message=f"from {source.name}" if source else "")
    except AlreadyExists as error:
        raise AlreadyExists(
            f"there is already a volume {request.name}; delete it first, or take another name",
            because=error.because,
            field="name",
        ) from error
    return volume


async def _source(tx: Transaction, request: VolumeRequest) -> Volume | None:
    if request.source is None:
        return None
    try:
        source = await tx.volumes.find(request.source, tx.project)
    except NotFound as error:
        raise NotFound(f"source: {error.say}", field="source") from None
    require_usable(source, "source")
    if request.size is not None and request.size < source.size_bytes:
        least = format_size(source.size_bytes)
        raise Invalid(f"size: a copy of volume {source.name} has at least its size, {least}", field="size")
    return source


def require_usable(volume: Volume, field: str) -> None:
    if volume.state in USABLE:
        return
    if volume.state is _V.FAILED:
        raise Conflict(f"{field}: volume {volume.name} could not be made ({volume.reason}); make it again", field=field)
    doing = {_V.CREATING: "being made; try again when it is ready", _V.DELETING: "being deleted"}[volume.state]
    raise Conflict(f"{field}: volume {volume.name} is {doing}", field=field)


async def update(tx: Transaction, volume: Volume, wanted: VolumeUpdate, *, used_bytes: int | None) -> Volume:
    """`used_bytes`: what its machine says that it holds, if it was asked."""
    changes: dict[str, Any] = {} if wanted.labels is None else {"labels": wanted.labels}
    if wanted.size is None or (wanted.size == volume.size_bytes and volume.state is _V.READY):
        written = await tx.volumes.change(volume, changes)
    else:
        _check_size(volume, wanted.size, used_bytes)
        changes |= {"resize_bytes": wanted.size, "reason": None}
        operation = tx.operations.new("volume.resize", volume.id, tx.project)
        told = f"{format_size(volume.size_bytes)} to {format_size(wanted.size)}"
        written = await tx.volumes.move(
            volume, _V.RESIZING, "resizing", message=told, operation=operation, changes=changes
        )
    if written is None:
        raise Conflict(f"volume {volume.name} has just changed; look, then try again")
    return written


def _check_size(volume: Volume, size_bytes: int, used_bytes: int | None) -> None:
    if volume.readonly:
        raise Invalid(f"size: volume {volume.name} is read-only, and its size is what it holds", field="size")
    if volume.state is not _V.READY:
        raise Conflict(f"volume {volume.name} is {volume.state.value}; resize it when it is ready")
    if used_bytes is not None and size_bytes < used_bytes:
        raise Invalid(f"size: volume {volume.name} holds {format_size(used_bytes)} already", field="size")


async def delete(tx: Transaction, volume: Volume) -> Volume:
    """Raises InUse while a sandbox mounts it, or a copy of it is being made."""
    if volume.state is _V.DELETING:
        return volume
    await tx.volumes.lock_all()
    if users := (await tx.sandboxes.users_of_volumes()).get(volume.id):
        more = f" and {len(users) - USERS_NAMED_MAX} more" if len(users) > USERS_NAMED_MAX else ""
        named = ", ".join(users[:USERS_NAMED_MAX])
        raise InUse(f"volume {volume.name} is used by {named}{more}; delete these sandboxes first")
    if going_on := await tx.jobs.users_of("volumes", volume.id):
        raise InUse(f"volume {volume.name} is used by job {going_on[0]}; wait for its end, or cancel it first")
    if services := await tx.services.users_of("volumes", volume.id):
        raise InUse(f"volume {volume.name} is used by service {services[0]}; delete it, or take the volume from it")
    if copies := await tx.volumes.copies_under_way(volume.id):
        raise InUse(f"volume {volume.name} is being copied to {copies[0].name}; delete it when that is ready")
    if made := await tx.models.made_of(volume.id):
        raise InUse(f"model {made[0].name} is being made of volume {volume.name}; delete it when that is ready")
    operation = tx.operations.new("volume.delete", volume.id, tx.project)
    written = await tx.volumes.move(volume, _V.DELETING, "deleting", operation=operation)
    if written is None:
        raise Conflict(f"volume {volume.name} has just changed; look, then try again")
    return written


async def mounted(
    tx: Transaction, mounts: Sequence[Mount], *, meant: Mapping[str, str] | None = None, first: int = 0
) -> dict[str, str]:
    """Name -> id of each volume among them: in use from now on. `meant`: those that bore the names when the mounts were
    written down; another in the place of one is refused. `first`: the first one's number in its spec."""
    named = [(number, mount, mount.volume) for number, mount in enumerate(mounts, first) if mount.volume is not None]
    if not named:
        return {}
    await tx.volumes.lock_all()
    found: dict[str, str] = {}
    for number, mount, name in named:
        field = f"mounts[{number}].volume"
        try:
            volume = await tx.volumes.find(name, tx.project)
        except NotFound:
            raise NotFound(
                f"{field}: there is no volume {name}; make it with: skerry volume create {name}", field=field
            ) from None
        require_usable(volume, field)
        if volume.readonly and not mount.readonly:
            raise Invalid(
                f"mounts[{number}].readonly: volume {name} is read-only; mount it so ({name}:{mount.target}:ro)",
                field=f"mounts[{number}].readonly",
            )
        if meant and meant[name] != volume.id:
            raise Conflict(f"{field}: the volume {name} of that time was deleted, and this is another", field=field)
        found[name] = volume.id
    return found
