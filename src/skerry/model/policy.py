"""An egress policy: which names and addresses a sandbox may reach. What a user may declare, and what the log keeps."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from skerry.model.fields import Frozen

RULES_MAX = 256
DOMAIN_CHARACTERS_MAX = 253
NAMES_REPLAYED_MAX = 1000
"""Different names in the answer of a test; those whose fate would change come first."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Preset(StrEnum):
    """Lists of domains that we keep, in `model/presets.py`."""

    PACKAGES = "packages"  # mirrors of packages: Debian, Ubuntu, Alpine, PyPI, npm, crates, Go, …
    GIT = "git"  # hosts of repositories
    MODELS = "models"  # hubs of models and data sets
    DEV = "dev"  # the three of them


def _domain(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    name = text.strip().rstrip(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            raise ValueError("expected a domain name such as pypi.org or *.example.com") from None
    bare = name.removeprefix("*.")
    if len(name) > DOMAIN_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise ValueError("expected a domain name such as pypi.org, or *.example.com for every name below it")
    if bare.rpartition(".")[2].isdigit():
        raise ValueError("expected a domain name; addresses are given as cidr")
    return name


def _range(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("expected an address or range such as 10.1.2.0/24") from None
    if network.version != 4:
        raise ValueError("only IPv4 ranges can be named: sandboxes have no IPv6")
    return str(network)


Domain = Annotated[str, BeforeValidator(_domain)]
Range = Annotated[str, Field(max_length=64), AfterValidator(_range)]


class Rule(Frozen):
    """One of `domain`, `cidr` and `include`, and what becomes of it."""

    domain: Domain | None = None
    """`pypi.org` is that name alone; `*.pypi.org` is every name below it, and not itself."""
    cidr: Range | None = None
    """IPv4 addresses, whatever their name. Private ones are reached only where a rule names them."""
    include: Preset | None = None
    action: Action = Action.ALLOW

    @model_validator(mode="after")
    def _is_about_one_thing(self) -> Rule:
        if sum(part is not None for part in (self.domain, self.cidr, self.include)) != 1:
            raise ValueError("a rule has exactly one of domain, cidr and include")
        return self

    @property
    def about(self) -> str:
        return self.domain or self.cidr or f"include {self.include}"


class Policy(Frozen):
    """The most specific rule wins; of two as specific, a rule of one's own wins over a preset's, then deny over allow.
    As it is without rules, everything public is reached."""

    default: Action = Action.ALLOW
    """What becomes of names and addresses that no rule is about."""
    rules: Annotated[list[Rule], Field(max_length=RULES_MAX)] = []
    observe: bool = False
    """Write down the names it asks for even where nothing is ruled, to see what a policy would have to allow."""

    @property
    def has_names(self) -> bool:
        """Whether any rule is about names."""
        return any(rule.cidr is None for rule in self.rules)

    @property
    def judges_names(self) -> bool:
        """Whether a name may be denied: then its questions must come to us, and no other way to ask may be open."""
        return self.default is Action.DENY or self.has_names


class NameAsked(Frozen):
    """One line of a sandbox's log of names."""

    at: datetime
    name: str
    type: str
    """A, AAAA, TXT, …"""
    action: Action
    rule: str | None = None
    """What decided: `*.pypi.org`, `10.0.0.0/8`, `preset git`; None: the default."""
    why: str = ""
    """Where it is not simply the rule: a private answer, too many questions, an unusual name."""
    addresses: list[str] = []


class NameReplayed(Frozen):
    name: str
    times: int
    last_at: datetime
    was: Action
    now: Action
    rule: str | None
    why: str = ""


class PolicyTest(Frozen):
    """What would have become, under a draft, of everything that was asked."""

    items: list[NameReplayed]
    """One for each name, those that would change first, then the most asked."""
    denied_more: int
    """Names that were allowed and would not be."""
    allowed_more: int
    truncated: bool = False
