"""Calls about egress policies: replace one, try a draft on what was asked, read the log; and rules in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call
from skerry.client.calls import sandboxes
from skerry.client.calls.sandboxes import path, plain
from skerry.errors import Unavailable

if TYPE_CHECKING:
    from skerry.model.policy import Policy, PolicyTest
    from skerry.model.sandbox import Sandbox

APPLIED_S_MAX = 30.0
"""A machine goes by a new policy within milliseconds of being told."""
REPLY_S = 60.0

_ADDRESS = re.compile(r"[0-9.]+(/[0-9]+)?|[0-9a-fA-F:.]*:[0-9a-fA-F:./]*")
_PRESET = "@"


def rule_from_text(text: str, action: str) -> dict[str, str]:
    """A domain, an address or range, or @PRESET -> the fields of a rule. What they may be is the server's to judge."""
    if text.startswith(_PRESET):
        return {"include": text.removeprefix(_PRESET), "action": action}
    return {"cidr" if _ADDRESS.fullmatch(text) else "domain": text, "action": action}


def rules(allow: Iterable[str], deny: Iterable[str]) -> list[dict[str, str]]:
    return [rule_from_text(text, "allow") for text in allow] + [rule_from_text(text, "deny") for text in deny]


def policy(default: str, allow: Iterable[str], deny: Iterable[str], *, observe: bool = False) -> dict[str, Any]:
    return {"default": default, "rules": rules(allow, deny), "observe": observe}


def replace(ref: str, policy: Mapping[str, Any] | Any) -> Call[Sandbox]:
    """Answered once its machine goes by it."""
    return sandboxes.update(ref, {"policy": plain(policy)}, APPLIED_S_MAX)


def applied(record: Sandbox) -> Policy:
    """The policy its machine goes by. Raises Unavailable when the machine has not answered in time."""
    if not record.applied:
        raise Unavailable("its machine does not answer; it will go by the new policy as soon as it does")
    return record.spec.network.policy


def test(ref: str, draft: Mapping[str, Any] | Any) -> Call[PolicyTest]:
    return Call("POST", path(ref, "policy", "test"), parse.policy_test, body=plain(draft), reply_s=REPLY_S)


def log(ref: str, *, follow: bool = False, tail: int | None = None) -> Call[Any]:
    query = {"follow": follow, "tail": tail}
    accept = "application/x-ndjson"
    return Call("GET", path(ref, "policy", "log"), query=query, accept=accept, reply_s=None if follow else REPLY_S)
