"""Which server to talk to, and with which key: arguments, environment, current context, else this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from skerry.client.contexts import LOCAL, Context, Contexts, contexts_path
from skerry.errors import Forbidden, Invalid, NotFound

PORT = 7070
DATA_DIR = "/var/lib/skerry"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Target(NamedTuple):
    """`address` is unix:///PATH, http://HOST:PORT or https://HOST[:PORT]."""

    address: str
    key: str | None
    project: str | None = None
    source: str = "argument"
    """Where the address came from, for people."""

    @property
    def unix_path(self) -> str | None:
        return self.address.removeprefix("unix://") if self.address.startswith("unix://") else None

    @property
    def headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if self.project:
            headers["Skerry-Project"] = self.project
        return headers


def normal_address(text: str) -> str:
    """HOST, HOST:PORT, a URL or the path of a socket -> the one form that the transports read."""
    text = text.strip()
    if text.startswith("/"):
        return f"unix://{text}"
    if text.startswith("unix:"):
        path = "/" + text.removeprefix("unix:").lstrip("/")
        return f"unix://{path}"
    url = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = url.port
    except ValueError:
        port = -1
    if url.scheme not in ("http", "https") or not url.hostname or port == -1 or url.query or url.path not in ("", "/"):
        raise Invalid(f"address {text!r}: expected HOST:PORT, https://HOST or unix:///PATH", field="address")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if url.scheme == "https":
        return f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"
    return f"http://{host}:{port or PORT}"


def resolve(
    address: str | None = None,
    key: str | None = None,
    project: str | None = None,
    *,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Each of address, key and project comes from the first that has it; a key never goes to another's address."""
    address, source = (address, "argument") if address else (environ.get("SKERRY_ADDRESS"), "SKERRY_ADDRESS")
    key = key or environ.get("SKERRY_KEY") or None
    project = project or environ.get("SKERRY_PROJECT") or None
    chosen = _context(context, environ)
    if address:
        address = normal_address(address)
        if chosen and normal_address(chosen.address) == address:
            key, project = key or chosen.key, project or chosen.project
        return Target(address, key or _local_key(address, environ), project, source)
    if chosen:
        found = normal_address(chosen.address)
        key = key or chosen.key or _local_key(found, environ)
        return Target(found, key, project or chosen.project, f"context {chosen.name}")
    found = f"unix://{local_socket(environ)}"
    return Target(found, key or _local_key(found, environ), project, "this machine")


def _context(name: str | None, environ: Mapping[str, str]) -> Context | None:
    name = name or environ.get("SKERRY_CONTEXT") or None
    contexts = Contexts.load(contexts_path(environ))
    name = name or contexts.current
    if name is None or name == LOCAL:
        return None
    if name not in contexts.items:
        raise NotFound(f"there is no context {name!r}; see `skerry context list`")
    return contexts.items[name]


def local_data_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("SKERRY_DATA_DIR") or DATA_DIR)


def local_run_dir(environ: Mapping[str, str]) -> Path:
    """As `settings.Settings.run_path` says, without importing pydantic; a test holds the two together."""
    import hashlib

    data_dir = local_data_dir(environ)
    run_dir = environ.get("SKERRY_RUN_DIR") or _settings_file(data_dir).get("run_dir")
    if run_dir:
        return Path(str(run_dir))
    instance = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:4]
    return Path(f"/run/skerry-{instance}")


def local_socket(environ: Mapping[str, str]) -> Path:
    return local_run_dir(environ) / "control.sock"


def _settings_file(data_dir: Path) -> dict[str, Any]:
    try:
        text = (data_dir / "skerry.toml").read_text()
    except OSError:
        return {}
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _local_key(address: str, environ: Mapping[str, str]) -> str | None:
    """The admin key of this machine's installation, for addresses of this machine only."""
    if not address.startswith("unix://") and urlsplit(address).hostname not in _LOOPBACK:
        return None
    path = local_data_dir(environ) / "admin.key"
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except PermissionError:
        raise Forbidden(
            f"you may not read {path}; become root, or set SKERRY_KEY, or use `skerry context create`"
        ) from None
