"""What the system's own ssh client needs of us, in the user's configuration folder: keys, host keys, Host blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from skerry.client.calls import ssh as calls
from skerry.client.contexts import contexts_path
from skerry.client.transport import Transport
from skerry.errors import Invalid

SUFFIX = ".skerry"
"""Of the host names in a configuration: a sandbox called like a host of the user's must not take its place."""
RENEW_S = 86_400.0
"""A key is made anew a day before it would end, so that a configuration does not stop working within a session."""
INCLUDE_NOTE = "# Added by `skerry ssh-config --write`; sandboxes are NAME.skerry."
KEEPALIVE_S, KEEPALIVES_MAX = 30, 4


class Way(NamedTuple):
    """How to get into one sandbox."""

    id: str
    host: str
    port: int
    key: Path
    known_hosts: Path

    def options(self, *, user: str | None = None) -> dict[str, str]:
        """Options of ssh(1): this key alone, this host key alone, no question ever asked."""
        return {
            "HostName": self.host,
            "Port": str(self.port),
            "User": f"{self.id}+{user}" if user else self.id,
            "IdentityFile": quoted(self.key),
            "IdentitiesOnly": "yes",
            "PreferredAuthentications": "publickey",
            "BatchMode": "yes",
            "HostKeyAlias": self.id,
            "UserKnownHostsFile": quoted(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ServerAliveInterval": str(KEEPALIVE_S),
            "ServerAliveCountMax": str(KEEPALIVES_MAX),
            "SendEnv": "LANG LC_*",
        }


class SshFiles:
    """Every file is replaced as a whole, 0600; several `skerry` may be at it at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.folder = contexts_path(environ).parent / "ssh"
        self.blocks = self.folder / "hosts"
        self._home = Path(environ.get("HOME") or "~").expanduser()

    def way(self, transport: Transport, sandbox: str) -> Way:
        """With a key that the server lets in, made now if there is none here."""
        access = transport.json(calls.access(sandbox))
        sandbox_id: str = access["user"]
        key = self.folder / sandbox_id
        if not (key.is_file() and self._is_let_in(sandbox_id, access["keys"])):
            granted = transport.json(calls.grant(sandbox))
            self._write(key, granted["private_key"])
            self._write(self._note(sandbox_id), json.dumps({"fingerprint": granted["fingerprint"]}) + "\n")
        known_hosts = self.folder / f"{sandbox_id}.known_hosts"
        self._write(known_hosts, f"{sandbox_id} {access['host_key']}\n")
        host: str = access["host"] or urlsplit(transport.target.address).hostname or "127.0.0.1"
        return Way(sandbox_id, host, int(access["port"]), key, known_hosts)

    def forget(self, sandbox_id: str) -> None:
        for path in (
            self.folder / sandbox_id,
            self._note(sandbox_id),
            self.folder / f"{sandbox_id}.known_hosts",
            self.blocks / f"{sandbox_id}.conf",
        ):
            path.unlink(missing_ok=True)

    def keep_block(self, sandbox_id: str, host: str, text: str) -> None:
        """The host name means this sandbox from now on, and no other that had the name before it."""
        for path in self.blocks.glob("*.conf"):
            if path.stem != sandbox_id and host in path.read_text().partition("\n")[0].split():
                path.unlink(missing_ok=True)
        self._write(self.blocks / f"{sandbox_id}.conf", text)

    def include(self) -> Path:
        """Have ~/.ssh/config read our blocks; once, at its top, since an Include inside a Host block counts only there.
        A link to elsewhere stays one: many keep their configuration in a repository."""
        config = (self._home / ".ssh" / "config").resolve()
        line = f'Include {quoted(self.blocks)[:-1]}/*.conf"'
        try:
            text = config.read_text()
            mode = config.stat().st_mode & 0o777
        except FileNotFoundError:
            text, mode = "", 0o600
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read {config}: {error}") from None
        if line not in text.splitlines():
            self._write(config, f"{INCLUDE_NOTE}\n{line}\n" + (f"\n{text}" if text else ""), mode=mode)
        return config

    def _is_let_in(self, sandbox_id: str, keys: list[Any]) -> bool:
        try:
            ours = json.loads(self._note(sandbox_id).read_text())["fingerprint"]
        except (OSError, ValueError, KeyError):
            return False
        soon = datetime.now(UTC) + timedelta(seconds=RENEW_S)
        return any(key["fingerprint"] == ours and _moment(key["expires_at"]) > soon for key in keys)

    def _note(self, sandbox_id: str) -> Path:
        return self.folder / f"{sandbox_id}.json"

    def _write(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        try:
            if path.is_file() and path.read_text() == text:
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
                file.write(text)
            os.replace(draft, path)
        except OSError as error:
            raise Invalid(f"cannot write {path}: {error.strerror}") from None


def block(name: str, sandbox_id: str, options: dict[str, str]) -> str:
    """A Host block: by its name, and by its id, which stays when the name changes."""
    lines = [f"Host {name}{SUFFIX} {sandbox_id}{SUFFIX}", *(f"  {key} {value}" for key, value in options.items())]
    return "\n".join(lines)


def quoted(path: Path) -> str:
    """As ssh reads a file name that may hold spaces; it would expand % otherwise."""
    text = str(path)
    if '"' in text or "\n" in text:
        raise Invalid(f"ssh cannot read a file whose path has quotes in it: {text!r}")
    return '"' + text.replace("%", "%%") + '"'


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
