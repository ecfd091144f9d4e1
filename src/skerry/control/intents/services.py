"""What may be asked of services: create, change, scale, roll out, delete. Each is checked as a whole before anything is
written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from skerry.control import launching
from skerry.control.intents import model_places, models, networks, queues, sandboxes, secrets, volumes
from skerry.control.intents.capacity import WhyNever, check_size, none_known
from skerry.control.reach import check_addresses
from skerry.engines.catalog import engine
from skerry.errors import AlreadyExists, Conflict, Invalid, LimitReached, NotFound
from skerry.model.explain import explain
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageState
from skerry.model.operation import Operation
from skerry.model.replica import Role
from skerry.model.rollout import Phase, Rollout, RolloutAction, RolloutRequest, RolloutStatus
from skerry.model.sandbox import SandboxSpec
from skerry.model.scaling import Scaling, Signal
from skerry.model.service import Health, Revision, ScaleRequest, Service, ServiceSpec, ServiceState
from skerry.model.service_update import ServiceUpdate
from skerry.store.transaction import Transaction

_S = ServiceState
SERVICES_MAX = 1000
_LIKE_A_PORT = re.compile(r".*--\d+")


class ServiceIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset({(_S.ACTIVE, _S.DELETING)})


@dataclass(frozen=True)
class Made:
    """Of a spec, what of it is known once it was checked."""

    spec: ServiceSpec
    image_digest: str | None
    command: list[str] | None
    volumes: dict[str, str]


async def create(
    tx: Transaction,
    spec: ServiceSpec,
    *,
    owner: str,
    why_never: WhyNever = none_known,
    share: Sequence[Path] = (),
    reach: Sequence[str] = (),
) -> Service:
    """`share`: folders of the host that may be mounted; `reach`: servers that are not ours to which it may lead."""
    check_addresses(spec.addresses, reach)
    _check_targets(spec)
    if await tx.services.count_living() >= SERVICES_MAX:
        raise LimitReached(f"there may be {SERVICES_MAX} services; delete some")
    beginning = launching.image_of(spec, "new") or "service"
    name = spec.name or sandboxes.free_name(beginning, tx.chance(3))
    if _LIKE_A_PORT.fullmatch(name):
        raise Invalid(f"name: {name} ends as the address of a sandbox's port does; take another name", field="name")
    service_id = make_id("service", tx.chance(6))
    made = await _checked(tx, spec.model_copy(update={"name": name}), name, owner, share, why_never)
    await _check_models(tx, made.spec, name)
    operation = tx.operations.new("service.create", service_id, tx.project)
    wanted, why = _first_wish(made.spec)
    service = Service(
        id=service_id,
        project=tx.project,
        owner=owner,
        name=name,
        state=_S.ACTIVE,
        spec=made.spec,
        wanted=wanted,
        wanted_reason=why,
        image_digest=made.image_digest,
        volumes=made.volumes,
        status=Health.HEALTHY if spec.addresses else Health.PROVISIONING,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    try:
        await tx.services.insert([service], [operation])
    except AlreadyExists as error:
        say = f"name: there is a service {name}; delete it first, or take another name"
        raise AlreadyExists(say, because=error.because, field="name") from error
    await tx.services.add_revision(_revision(service, 1, made, tx, "created"), kept=())
    return service


def _check_targets(spec: ServiceSpec) -> None:
    """That each can be told of such replicas."""
    for number, target in enumerate(spec.scaling.targets if spec.scaling is not None else ()):
        field = f"scaling.targets[{number}].signal"
        if target.signal is Signal.CACHE and not engine(spec.engine).metrics.cache_use:
            say = f"{field}: engine {spec.engine.value} does not tell how much of its KV cache is in use; take another"
            raise Invalid(say, field=field)
        if target.signal is Signal.GPU and not spec.gpu:
            raise Invalid(f"{field}: its replicas have no gpu; give them some, or take another target", field=field)


def _first_wish(spec: ServiceSpec) -> tuple[int, str]:
    """One that may go to zero begins with one all the same: only so is it known that it can serve."""
    if spec.scaling is None:
        return spec.replicas, "as declared"
    return max(1, spec.scaling.minimum), "the least, to begin with"


def _revision(service: Service, number: int, made: Made, tx: Transaction, reason: str) -> Revision:
    return Revision(
        service=service.id,
        number=number,
        spec=made.spec,
        image_digest=made.image_digest,
        command=made.command,
        volumes=made.volumes,
        created_at=tx.now,
        reason=reason,
    )


async def _checked(
    tx: Transaction, spec: ServiceSpec, name: str, owner: str, share: Sequence[Path], why_never: WhyNever
) -> Made:
    """All that can be said against it now, said now and not when its first replica is made."""
    if spec.addresses:
        return Made(spec, None, None, {})
    places = await model_places.expected(tx, spec)
    launch = launching.launch_of(spec, name, next(iter(spec.roles), Role.BOTH), places)
    image = await sandboxes.find_image(tx, launch.image)
    given = spec.model_copy(update={"image": image.name}) if spec.image is not None else spec
    command = None if launch.command is not None else _own_command(image)
    trial = Revision(service="svc-000000000000", number=1, spec=given, command=command, created_at=tx.now)
    for role in spec.roles or (Role.BOTH,):
        await _check_box(tx, launching.order(trial.service, name, trial, 1, role, places).spec, share, why_never)
    queue = await queues.find(tx, spec.queue)
    await queues.admit(tx, queue.name, owner=owner, count=1)
    await secrets.check(tx, spec.secrets)
    for number, join in enumerate(spec.networks):
        field = f"networks[{number}]"
        await networks.find(tx, join.name, f"{field}.name")
        if join.address is not None:
            raise Invalid(f"{field}.address: replicas get addresses that are free", field=f"{field}.address")
    await models.check(tx, spec.mounts)
    mounted = await volumes.mounted(tx, [*spec.mounts, *model_places.volume_mounts(spec)])
    return Made(given, image.digest, command, mounted)


async def _check_box(tx: Transaction, box: SandboxSpec, share: Sequence[Path], why_never: WhyNever) -> None:
    sandboxes.check_mounts(box, share)
    await check_size(tx, box, why_never)


def _own_command(image: Image) -> list[str]:
    if image.state is not ImageState.READY:
        raise Conflict(f"image: {image.name} is still being made; wait for it, or give the command", field="image")
    own = [*image.config.entrypoint, *image.config.cmd]
    if not own:
        raise Invalid(f"command: image {image.name} has none of its own, so give the one that serves", field="command")
    return own


async def _check_models(tx: Transaction, spec: ServiceSpec, name: str) -> None:
    """What clients give as `model` says which service they mean."""
    await tx.services.lock_models()
    wanted = [(f"models[{number}]", model) for number, model in enumerate(spec.models)]
    wanted += [(f"adapters.{model}", model) for model in spec.adapters]
    wanted.append(("name", name))
    for other in await tx.services.all():
        if other.name == name or other.state is not _S.ACTIVE:
            continue
        theirs = {other.name, *other.spec.models, *other.spec.adapters}
        for field, model in wanted:
            if model in theirs:
                raise AlreadyExists(f"{field}: {model} is what service {other.name} answers to already", field=field)


async def update(
    tx: Transaction,
    service: Service,
    wanted: ServiceUpdate,
    *,
    why_never: WhyNever = none_known,
    share: Sequence[Path] = (),
    reach: Sequence[str] = (),
) -> Service:
    """What a replica runs by makes a new revision, which is rolled out; the rest holds at once."""
    service = await _locked(tx, service)
    try:
        spec = wanted.spec_after(service.spec)
    except ValidationError as error:
        raise explain(error, ServiceSpec) from None
    if spec.scaling is not None and wanted.replicas is not None and "scaling" not in wanted.model_fields_set:
        raise _by_itself(service, spec.scaling)
    if spec == service.spec:
        return service
    _check_targets(spec)
    if spec.addresses != service.spec.addresses:
        check_addresses(spec.addresses, reach)
    if bool(spec.addresses) is not bool(service.spec.addresses):
        raise Invalid("addresses: a service keeps to servers that are there already, or to its own", field="addresses")
    await _check_models(tx, spec, service.name)
    changes: dict[str, Any] = {"spec": spec, **_wish_after(service, spec)}
    if spec.restarts == service.spec.restarts:
        return await _change(tx, service, changes, "updated", _differing(service.spec, spec), "service.update")
    return await _anew(tx, service, spec, changes, None, share, why_never)


async def renew(tx: Transaction, service: Service, reason: str, *, share: Sequence[Path] = ()) -> Service:
    """A new revision that declares the same: what it is made of has become another."""
    service = await _locked(tx, service)
    return await _anew(tx, service, service.spec, {}, reason, share, none_known)


async def _anew(
    tx: Transaction,
    service: Service,
    spec: ServiceSpec,
    changes: dict[str, Any],
    reason: str | None,
    share: Sequence[Path],
    why_never: WhyNever,
) -> Service:
    """`reason`: None: what differs."""
    made = await _checked(tx, spec, service.name, service.owner, share, why_never)
    number = 1 + max(each.number for each in await tx.services.revisions(service.id))
    reason = reason or _differing(service.spec, made.spec)
    changes |= {"spec": made.spec, "image_digest": made.image_digest, "volumes": made.volumes, "revision": number}
    changes |= await _toward(tx, service, number, made.spec)
    await tx.services.add_revision(
        _revision(service, number, made, tx, reason), kept=[service.serving, service.revision]
    )
    return await _change(tx, service, changes, "rollout", f"revision {number}: {reason}", "service.rollout")


async def _toward(tx: Transaction, service: Service, number: int, spec: ServiceSpec) -> dict[str, Any]:
    """What changes with the revision that it is to be. Nobody serves by servers that are there already: at once."""
    if service.rollout is not None and service.rollout.is_staged:
        await _drain(tx, service, service.rollout.revision)
    if spec.addresses or number == service.serving:
        return {"revision": number, "serving": number, "rollout": None, "retry_at": None, "failures": 0}
    rollout = RolloutStatus(type=spec.strategy.type, revision=number, since=tx.now)
    return {"revision": number, "rollout": rollout, "retry_at": None, "failures": 0, "failure": None}


def _wish_after(service: Service, spec: ServiceSpec) -> dict[str, Any]:
    if spec.scaling is None:
        return {"wanted": spec.replicas, "wanted_reason": "as declared", "unknown": None}
    if service.spec.scaling is None:
        bounded = min(max(service.wanted, spec.scaling.minimum, 1), spec.scaling.maximum)
    else:
        bounded = min(max(service.wanted, spec.scaling.minimum), spec.scaling.maximum)
    return {} if bounded == service.wanted else {"wanted": bounded, "wanted_reason": "within its bounds"}


def _differing(was: ServiceSpec, now: ServiceSpec) -> str:
    return ", ".join(name for name in ServiceSpec.model_fields if getattr(was, name) != getattr(now, name))


async def scale(tx: Transaction, service: Service, asked: ScaleRequest) -> Service:
    service = await _locked(tx, service)
    spec = service.spec
    if spec.addresses:
        raise Conflict(f"service {service.name} has servers that are not ours; change its addresses")
    if asked.replicas is None:
        if spec.scaling is None:
            raise Conflict(f"service {service.name} is not scaled by itself; give replicas", field="minimum")
        given = {"minimum": asked.minimum, "maximum": asked.maximum}
        bounds = {name: value for name, value in given.items() if value is not None}
        return await update(tx, service, ServiceUpdate.model_validate({"scaling": bounds}))
    if spec.scaling is not None:
        raise _by_itself(service, spec.scaling)
    if bool(spec.roles) is not (asked.role is not None):
        named = ", ".join(role.value for role in spec.roles)
        say = f"role: give one of {named}" if spec.roles else "role: its replicas have none"
        raise Invalid(say, field="role")
    if asked.role is not None:
        if asked.role not in spec.roles:
            raise Invalid(f"role: service {service.name} has no {asked.role.value} replicas", field="role")
        return await update(tx, service, ServiceUpdate(roles={**spec.roles, asked.role: asked.replicas}))
    return await update(tx, service, ServiceUpdate(replicas=asked.replicas))


def _by_itself(service: Service, scaling: Scaling) -> Conflict:
    return Conflict(
        f"replicas: service {service.name} is scaled by itself, from {scaling.minimum} to {scaling.maximum}: change "
        f"these bounds, or end that with: skerry service update {service.name} --no-scaling",
        field="replicas",
    )


async def roll(tx: Transaction, service: Service, asked: RolloutRequest) -> Service:
    service = await _locked(tx, service)
    if asked.revision is not None and asked.action is not RolloutAction.ROLLBACK:
        raise Invalid("revision: goes with rollback", field="revision")
    if asked.action is RolloutAction.ROLLBACK:
        return await _rollback(tx, service, asked.revision)
    rollout = service.rollout
    if rollout is None:
        raise Conflict(f"service {service.name} has nothing to {asked.action.value}: revision {service.serving} is "
                       "all there is")  # fmt: skip
    match asked.action:
        case RolloutAction.ABORT:
            return await _to_revision(tx, service, service.serving, "aborted")
        case RolloutAction.PROMOTE:
            return await _promote(tx, service, rollout)
        case RolloutAction.PAUSE:
            phase = Phase.PAUSED
            if rollout.phase is not Phase.GOING_ON:
                raise Conflict(
                    f"the rollout of {service.name} is {rollout.phase.value}, there is nothing to pause; "
                    + ("promote or abort it" if rollout.phase is Phase.READY else "resume or abort it")
                )
        case _:
            phase = Phase.GOING_ON
            if rollout.phase not in (Phase.PAUSED, Phase.STOPPED):
                raise Conflict(
                    f"the rollout of {service.name} is {rollout.phase.value}, there is nothing to resume"
                    + ("; promote or abort it" if rollout.phase is Phase.READY else "")
                )
            await _drain(tx, service, rollout.revision, failed=True)
    after = rollout.model_copy(update={"phase": phase, "reason": None, "since": tx.now})
    event = "rollout-paused" if phase is Phase.PAUSED else "rollout-resumed"
    kind = None if phase is Phase.PAUSED else "service.rollout"
    return await _change(tx, service, {"rollout": after, "failures": 0, "retry_at": None}, event, "", kind)


async def _promote(tx: Transaction, service: Service, rollout: RolloutStatus) -> Service:
    if rollout.phase is not Phase.READY:
        raise Conflict(
            f"revision {rollout.revision} of {service.name} is not ready to be promoted: the rollout is "
            f"{rollout.phase.value}"
        )
    said = f"revision {rollout.revision}"
    if rollout.type is Rollout.BLUE_GREEN:  # all of it is there: the routes change over at once
        await _drain(tx, service, service.serving)
        changes: dict[str, Any] = {"serving": rollout.revision, "rollout": None}
    else:
        going = {"phase": Phase.GOING_ON, "promoted": True, "since": tx.now}
        changes = {"rollout": rollout.model_copy(update=going)}
    return await _change(tx, service, changes, "promoted", said, "service.rollout")


async def _drain(tx: Transaction, service: Service, revision: int, *, failed: bool = False) -> None:
    """Its replicas leave the routes with what else is written: nobody is sent to a revision that was given up.
    `failed`: only those that were never healthy, in whose place others are made."""
    for box in await tx.sandboxes.of_service(service.id):
        replica = box.replica
        if replica is None or replica.revision != revision or replica.draining_at is not None or replica.parked:
            continue
        if failed and replica.healthy_at is not None:
            continue
        leaving = replica.model_copy(update={"draining_at": tx.now})
        if await tx.sandboxes.change(box, {"replica": leaving}) is None:
            raise Conflict(f"replica {replica.number} of {service.name} has just changed; look, then try again")


async def _rollback(tx: Transaction, service: Service, number: int | None) -> Service:
    if number is None:
        if service.rollout is not None:
            return await _to_revision(tx, service, service.serving, "rolled back")
        before = [each.number for each in await tx.services.revisions(service.id) if each.number < service.serving]
        if not before:
            raise Conflict(f"service {service.name} has no revision before {service.serving}")
        number = before[-1]
    if number == service.revision:
        raise Conflict(f"service {service.name} is at revision {number} already, or on its way there")
    return await _to_revision(tx, service, number, "rolled back")


async def _to_revision(tx: Transaction, service: Service, number: int, how: str) -> Service:
    """What holds at once stays as it is; what replicas run by is that revision's again."""
    found = await tx.services.revisions(service.id, [number])
    if not found:
        raise NotFound(f"revision: service {service.name} has no revision {number}", field="revision")
    [revision] = found
    spec = ServiceSpec.model_validate({**service.spec.model_dump(mode="json"), **revision.spec.restarts})
    changes = {"spec": spec, "image_digest": revision.image_digest, "volumes": revision.volumes}
    changes |= await _toward(tx, service, number, spec)
    return await _change(tx, service, changes, "rollout", f"{how} to revision {number}", "service.rollout")


