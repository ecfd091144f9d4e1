"""`skerry service create`, `update`, `scale` and `delete`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, completing, sought, yes_option
from skerry.cli.removing import delete_each
from skerry.cli.service import ready, service_argument
from skerry.cli.service_advice import advised
from skerry.cli.service_options import service_from, service_options
from skerry.client import flows
from skerry.client.call import Call
from skerry.client.calls import services as calls
from skerry.errors import Failed

wait_option = click.option("--wait/--no-wait", default=True, help="Return when it is so, or cannot be [wait].")


class _NameFirst(click.Command):
    """What stands behind -- is the command: the first word of it must not be taken for the name that was left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        behind = args[at + 1 :]
        rest = super().parse_args(ctx, args[:at])
        ctx.params["command"] = (*ctx.params["command"], *behind)
        return rest


@command("create", cls=_NameFirst, context_settings={"allow_interspersed_args": True})
@service_options
@click.option(
    "--definition",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A model-definition.yaml of Backend.AI, or the folder with it: a service for each of its models.",
)
@wait_option
@click.argument("name", required=False)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def create(
    invocation: Invocation,
    name: str | None,
    command: tuple[str, ...],
    definition: Path | None,
    wait: bool,
    **options: Any,
) -> None:
    """Make the service NAME, and return when it can serve.

    \b
      skerry service create web --image debian:12 --port 80 --replicas 2 -- python3 -m http.server 80
      skerry service create chat --engine vllm --model models:/llama --gpu 1 --minimum 0 --maximum 4
      skerry service create old --address http://10.0.0.5:8000 --public
      skerry service create --definition model-definition.yaml --image vllm:0.12 -v models:/models
    """
    body = service_from(command, options)
    if "image" in body:
        invocation.sought.append(("image", body["image"]))
    if definition is not None:
        _create_defined(invocation, definition, name, body, wait)
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    body["name"] = name
    try:
        made = _settled(invocation, lambda wait_s: calls.create(body, wait_s), wait)
    except Failed as error:
        raise advised(invocation, name, error) from None
    invocation.output.one(made, _told(made))
    if not invocation.output.json and not invocation.output.quiet:
        invocation.output.note(f"it is at {made['url']}")


def _create_defined(
    invocation: Invocation, definition: Path, name: str | None, given: dict[str, Any], wait: bool
) -> None:
    from skerry.cli.service_definition import bodies, create_all

    made = create_all(invocation, bodies(definition, name, given), wait)
    if invocation.output.json:
        invocation.output.emit(made)
        return
    for one in made:
        invocation.output.one(one, _told(one))
        invocation.output.note(f"it is at {one['url']}")


@command("update")
@service_options
@wait_option
@service_argument()
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def update(invocation: Invocation, service: str, command: tuple[str, ...], wait: bool, **options: Any) -> None:
    """Change what is given of SERVICE. What its replicas run by makes a new revision, which is rolled out by its
    strategy; the rest holds at once.

    \b
      skerry service update chat --image vllm:0.12
      skerry service update chat --strategy canary --weight 5 -e DEBUG=1
      skerry service update chat --maximum 8
    """
    body = service_from(command, options)
    if not body:
        raise click.UsageError("say what is to change; `skerry service update --help` shows what can be")
    made = _settled(invocation, lambda wait_s: calls.update(service, body, wait_s), wait)
    invocation.output.one(made, _told(made))
    note_rollout(invocation, made)


def note_rollout(invocation: Invocation, body: Any) -> None:
    """What is to be done about one that has not ended."""
    rollout = body.get("rollout")
    if not rollout or invocation.output.json or invocation.output.quiet:
        return
    if rollout["phase"] == "ready":
        say = f"waits: skerry service rollout promote {body['name']}, or abort"
    else:
        say = f"is {rollout['phase']}: skerry service rollout status {body['name']}"
    invocation.output.note(f"revision {rollout['revision']} {say}")


@command("scale")
@click.option("--role", metavar="ROLE", help="Of which role, where it has several.")
@click.option("--minimum", type=int, metavar="N", help="Of one that is scaled by itself: at least so many.")
@click.option("--maximum", type=int, metavar="N", help="At most so many.")
@wait_option
@service_argument()
@click.argument("replicas", type=int, required=False)
def scale(
    invocation: Invocation,
    service: str,
    replicas: int | None,
    role: str | None,
    minimum: int | None,
    maximum: int | None,
    wait: bool,
) -> None:
    """Give SERVICE so many REPLICAS; those that go end what they have begun."""
    if replicas is None and minimum is None and maximum is None:
        raise click.UsageError("say how many: skerry service scale SERVICE 3")
    made = _settled(
        invocation,
        lambda wait_s: calls.scale(service, replicas, role=role, minimum=minimum, maximum=maximum, wait_s=wait_s),
        wait and replicas != 0,
    )
    zero = f"{made['name']} ({made['id']}) is scaled to 0; its address stays"
    invocation.output.one(made, zero if replicas == 0 and role is None else _told(made))


@command("delete")
@yes_option
@click.option("--now", "--force", "-f", "now", is_flag=True, help="Without waiting for what its replicas have begun.")
@click.argument("services", nargs=-1, required=True, callback=sought("service"), shell_complete=completing("service"))
def delete(invocation: Invocation, services: tuple[str, ...], yes: bool, now: bool) -> None:
    """Delete SERVICES with their replicas."""
    invocation.confirm(f"Delete {', '.join(services)} and what is in their replicas?", yes or now)
    delete_each(
        invocation,
        services,
        lambda ref: invocation.run(flows.settle(lambda wait_s: calls.delete(ref, now=now, wait_s=wait_s))),
    )


def _settled(invocation: Invocation, make: Callable[[float], Call[Any]], wait: bool) -> Any:
    if not wait:
        return invocation.ask(make(0))
    return invocation.run(flows.settle(make, lambda body: calls.get(body["id"])))


def _told(body: Any) -> str:
    return f"{body['name']} ({body['id']}) is {body['status']}, {ready(body)} ready"
