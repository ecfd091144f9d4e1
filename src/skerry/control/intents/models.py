"""What may be asked of models: fetch one, make one of another, delete one; and have one that something needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from skerry.control.intents.volumes import require_usable
from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, LimitReached, NotFound
from skerry.model.identity import make_id
from skerry.model.sandbox import Mount, models_named
from skerry.model.volume import Volume
from skerry.model.weights import (
    MODELS_MAX,
    Model,
    ModelCard,
    ModelRequest,
    ModelState,
    ModelUpdate,
    SourceKind,
    default_name,
    kind_of,
    over,
)
from skerry.store.transaction import Transaction

_M = ModelState
USERS_NAMED_MAX = 5
TRY_AGAIN_S = 60.0
"""After so long, whoever needs a model that could not be fetched has it fetched again."""
FETCHED = frozenset(SourceKind) - {SourceKind.FOLDER, SourceKind.VOLUME}


class ModelIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset((was, _M.DELETING) for was in (_M.CREATING, _M.READY, _M.FAILED))


async def create(tx: Transaction, request: ModelRequest, *, share: Sequence[Path] = ()) -> Model:
    """The one that there is, where it is the same; it takes the labels that are given. `share`: real paths of the
    folders that the operator shares."""
    await tx.volumes.lock_all()
    name = request.name or default_name(request.source)
    base = await _base(tx, request, share)
    for old in await tx.models.named(name):
        if old.state is _M.FAILED:
            await delete(tx, old)  # of no use to anybody who tries again under the same name
        elif _is_same(old, request):
            relabelled = await tx.models.change(old, {"labels": request.labels}) if request.labels else None
            return relabelled or old
    if await tx.models.count_living() >= MODELS_MAX:
        raise LimitReached(f"there may be {MODELS_MAX} models; delete some")
    for number, adapter in enumerate(request.adapters):
        await _ready_named(tx, adapter, f"adapters[{number}]")
    said = ModelCard.model_validate({**request.card, "parameters": request.parameters})
    model_id = make_id("model", tx.chance(6))
    operation = tx.operations.new("model.create", model_id, tx.project)
    model = Model(
        id=model_id,
        project=tx.project,
        name=name,
        state=_M.CREATING,
        source=request.source,
        endpoint=request.endpoint,
        secret=request.secret,
        base=base.id if base else None,
        convert=request.convert,
        said=said,
        own=_inherited(base),
        adapters=request.adapters,
        labels=request.labels,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    try:
        await tx.models.insert([model], [operation], message=request.source)
    except AlreadyExists as error:
        raise AlreadyExists(
            f"there is already a model {name}, and it is another one; take another name, or delete it first",
            because=error.because,
            field="name",
        ) from error
    return model


def _inherited(base: Model | Volume | None) -> ModelCard:
    """What had been said of the one that it is made of; what its own files say is known when it is made."""
    if not isinstance(base, Model):
        return ModelCard()
    spoken = {name: getattr(base.own or base.said, name) for name in ModelUpdate.model_fields}
    return over(ModelCard().model_copy(update=spoken), base.said)


def _is_same(old: Model, request: ModelRequest) -> bool:
    said = ModelCard.model_validate({**request.card, "parameters": request.parameters})
    asked: tuple[Any, ...] = (request.source, request.endpoint, request.convert, request.adapters, said)
    return asked == (old.source, old.endpoint, old.convert, old.adapters, old.said)


async def _base(tx: Transaction, request: ModelRequest, share: Sequence[Path]) -> Model | Volume | None:
    """The volume or model that its source names; raises what is wrong with it."""
    kind = kind_of(request.source)
    if request.secret is not None and request.secret not in await tx.secrets.named([request.secret], tx.project):
        raise NotFound(
            f"secret: there is no secret {request.secret}; make it with: skerry secret set {request.secret}",
            field="secret",
        )
    if kind is SourceKind.MODEL:
        return await _ready_named(tx, request.source.removeprefix("model://"), "source")
    if kind is SourceKind.VOLUME:
        try:
            volume = await tx.volumes.find(request.source.partition(":")[0], tx.project)
        except NotFound as error:
            raise NotFound(f"source: {error.say}", field="source") from None
        require_usable(volume, "source")
        return volume
    if kind is SourceKind.FOLDER and not any(Path(request.source).resolve().is_relative_to(each) for each in share):
        raise Invalid(
            f"source: {request.source} is not shared; its operator adds it with: skerry share add {request.source}",
            field="source",
        )
    return None


async def _ready_named(tx: Transaction, name: str, field: str) -> Model:
    try:
        model = await tx.models.find(name, tx.project)
    except NotFound:
        raise NotFound(
            f"{field}: there is no model {name}; `skerry model list` shows those here, `skerry model pull` brings more",
            field=field,
        ) from None
    if model.state is _M.READY:
        return model
    told = {
        _M.CREATING: "is being fetched; try again when it is ready",
        _M.FAILED: f"could not be fetched ({model.reason}); pull it again",
    }
    raise Conflict(f"{field}: model {model.name} {told.get(model.state, 'is being deleted')}", field=field)


async def check(tx: Transaction, mounts: Sequence[Mount], *, first: int = 0) -> None:
    """Raises NotFound or Conflict for a model that cannot be mounted. `first`: the first one's number in its spec."""
    if not models_named(mounts):
        return
    await tx.volumes.lock_all()
    for number, mount in enumerate(mounts, first):
        if mount.model is not None:
            await _ready_named(tx, mount.model, f"mounts[{number}].model")


