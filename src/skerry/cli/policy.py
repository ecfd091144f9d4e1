"""`skerry policy …`: which names and addresses a sandbox may reach, and which it asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, sandbox_argument
from skerry.cli.output import Columns, local_time, parts
from skerry.cli.spec_options import policy_options
from skerry.cli.table import Entry
from skerry.client import wire
from skerry.client.calls import policy as calls
from skerry.client.calls import sandboxes

_IN = "Commands"
_HERE = "skerry.cli.policy:"
ENTRIES = {
    "set": Entry(_HERE + "set_policy", "Replace the policy of a sandbox, while it runs.", _IN),
    "show": Entry(_HERE + "show", "The policy of a sandbox.", _IN),
    "test": Entry(_HERE + "test", "Try a policy on what the sandbox asked for.", _IN),
    "log": Entry(_HERE + "log", "The names it asked for, and what became of them.", _IN),
    "get": Entry(_HERE + "show", "The policy of a sandbox."),
    "logs": Entry(_HERE + "log", "The names it asked for, and what became of them."),
}


@click.command("policy", cls=LazyGroup, entries=ENTRIES)
def policy() -> None:
    """Which names and addresses a sandbox may reach, and which it asked for."""


file_option = click.option("--file", "file", metavar="FILE", help="Read it as JSON from FILE, or - for stdin.")


@command("set")
@policy_options
@file_option
@sandbox_argument
def set_policy(invocation: Invocation, sandbox: str, file: str | None, **given: Any) -> None:
    """Replace the whole policy of SANDBOX. What it no longer allows is cut at once, open connections too.

    \b
      skerry policy set box --egress deny --allow @dev --allow '*.example.com'
      skerry policy set box --deny tracker.example --allow 10.1.2.0/24
      skerry policy set box --file policy.json
    """
    body = invocation.ask(calls.replace(sandbox, _given(file, given)))
    if body["applied"]:
        invocation.output.one(body, f"{body['name']} goes by it: {_summary(body['spec']['network'])}")
    else:
        invocation.output.one(body, f"{body['name']} will go by it as soon as its machine answers")


@command("show")
@sandbox_argument
def show(invocation: Invocation, sandbox: str) -> None:
    """The policy of SANDBOX; it reads the same in /.skerry/policy/network.json."""
    network = invocation.ask(sandboxes.get(sandbox))["spec"]["network"]
    if invocation.output.json:
        kept = {name: network[name] for name in ("default", "observe")}
        invocation.output.emit({**kept, "rules": [_bare(rule) for rule in network["rules"]]})
        return
    if not network["enabled"]:
        invocation.output.note("it has no network at all")
    rows = [{"about": _about(rule), "action": rule["action"]} for rule in network["rules"]]
    rows.append({"about": "everything else", "action": network["default"]})
    columns: Columns = {"WHAT": lambda row: row["about"], "ACTION": lambda row: row["action"]}
    invocation.output.many(rows, columns, name="about")


@command("test")
@policy_options
@file_option
@sandbox_argument
def test(invocation: Invocation, sandbox: str, file: str | None, **given: Any) -> None:
    """What would have become of all that SANDBOX asked for under a policy, given as to `policy set`."""
    tested = invocation.ask(calls.test(sandbox, _given(file, given)))
    output = invocation.output
    if output.json:
        output.emit(tested)
        return
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "TIMES": lambda item: item["times"],
        "WAS": lambda item: item["was"],
        "WOULD BE": lambda item: item["now"],
        "BECAUSE": lambda item: item["why"] or item["rule"] or "default",
    }
    output.many(tested["items"], columns, name="name")
    more = " (only the first are shown)" if tested["truncated"] else ""
    output.note(f"{tested['denied_more']} more denied, {tested['allowed_more']} more allowed{more}")


@command("log")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is asked from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N.")
@click.option("--denied", is_flag=True, help="Only what was denied.")
@sandbox_argument
def log(invocation: Invocation, sandbox: str, follow: bool, tail: int | None, denied: bool) -> None:
    """The names SANDBOX asked for. Written where names are judged, or the policy says --observe."""
    output, lines = invocation.output, wire.Lines()
    with invocation.transport.stream(calls.log(sandbox, follow=follow, tail=tail)) as stream:
        for chunk in stream:
            for item in lines.feed(chunk):
                if not denied or item["action"] == "deny":
                    output.emit_line(item) if output.json else output.line(_sentence(invocation, item))
            output.stream.flush()


def _sentence(invocation: Invocation, item: Any) -> str:
    action = invocation.output.paint(f"{item['action']:<5}", "red" if item["action"] == "deny" else "green")
    because = item["why"] or (f"by {item['rule']}" if item["rule"] else "by default")
    found = f" -> {', '.join(item['addresses'])}" if item["addresses"] else ""
    return f"{local_time(item['at'])}  {action}  {item['name'] or '-'} {item['type']}{found}  ({because})"


def _given(file: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """A policy from a file or from words, as JSON."""
    named = any(value for value in given.values())
    if file is None:
        if not named:
            raise click.UsageError("which policy? see `skerry policy set --help`; --egress allow alone takes all away")
        egress = given["egress"] or "allow"
        return calls.policy(egress, given["allow"], given["deny"], observe=given["observe"])
    if named:
        raise click.UsageError("give a policy either by --file or by --egress, --allow, --deny and --observe")
    try:
        return json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not valid JSON: {error}") from None


def _summary(network: Any) -> str:
    rules = len(parts(network, "rules"))
    return f"{rules} {'rule' if rules == 1 else 'rules'}, everything else is {network['default']}"


def _about(rule: Any) -> str:
    return rule["domain"] or rule["cidr"] or f"@{rule['include']}"


def _bare(rule: Any) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if value is not None}
