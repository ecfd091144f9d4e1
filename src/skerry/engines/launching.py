"""What the launches of all engines share: names, environment, and what each may refuse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from skerry.engines.contract import Launch, Place
from skerry.errors import Invalid
from skerry.model.service import HealthCheck, Role, ServiceSpec
from skerry.model.weights import MODELS_FOLDER

LOADING_S = 1800.0
"""Time to load a large model, for which a replica that does not answer yet is not called unhealthy."""


def names(spec: ServiceSpec, name: str) -> tuple[str, ...]:
    """What clients may give as `model`; adapters besides."""
    return tuple(spec.models) or (name,)


def launch(
    spec: ServiceSpec,
    place: Place,
    name: str,
    *,
    image: str,
    command: tuple[str, ...] | None,
    port: int,
    health: str | None,
    env: Mapping[str, str] | None = None,
) -> Launch:
    """With what the spec says instead of the engine's. `health`: the path to look at."""
    check = None if health is None else HealthCheck(path=health, initial_delay=LOADING_S)
    own = tuple(spec.command) if spec.command is not None else command
    shown = {"BACKEND_MODEL_NAME": names(spec, name)[0], "BACKEND_MODEL_PATH": place.model or MODELS_FOLDER}
    return Launch(
        image=spec.image or image, command=own, port=port, health=spec.health or check, env={**shown, **(env or {})}
    )


def model_of(place: Place, engine: str) -> str:
    if place.model is None:
        raise Invalid(
            f"model: engine {engine} needs one; give a folder of the image, VOLUME:/path or hf://OWNER/NAME",
            field="model",
        )
    return str(PurePosixPath(place.model))


def no_adapters(spec: ServiceSpec, engine: str) -> None:
    if spec.adapters:
        raise Invalid(f"adapters: engine {engine} has none that clients can name", field="adapters")


def no_roles(place: Place, engine: str) -> None:
    if place.role is not Role.BOTH:
        raise Invalid(
            f"roles: engine {engine} computes prompts and answers in one place; leave them out", field="roles"
        )