async def delete(tx: Transaction, model: Model) -> Model:
    """Raises InUse while a sandbox mounts it, or another model is being made of it."""
    if model.state is _M.DELETING:
        return model
    await tx.volumes.lock_all()
    if model.state is _M.READY:
        if users := (await tx.sandboxes.users_of_models()).get(model.name):
            more = f" and {len(users) - USERS_NAMED_MAX} more" if len(users) > USERS_NAMED_MAX else ""
            named = ", ".join(users[:USERS_NAMED_MAX])
            raise InUse(f"model {model.name} is used by {named}{more}; delete these sandboxes first")
        if going_on := await tx.jobs.users_of("models", model.name):
            raise InUse(f"model {model.name} is used by job {going_on[0]}; wait for its end, or cancel it first")
        if services := await tx.services.users_of_model(model.name, model.source):
            raise InUse(f"model {model.name} is used by service {services[0]}; delete it, or give it another model")
        if made := await tx.models.made_of(model.id):
            raise InUse(f"model {made[0].name} is being made of {model.name}; delete it when that is ready")
    operation = tx.operations.new("model.delete", model.id, tx.project)
    written = await tx.models.move(model, _M.DELETING, "deleting", operation=operation)
    if written is None:
        raise Conflict(f"model {model.name} has just changed; look, then try again")
    return written


# For those that need a model: services, of their `model` and `adapters`.


def is_fetched(source: str) -> bool:
    """Whether a source is a model of ours, to be mounted as `mount_of` says. False: a folder of the image, or one of a
    volume, VOLUME:/path, which is mounted as volumes are."""
    try:
        return kind_of(source) in FETCHED
    except ValueError as error:
        raise Invalid(f"model: {source[:100]}: {error}", field="model") from None


async def ready(tx: Transaction, source: str) -> Model | None:
    """The model of this source, if it is here."""
    found = [model for model in await _of_source(tx, source) if model.state is _M.READY]
    return found[-1] if found else None


async def ensure(tx: Transaction, source: str) -> Model:
    """The model of this source, fetched if need be: READY, or CREATING, or FAILED with its `reason`, which is tried
    again a minute later by whoever asks again."""
    found = await _of_source(tx, source)
    for state in (_M.READY, _M.CREATING):
        if same := [model for model in found if model.state is state]:
            return same[-1]
    if found and tx.now - found[-1].updated_at < timedelta(seconds=TRY_AGAIN_S):
        return found[-1]
    name = default_name(source)
    if any(model.state is not _M.FAILED for model in await tx.models.named(name)):
        name = f"{name[:90]}-{tx.chance(3).hex()}"
    return await create(tx, ModelRequest(name=name, source=source))


async def _of_source(tx: Transaction, source: str) -> list[Model]:
    if kind_of(source) is SourceKind.MODEL:
        return await tx.models.named(source.removeprefix("model://"))
    return [model for model in await tx.models.of_source(source) if model.convert is None]


def mount_of(model: Model) -> Mount:
    """At `model.place`, or the folder that holds it."""
    return Mount.model_validate({"model": model.name})
