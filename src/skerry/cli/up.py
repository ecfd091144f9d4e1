"""`skerry up`, `plan` and `validate`: make an environment what its file says, or say what that would take."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.environment import allow_places, open_here, read_actual, relative
from skerry.cli.file_options import file_options, names_argument
from skerry.cli.invocation import Invocation
from skerry.cli.options import command, yes_option
from skerry.cli.plan_view import as_json, kept, show, summary
from skerry.cli.up_view import UpView
from skerry.environment.apply import Apply, Phase, Progress, title
from skerry.environment.kinds.catalog import KINDS
from skerry.environment.kinds.contract import Action, Json, Step
from skerry.environment.machine import Finisher, due_steps, wait_for
from skerry.environment.needed import check_needed
from skerry.environment.opening import Opened
from skerry.environment.outside import share_binds
from skerry.environment.plan import Plan, check_owner, make_plan
from skerry.environment.project import find_files
from skerry.errors import BY_CODE, Failed, SkerryError, told_of

CHANGED = 1
"""Exit code of `skerry plan --exit-code` where there is something to do."""


@command("validate")
@file_options
def validate(invocation: Invocation, files: tuple[str, ...], profiles: tuple[str, ...]) -> None:
    """Say everything that is wrong with skerry.yaml, each with its line; no server is needed."""
    from skerry.environment.load import load

    found = find_files(files, invocation.environ)
    environment = load(found, environ=invocation.environ, profiles=profiles).environment
    counts = {kind.section: len(getattr(environment, kind.section)) for kind in KINDS}
    nouns = {kind.section: kind.noun for kind in KINDS}
    told = ", ".join(_count(count, section, nouns[section]) for section, count in counts.items() if count)
    shown = ", ".join(relative(file) for file in found)
    invocation.output.one(
        {"name": environment.name, **counts},
        f"{shown} {'is' if len(found) == 1 else 'are'} right: {told or 'nothing declared'}",
        "name",
    )


def _count(count: int, plural: str, noun: str) -> str:
    return f"{count} {noun if count == 1 else plural}"


@command("plan")
@click.option("--exit-code", is_flag=True, help=f"End with code {CHANGED} if there is something to do.")
@file_options
@names_argument
def plan(
    invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], profiles: tuple[str, ...], exit_code: bool
) -> int:
    """Show what `skerry up` would create, change, replace and delete, and why; nothing is done.

    NAMES: only these sandboxes and what they depend on.
    """
    opened = open_here(invocation, files, profiles, names)
    made = _planned(invocation, opened, names, adopt=True)
    due = due_steps(invocation.transport, opened.scene, made)
    if invocation.output.json:
        invocation.output.emit(as_json(made, due))
    else:
        show(invocation.output, made, _title(opened), due)
    return CHANGED if exit_code and (made.changes or due) else 0


@command("up")
@click.option(
    "--provision/--no-provision", "provisioned", default=True, help="Run its provisioners [those that are due]."
)
@click.option("--reprovision", is_flag=True, help="Run them all again, those that are to run once too.")
@click.option("--adopt", is_flag=True, help="Take over what another file of this environment's name has made.")
@click.option(
    "--allow-outside", is_flag=True, help="It may use what it names outside its folder; asked once otherwise."
)
@click.option("--wait", is_flag=True, help="Return when all are healthy.")
@yes_option
@file_options
@names_argument
def up(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    provisioned: bool,
    reprovision: bool,
    adopt: bool,
    allow_outside: bool,
    wait: bool,
    yes: bool,
) -> None:
    """Make everything as skerry.yaml says: create, change, start and provision, in order of dependencies, at once.

    Run it again at any time: what is as it should be is left alone, and what was interrupted goes on.
    NAMES: only these sandboxes and what they depend on.
    """
    opened = open_here(invocation, files, profiles, names)
    with opened.state.locked():
        opened.state.write_members(opened.scene.name, opened.members, opened.jobs, opened.services, opened.primary)
        made = _planned(invocation, opened, names, adopt=adopt)
        check_needed(invocation.transport, made)
        allowed = allow_places(invocation, opened, files, allow_outside)
        share_binds(opened.scene, invocation.target(), allowed)
        _agree(invocation, opened, made, yes)
        with UpView(invocation.output, invocation.environ) as view:
            finisher = Finisher(
                invocation.transport,
                opened.scene,
                invocation.environ,
                provisioned=provisioned,
                again=reprovision,
                output=view.output_line,
            )
            work = Apply(
                invocation.transport,
                opened.scene,
                made,
                tell=view.tell,
                finish=finisher.finish,
                wait_for=lambda section, body, need: wait_for(invocation.transport, section, body, need),
            )
            try:
                ended = work.run()
                if wait:
                    finisher.wait_until_healthy(ended)
            except KeyboardInterrupt:
                view.interrupted()
                raise
    _tell(invocation, opened, made, ended)


def _planned(invocation: Invocation, opened: Opened, names: tuple[str, ...], *, adopt: bool) -> Plan:
    actual = read_actual(invocation, opened.scene.name)
    if not adopt:
        check_owner(opened.scene, actual)
    return make_plan(opened.scene, KINDS, actual, names, opened.left_out)


def _title(opened: Opened) -> str:
    return f"{opened.scene.name} ({relative(opened.scene.file)})"


def _agree(invocation: Invocation, opened: Opened, made: Plan, yes: bool) -> None:
    """What loses data is shown first, and done only when somebody says so; a script says it with --yes."""
    lost = made.destructive
    if not lost or yes:
        return
    what = ", ".join(f"{step.action.value} {step.key}" for step in lost)
    if not invocation.is_interactive:
        raise click.UsageError(f"this would {what}; look at `skerry plan`, then say --yes")
    show(invocation.output, made, _title(opened))
    invocation.confirm(f"Go on ({what})?", False)


def _tell(invocation: Invocation, opened: Opened, made: Plan, ended: list[Progress]) -> None:
    # One that was made, and did not become what another waits for, has an error too.
    failed = [one for one in ended if one.phase in (Phase.FAILED, Phase.SKIPPED) or one.error is not None]
    output = invocation.output
    if output.json:
        output.emit([_wire(one) for one in ended])
    elif output.quiet:
        for one in ended:
            if one.body is not None and one.step.section == "sandboxes":
                output.line(one.body["id"])
    elif not failed:
        _summary(invocation, opened, made, ended)
    if failed:
        raise _failure(failed)


def _failure(failed: list[Progress]) -> SkerryError:
    """One sentence for each, the first's kind for the exit code."""
    errors = [
        told_of(title(one.step), one.error or Failed(one.now)) for one in failed if one.phase is not Phase.SKIPPED
    ]
    skipped = ", ".join(title(one.step) for one in failed if one.phase is Phase.SKIPPED)
    if len(errors) == 1 and not skipped:
        return errors[0]
    says = "; ".join(error.say for error in errors)
    whole = Failed(f"{says}; not tried because of that: {skipped}" if skipped else says)
    return whole if len(errors) != 1 else BY_CODE.get(errors[0].code, Failed)(whole.say)


