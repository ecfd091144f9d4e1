"""URLs of sandboxes, and the secret that links to private ones are signed with."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from skerry.model.sandbox import Sandbox
from skerry.model.url import SECRET_BYTES, TOKEN_PARAMETER, LinkRequest, Url, label, sign
from skerry.settings import Settings


class Links:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def open(self) -> None:
        """Make the secret, once. Removing the file and starting everything again takes back every link there is."""
        path = self._settings.url_secret_path
        if path.exists():
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, os.urandom(SECRET_BYTES).hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(unfinished, path)

    def url(self, sandbox: Sandbox, port: int | None) -> Url:
        return Url(url=self._url(sandbox, port), port=port, public=sandbox.spec.public)

    def link(self, sandbox: Sandbox, asked: LinkRequest, now: datetime) -> Url:
        """One that lets its bearer in for a while. It names the sandbox by id: renaming does not break it, and another
        sandbox of the same name is not opened by it."""
        secret = bytes.fromhex(self._settings.url_secret_path.read_text().strip())
        expires = int(now.timestamp() + asked.expires_s) + 1
        token = sign(secret, sandbox.id, asked.port, expires)
        return Url(
            url=f"{self._url(sandbox, asked.port)}?{TOKEN_PARAMETER}={token}",
            port=asked.port,
            public=sandbox.spec.public,
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    def _url(self, sandbox: Sandbox, port: int | None) -> str:
        settings = self._settings
        return f"{settings.url_scheme}://{label(sandbox.name, sandbox.id, port)}.{settings.url_place}/"
