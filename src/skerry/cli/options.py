"""Options and arguments that several commands share, so that each word means the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from skerry.cli.invocation import Invocation

F = TypeVar("F", bound=Callable[..., Any])

_NONE_MEANT = "name a sandbox, or be in the folder of a skerry.yaml that `skerry up` has brought up"
_OF_FILES = {"sandbox": "members", "job": "jobs", "service": "services"}
_UNIT_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _set_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_object(Invocation).output.json = True  # pyright: ignore[reportOptionalMemberAccess]


def _set_quiet(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_object(Invocation).output.quiet = True  # pyright: ignore[reportOptionalMemberAccess]


json_option = click.option("--json", is_flag=True, expose_value=False, callback=_set_json, help="Print JSON.")
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Print ids only."
)
port_forward_option = click.option(
    "--port-forward/--no-port-forward",
    default=True,
    help="With a terminal: reach its ports on 127.0.0.1 here [on].",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of ours: its function gets the Invocation first, and it takes --json and --quiet."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        return click.command(name, **attributes)(json_option(quiet_option(click.pass_obj(function))))

    return wrap


def sought(noun: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Remembers what an argument names, for "did you mean". A sandbox, a job or a service may be named as the
    skerry.yaml of this folder names it."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        invocation = ctx.find_object(Invocation)
        if invocation is None:
            return value
        if noun in _OF_FILES and value:
            value = _named_on_the_server(getattr(invocation, _OF_FILES[noun]), value)
        values: Any = value if isinstance(value, tuple) else (value,)  # pyright: ignore[reportUnknownVariableType]
        invocation.sought.extend((noun, str(item)) for item in values if item)
        return value  # pyright: ignore[reportUnknownVariableType]

    return remember


def _named_on_the_server(members: dict[str, str], given: Any) -> Any:
    """A cp of `web:/srv` names one too."""
    if isinstance(given, tuple):
        return tuple(_named_on_the_server(members, one) for one in cast("tuple[str, ...]", given))
    return members.get(given, given)


def completing(noun: str) -> Any:
    """Offers the names there are; of a checkpoint, those of the sandbox that the command line names before."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        from skerry.cli.suggest import names

        known = names(Invocation(os.environ), noun, str(ctx.params.get("sandbox") or ""))
        return [name for name in known if name.startswith(incomplete)]

    return complete


def completing_path_or_box(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from skerry.cli.suggest import names

    boxes = [f"{name}:" for name in names(Invocation(os.environ), "sandbox") if name.startswith(incomplete)]
    return boxes or [CompletionItem(incomplete, type="file")]


def sandbox_argument(function: F) -> F:
    return click.argument("sandbox", callback=sought("sandbox"), shell_complete=completing("sandbox"))(function)


def sandbox_or_primary(function: F) -> F:
    """A sandbox, or none in the folder of a skerry.yaml: then its primary one is meant."""
    return click.argument("sandbox", required=False, callback=_primary, shell_complete=completing("sandbox"))(function)


def _primary(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    invocation = ctx.find_object(Invocation)
    if value is None and invocation is not None and not ctx.resilient_parsing:
        value = invocation.primary
        if value is None:
            raise click.UsageError(_NONE_MEANT, ctx)
    return sought("sandbox")(ctx, parameter, value)


def sandboxes_or_all(function: F) -> F:
    """Sandboxes, or none in the folder of a skerry.yaml: then all of it is meant."""
    return click.argument("sandboxes", nargs=-1, callback=_all, shell_complete=completing("sandbox"))(function)


def _all(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    invocation = ctx.find_object(Invocation)
    if not value and invocation is not None and not ctx.resilient_parsing:
        value = tuple(invocation.members)
        if not value:
            raise click.UsageError(_NONE_MEANT, ctx)
    return sought("sandbox")(ctx, parameter, value)


def sandboxes_argument(function: F) -> F:
    return click.argument(
        "sandboxes", nargs=-1, required=True, callback=sought("sandbox"), shell_complete=completing("sandbox")
    )(function)


def checkpoint_argument(name: str, **attributes: Any) -> Callable[[F], F]:
    return click.argument(name, shell_complete=completing("checkpoint"), **attributes)


def image_argument(function: F) -> F:
    return click.argument("image", callback=sought("image"), shell_complete=completing("image"))(function)


class Duration(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]
    """90, 90s, 10m, 1.5h, 2d -> seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd]?)", str(value).strip())
        if not found:
            self.fail(f"{value!r} is not a time such as 30s, 10m or 1h", param, ctx)
        return float(found[1]) * _UNIT_S[found[2]]


DURATION = Duration()


def env_pairs(given: tuple[str, ...], files: tuple[str, ...] = ()) -> dict[str, str]:
    """-e KEY=VALUE, -e KEY (from our environment, if set there) and --env-file, as docker reads them; -e wins."""
    lines: list[str] = []
    for path in files:
        try:
            with open(path) as file:
                lines += [line.strip() for line in file]
        except OSError as error:
            raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    env: dict[str, str] = {}
    for item in [*(line for line in lines if line and not line.startswith("#")), *given]:
        key, equals, value = item.partition("=")
        if not key:
            raise click.UsageError(f"{item!r} is not KEY=VALUE")
        if equals:
            env[key] = value
        elif key in os.environ:
            env[key] = os.environ[key]
    return env


def label_pairs(given: tuple[str, ...]) -> dict[str, str]:
    """-l KEY=VALUE; a key alone has the empty value."""
    labels: dict[str, str] = {}
    for item in given:
        key, _, value = item.partition("=")
        if not key:
            raise click.UsageError(f"{item!r} is not KEY=VALUE")
        labels[key] = value
    return labels