def _summary(invocation: Invocation, opened: Opened, made: Plan, ended: list[Progress]) -> None:
    output = invocation.output
    for line in kept(made):
        output.note(line)
    done = [one for one in ended if one.step.action is not Action.KEEP or one.provisioned]
    if not done:
        output.line(f"{_title(opened)}: {summary(made)}")
        return
    output.line(f"{_title(opened)}: {', '.join(_did(done))}")
    for one in ended:
        for line in _reach(one.step, one.body):
            output.line(f"  {line}")


def _did(done: list[Progress]) -> list[str]:
    words: dict[str, int] = {}
    for one in done:
        words[one.now] = words.get(one.now, 0) + 1
    return [f"{count} {word}" for word, count in words.items()]


def _reach(step: Step, body: Json | None) -> list[str]:
    """Where its ports are, for those that have any."""
    from skerry.client.calls.ports import text_of

    if body is None or step.section != "sandboxes":
        return []
    return [f"{step.key}: {text_of(port)}" for port in body["spec"]["ports"]]


def _wire(one: Progress) -> dict[str, Any]:
    return {
        "key": one.step.key,
        "name": one.step.name,
        "section": one.step.section,
        "action": one.step.action.value,
        "result": one.phase.value,
        "error": one.error.say if one.error else None,
        "object": one.body,
    }
