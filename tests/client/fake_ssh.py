"""SSH access of the fake control plane: keys that open nothing, with fingerprints that differ."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import ValidationError

from skerry.model.explain import explain
from skerry.model.ssh import SshAccess, SshAccessRequest, SshGrant, SshKey

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl

HOST_KEY = "ssh-ed25519 AAAAhost"


class FakeSsh:
    """`host` is what the server says its listener's is."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self._keys: dict[str, list[SshKey]] = {}
        self._numbers = itertools.count()
        self.host: str | None = "192.0.2.7"
        self.lasts_s: float | None = None

    def routes(self, box: str) -> list[web.RouteDef]:
        return [
            web.get(box + "/ssh-access", self._show),
            web.post(box + "/ssh-access", self._grant),
            web.delete(box + "/ssh-access", self._revoke),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        return _json(SshAccess(**self._access(request)))

    async def _grant(self, request: web.Request) -> web.Response:
        try:
            asked = SshAccessRequest.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            raise explain(error) from None
        now = datetime.now(UTC)
        key = SshKey(
            fingerprint=f"SHA256:{next(self._numbers)}",
            created_at=now,
            expires_at=now + timedelta(seconds=self.lasts_s or asked.for_s),
        )
        self._keys.setdefault(self._control.find(request.match_info["ref"]).id, []).append(key)
        text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{key.fingerprint}\n-----END OPENSSH PRIVATE KEY-----\n"
        grant = SshGrant(
            **self._access(request), private_key=text, fingerprint=key.fingerprint, expires_at=key.expires_at
        )
        return _json(grant, 201)

    async def _revoke(self, request: web.Request) -> web.Response:
        self._keys.pop(self._control.find(request.match_info["ref"]).id, None)
        return web.json_response({})

    def _access(self, request: web.Request) -> dict[str, Any]:
        sandbox_id = self._control.find(request.match_info["ref"]).id
        keys = self._keys.get(sandbox_id, [])
        return {"host": self.host, "port": 7022, "user": sandbox_id, "host_key": HOST_KEY, "keys": keys}


def _json(record: Any, status: int = 200) -> web.Response:
    return web.json_response(text=record.model_dump_json(), status=status)
