"""The program itself, with TLS: the scheme that sandboxes are told, a cookie for TLS alone, and a clear refusal."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from skerry.errors import Invalid
from skerry.gateway.ending import Ending
from skerry.gateway.program import _tls
from skerry.serve.listeners import bind
from skerry.settings import Settings
from tests.gateway.conftest import WEB, World, read_head, status

pytestmark = pytest.mark.anyio


def certificate(folder: Path) -> tuple[Path, Path]:
    key, made = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(made), "-days", "2", "-subj", "/CN=*.boxes.test"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:*.boxes.test"], check=True, capture_output=True)
    return made, key


async def test_over_tls(world: World, tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    world.gateway._settings = world.settings.model_copy(update={"url_certificate": made, "url_key": key})
    listening = bind("127.0.0.1:0")[0]
    ending = Ending()
    serving = asyncio.create_task(world.gateway.serve(listening, _tls(world.gateway._settings), ending))
    context = ssl.create_default_context(cafile=str(made))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listening.getsockname()[1], ssl=context, server_hostname=WEB
    )
    writer.write(f"GET /?skerry_token={world.token()} HTTP/1.1\r\nHost: {WEB}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        answer = await read_head(reader)
    assert status(answer) == 200
    assert b"; SameSite=Lax; Secure\r\n" in answer
    assert b"X-Forwarded-Proto: https\r\n" in world.heads[0]
    writer.transport.abort()
    ending.stop()
    await serving


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    key.write_text("nothing")
    with pytest.raises(Invalid, match="url_certificate and url_key"):
        _tls(Settings(data_dir=tmp_path, url_certificate=made, url_key=key))
    with pytest.raises(ValueError, match="go together"):
        Settings(data_dir=tmp_path, url_certificate=made)
