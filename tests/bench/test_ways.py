"""Ways to a server: TLS with an authority of one's own, a unix socket, names below localhost, a service of Skerry."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from skerry.bench.campaign import campaign
from skerry.bench.frame import Frame
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.bench.run import run
from skerry.cli.bench_target import reached
from skerry.cli.invocation import Invocation
from skerry.errors import Invalid, Unavailable
from tests.bench.server import Server


def certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; the key lies in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "own.pem").write_bytes(private + made.public_bytes(pem))
    return folder / "own.pem"


def plan(url: str, **more: Any) -> Plan:
    return read_here(Plan, {"url": url, "model": "m", "load": {"concurrency": 2, "requests": 4}, **more})


def test_https_is_checked_by_an_authority_of_ones_own_or_not_at_all(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    server = Server(tls=tls)
    url = f"https://127.0.0.1:{server.port}"
    try:
        with pytest.raises(Unavailable, match=r"not trusted \(self.signed certificate\); give --ca FILE or --insecure"):
            run(plan(url))
        with pytest.raises(Invalid, match=r"^ca: .* holds no certificates"):
            run(plan(url, ca=str(tmp_path / "none")))
        for way in ({"ca": str(pem)}, {"verify": False}):
            assert [record.fault for record in run(plan(url, **way))] == [None] * 4
        both = run(plan(url, ca=str(pem), workers=2))
        assert ([record.fault for record in both], {record.worker for record in both}) == ([None] * 4, {0, 1})
    finally:
        server.close()


def test_a_unix_socket_and_a_name_below_localhost(tmp_path: Path) -> None:
    server = Server(path=tmp_path / "s")
    try:
        assert len(run(plan("http://any.host/v1", socket=str(tmp_path / "s")))) == 4
    finally:
        server.close()
    assert {head.split("\r\nhost: ")[1].split("\r\n")[0] for head in server.heads} == {"any.host"}
    server = Server()
    try:
        assert len(run(plan(f"http://tiny.localhost:{server.port}"))) == 4
    finally:
        server.close()
    assert {head.split("\r\nhost: ")[1].split("\r\n")[0] for head in server.heads} == {f"tiny.localhost:{server.port}"}


class Known:
    """An invocation of a context with a key, whose server has one service."""

    def __init__(self, **environ: str) -> None:
        self.environ = environ
        self.asked: list[str] = []

    def ask(self, call: Any) -> dict[str, Any]:
        self.asked.append(call.path)
        return {"name": "tiny", "url": "http://tiny.localhost:7080/"}

    def target(self) -> Any:
        return SimpleNamespace(key="sk_own")


def via(known: Known, fields: dict[str, Any]) -> tuple[Any, ...]:
    found = reached(cast(Invocation, known), fields)
    return found["url"], found.get("model"), found.get("headers", {}).get("Authorization"), "service" in found


def test_a_service_is_asked_through_the_gateway_with_the_key_of_the_context() -> None:
    url = "http://tiny.localhost:7080/"
    known = Known(OPENAI_API_KEY="of others")
    assert via(known, {"service": "tiny"}) == (url, "tiny", "Bearer sk_own", False)
    assert via(known, {"service": "tiny", "model": "lora"}) == (url, "lora", "Bearer sk_own", False)
    assert via(known, {"service": "tiny", "headers": {"authorization": "x"}})[2] is None
    assert via(Known(SKERRY_BENCH_KEY="st_1"), {"service": "tiny"})[2] == "Bearer st_1"
    assert known.asked == ["/v1/services/tiny"] * 3
    assert via(known, {"url": "http://h:1", "model": "m"}) == ("http://h:1", "m", "Bearer of others", False)
    assert via(Known(), {"url": "http://h:1"})[2] is None
    with pytest.raises(Invalid, match="one of url, service and engine"):
        reached(cast(Invocation, known), {"service": "tiny", "url": "http://h:1"})


def test_a_file_of_plans_may_name_services_of_which_the_command_line_goes_before() -> None:
    known = Known()

    def runs(given: dict[str, Any]) -> list[Plan]:
        body = {"service": "tiny", "headers": {"X": "1"}, "load": {"rate": 1, "requests": 1}}
        body["runs"] = [{"name": "a"}, {"name": "b", "url": "http://h:1", "model": "m", "headers": {"Y": "2"}}]
        return [run.plan for run in campaign(body, given, lambda fields: reached(cast(Invocation, known), fields)).runs]

    assert [each.url for each in runs({})] == ["http://tiny.localhost:7080/", "http://h:1"]
    assert runs({})[0].headers == {"X": "1", "Authorization": "Bearer sk_own"}
    assert runs({"headers": {"X": "3"}})[1].headers == {"X": "3", "Y": "2"}
    assert [each.url for each in runs({"url": "http://g:2", "model": "m"})] == ["http://g:2"] * 2


ENGINE = """
import asyncio

class Engine:
    def __init__(self, model):
        self.model = model

    async def __call__(self, body):
        assert body["model"] == self.model
        for number in range(body["max_tokens"]):
            await asyncio.sleep(0.002)
            if self.model == "sick" and number:
                raise RuntimeError("out of memory")
            yield f" {number}"
        yield {"usage": {"prompt_tokens": 5, "completion_tokens": number + 1}}
"""


def test_an_engine_is_called_in_this_process_or_in_each_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_engine.py").write_text(ENGINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def asked(engine: str, model: str = "m", **more: Any) -> Frame:
        load = {"concurrency": 2, "requests": 4}
        data = [{"output_tokens": "3", "turns": "2"}]
        return run(read_here(Plan, {"engine": engine, "model": model, "load": load, "data": data, **more}))

    for found in (asked("own_engine:Engine"), asked("own_engine:Engine", workers=2)):
        assert [(record.fault, record.output_tokens, len(record.times_s)) for record in found] == [(None, 3, 3)] * 4
        assert {record.input_tokens for record in found} == {5}
    assert {record.say for record in asked("own_engine:Engine", "sick")} == {
        "the engine failed: RuntimeError('out of memory')"
    }
    for wrong in ("none", "own_engine:Missing", "missing_module:X"):
        with pytest.raises(Invalid, match=f"^engine: {wrong} cannot be made"):
            asked(wrong)
    with pytest.raises(Invalid, match="give one of url, service and engine"):
        plan("http://h:1", engine="own_engine:Engine")


def test_a_plug_in_is_found_by_its_name_in_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip leaves it: a module, and beside it what says that it is one."""
    (tmp_path / "plugged_engine.py").write_text(ENGINE)
    about = tmp_path / "plugged_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[skerry.bench.engines]\nplugged = plugged_engine:Engine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    where = {"engine": "plugged", "model": "m", "data": [{"output_tokens": "3"}]}
    for workers in (1, 2):
        load = {"concurrency": 2, "requests": 4}
        found = run(read_here(Plan, {**where, "load": load, "workers": workers}))
        assert [(record.fault, record.output_tokens) for record in found] == [(None, 3)] * 4
    with pytest.raises(Invalid, match=r"no plug-in is called so; give MODULE:OBJECT or one of \['plugged'\]"):
        run(read_here(Plan, {**where, "engine": "other", "load": {"concurrency": 1, "requests": 1}}))