async def delete(tx: Transaction, service: Service, *, now: bool = False) -> Service:
    """Its replicas leave the routes at once and end what they have begun; with `now` they do not."""
    if service.state is _S.DELETING and not now:
        return service
    operation = tx.operations.new("service.delete", service.id, tx.project)
    changes: dict[str, Any] = {"rollout": None}
    if now:
        changes["spec"] = service.spec.model_copy(update={"drain": 0.0})
    if service.state is _S.DELETING:
        return await _change(tx, service, changes, "deleting", "at once", None)
    written = await tx.services.move(service, _S.DELETING, "deleting", operation=operation, changes=changes)
    if written is None:
        raise Conflict(f"service {service.name} has just changed; look, then try again")
    return written


async def _change(
    tx: Transaction, service: Service, changes: dict[str, Any], event: str, message: str, kind: str | None
) -> Service:
    """`kind`: of the operation that has ended when all of it is so. None: it is so at once."""
    operation: Operation | None = None
    if kind is not None and not service.spec.addresses:
        operation = tx.operations.new(kind, service.id, tx.project)
    written = await tx.services.change(service, changes, operation=operation)
    if written is None:
        raise Conflict(f"service {service.name} has just changed; look, then try again")
    await tx.events.add([("service", service.id, service.name, event, message)])
    return written


async def _locked(tx: Transaction, service: Service) -> Service:
    """As it is now, and nobody else's before this transaction ends: what is written follows from what it says. Before
    its replicas are touched, as reconcilers do it, so that neither waits for the other."""
    if service.state is not _S.ACTIVE:
        raise Conflict(f"service {service.name} is being deleted")
    fresh = await tx.services.lock(service)
    if fresh is None:
        raise Conflict(f"service {service.name} has just changed; look, then try again")
    return fresh
