"""What a replica's sandbox is: the spec of a service's revision, with what its engine makes of it filled in."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from skerry.control.intents.model_places import Places
from skerry.engines.catalog import engine
from skerry.engines.contract import Launch, Place
from skerry.errors import Invalid
from skerry.model.explain import explain
from skerry.model.guest_service import MainHealth
from skerry.model.replica import ReplicaOf, Role, replica_hostname, replica_name
from skerry.model.restart import Restart
from skerry.model.sandbox import SandboxSpec
from skerry.model.service import HealthCheck, Revision, ServiceSpec

INTERVAL_S, PATIENCE_S_MIN = 5.0, 30.0
START_S = 120.0
"""Of a replica whose health nobody has declared: to begin to listen."""
PREPARED = 'for step in "$@"; do shift; [ "$step" = -- ] && break; sh -c "$step" || exit 1; done; exec "$@"'


@dataclass(frozen=True)
class Ordered:
    """A replica that can be made."""

    spec: SandboxSpec
    replica: ReplicaOf


def image_of(spec: ServiceSpec, name: str) -> str | None:
    """None: it has no sandboxes."""
    return None if spec.addresses else (spec.image or spec.engine.value)


def launch_of(spec: ServiceSpec, name: str, role: Role, places: Places) -> Launch:
    """Raises Invalid where the engine cannot do what is asked."""
    model = None if spec.model is None else places.paths[spec.model]
    adapters = {each: places.paths[source] for each, source in spec.adapters.items()}
    card = None if spec.model is None else places.cards.get(spec.model)
    return engine(spec.engine).launch(spec, Place(model=model, adapters=adapters, role=role, card=card), name)


def order(
    service: str, name: str, revision: Revision, number: int, role: Role, places: Places, *, prepared: bool = False
) -> Ordered:
    """`service`: its id. `prepared`: what `prepare` does is on its disk already. Raises Invalid where what it comes to
    is not allowed of a sandbox."""
    spec = revision.spec
    launch = launch_of(spec, name, role, places)
    command = launch.command or (tuple(revision.command) if revision.command is not None else None)
    if command is None:
        raise Invalid(
            f"command: image {launch.image} has none of its own, so give the one that serves", field="command"
        )
    health = _health(launch)
    try:
        box = SandboxSpec(
            **{field: getattr(spec, field) for field in SHARED},
            name=replica_name(service, number),
            hostname=replica_hostname(name, number),
            image=launch.image,
            command=list(command) if prepared else _with_steps(spec, command),
            restart=Restart.ALWAYS,
            health=health,
            env={**launch.env, **spec.env, "SKERRY_SERVICE": name, "SKERRY_REPLICA": str(number)},
            mounts=[*spec.mounts, *places.mounts],
            idle="never",
            cold_after="never",
        )
    except ValidationError as error:
        raise explain(error, SandboxSpec) from None
    check = launch.health
    again_s = health.interval * (health.retries + 1)
    replica = ReplicaOf(
        service=service,
        number=number,
        revision=revision.number,
        role=role,
        port=launch.port,
        ready_s=START_S if check is None else check.initial_delay + again_s,
        patience_s=max(PATIENCE_S_MIN, again_s),
    )
    return Ordered(box, replica)


SHARED = (
    "cpu",
    "memory",
    "disk",
    "pids",
    "gpu",
    "gpu_kind",
    "gpu_memory",
    "extras",
    "workdir",
    "user",
    "secrets",
    "network",
    "networks",
    "queue",
    "tier",
    "priority",
    "placement",
    "labels",
)
"""Fields of a service that its replicas have just so."""


def _health(launch: Launch) -> MainHealth:
    check: HealthCheck | None = launch.health
    if check is None:
        return MainHealth(tcp=True, port=launch.port, interval=INTERVAL_S)
    return MainHealth(
        http=check.path,
        port=launch.port,
        interval=check.interval,
        timeout=check.max_wait_time,
        retries=check.max_retries,
        status=check.expected_status_code,
    )


def _with_steps(spec: ServiceSpec, command: tuple[str, ...]) -> list[str]:
    """Its steps first, each as it was given, by the shell of the image; then the command in the shell's place."""
    if not spec.prepare:
        return list(command)
    steps = [" ".join(_quoted(word) for word in step) for step in spec.prepare]
    return ["/bin/sh", "-c", PREPARED, "sh", *steps, "--", *command]


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
