"""SSH into a sandbox: the keys that open it, where its machine listens, and how the listener proves who it is."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import Field

from skerry.model.fields import USER_PATTERN, Duration, Frozen

SSH_KEYS_MAX = 32
"""Of one sandbox; a new one takes the place of the oldest, so that nobody is locked out by forgotten keys."""
SSH_KEY_S_MIN, SSH_KEY_S_MAX = 60.0, 31_536_000.0
SSH_KEY_S = 2_592_000.0
"""Thirty days: long enough for an editor's configuration, short enough that a lost laptop is not let in for ever."""


class SshAccessRequest(Frozen):
    for_s: Annotated[Duration, Field(ge=SSH_KEY_S_MIN, le=SSH_KEY_S_MAX)] = SSH_KEY_S
    """How long the new key opens the sandbox: seconds, or text such as 12h."""


class SshKey(Frozen):
    """What is kept of a key: never its private half."""

    fingerprint: str
    created_at: datetime
    expires_at: datetime


class SshAccess(Frozen):
    """Where and as whom to connect, and which keys are let in."""

    host: str | None
    """None: the listener takes connections at every address of the machine; use the one the API is reached by."""
    port: int
    user: str
    """The sandbox's id. Its name does as well; ID+USER logs in as that user of the sandbox."""
    host_key: str
    """The listener's public key, as in a known_hosts file: `ssh-ed25519 AAAA…`."""
    keys: list[SshKey]


class SshGrant(SshAccess):
    """The answer to who asks for access; the private key is told this once and kept nowhere."""

    private_key: str
    """In OpenSSH's form, without a passphrase."""
    fingerprint: str
    expires_at: datetime


def parse_login(text: str) -> tuple[str, str | None] | None:
    """`box` or `box+user` -> the sandbox's name or id, and the user inside it; None for anything else."""
    sandbox, plus, user = text.partition("+")
    if not plus:
        return (sandbox, None) if sandbox else None
    return (sandbox, user) if sandbox and re.fullmatch(USER_PATTERN, user) else None
