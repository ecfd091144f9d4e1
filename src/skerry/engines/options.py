"""Options of a service as an engine's own: checked by a model of them, and written as its command line has them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from skerry.errors import Invalid
from skerry.model.explain import findings
from skerry.model.fields import Frozen
from skerry.model.service import ServiceSpec


def _json(value: str) -> str:
    try:
        json.loads(value)
    except ValueError:
        raise ValueError("expected JSON") from None
    return value


def _words(value: str) -> str:
    try:
        shlex.split(value)
    except ValueError:
        raise ValueError("expected words of a command line, with every quote closed") from None
    return value


Text = Annotated[str, Field(min_length=1, max_length=4096)]
Json = Annotated[str, Field(max_length=65_536), AfterValidator(_json)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(gt=0, le=1)]
Words = Annotated[str, Field(max_length=65_536), AfterValidator(_words)]


class EngineOptions(Frozen):
    """Base of each engine's. A field left None is not written, so that the engine's own default holds."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())

    extra_args: Words | None = None
    """More of its command line, as it is, for options that are not here."""

    def flags(self, *, negate: bool, leave: Iterable[str] = ()) -> tuple[str, ...]:
        """`--max-model-len 8192 --enforce-eager`; `negate`: false is written as --no-…, else not at all. Those in
        `leave` are not for the command line."""
        flags: list[str] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None or name == "extra_args" or name in leave:
                continue
            flag = "--" + name.replace("_", "-")
            if not isinstance(value, bool):
                flags += (flag, str(value))
            elif value:
                flags.append(flag)
            elif negate:
                flags.append("--no-" + name.replace("_", "-"))
        return (*flags, *shlex.split(self.extra_args or ""))


O = TypeVar("O", bound=EngineOptions)  # noqa: E741


def plain(name: str) -> str:
    """As a field is called, of how a command line has it."""
    return name.lstrip("-").replace("-", "_")


def read(model: type[O], spec: ServiceSpec, defaults: Mapping[str, Any] | None = None) -> O:
    """`max-model-len` is `max_model_len`. Raises Invalid with the path of the option and what is allowed."""
    given = {plain(name): value for name, value in spec.options.items()}
    known = {name: value for name, value in (defaults or {}).items() if value is not None}
    try:
        return model.model_validate({**known, **given})
    except ValidationError as error:
        found = findings(model, error)[0]
        path = ".".join(("options", *(str(part) for part in found.location)))
        raise Invalid(f"{path}: {found.say}", field=path) from None


def from_env(spec: ServiceSpec, prefix: str) -> dict[str, str | None]:
    """Backend.AI's variables, such as VLLM_TP_SIZE, as options; what `options` says goes before them."""
    names = {"quantization": "QUANTIZATION", "tp": "TP_SIZE", "pp": "PP_SIZE", "extra_args": "EXTRA_ARGS"}
    return {option: spec.env.get(f"{prefix}_{name}") for option, name in names.items()}


def gpus(spec: ServiceSpec) -> int:
    """Whole devices of a replica; a share of one counts as one."""
    return max(1, int(spec.gpu))


def ranks(spec: ServiceSpec, field: str, *parallel: int | None) -> None:
    """Raises Invalid where more devices would be used than a replica has."""
    wanted = 1
    for one in parallel:
        wanted *= one or 1
    if spec.gpu and wanted > gpus(spec):
        raise Invalid(
            f"options.{field}: {wanted} devices would be used, but a replica has {gpus(spec)}; raise gpu or lower it",
            field=f"options.{field}",
        )
