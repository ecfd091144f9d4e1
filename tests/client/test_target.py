"""Where a client goes, and with which key: the order of sources, and that no key goes where it does not belong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from skerry.client.contexts import Context, Contexts
from skerry.client.target import local_socket, normal_address, resolve
from skerry.errors import AlreadyExists, Invalid, NotFound
from skerry.settings import Settings


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A machine with its own installation (key `local-key`) and a context `work`."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/admin.key").write_text("local-key\n")
    environ = {"SKERRY_CONFIG": str(tmp_path / "conf/config.toml"), "SKERRY_DATA_DIR": str(tmp_path / "data")}
    contexts = Contexts.load(Path(environ["SKERRY_CONFIG"]))
    contexts.create(Context("work", "https://skerry.example", "work-key", "team"))
    contexts.use("local")
    return environ


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost", "http://localhost:7070"),
        ("10.0.0.1:80", "http://10.0.0.1:80"),
        ("https://x.example/", "https://x.example"),
        ("https://x.example:8443", "https://x.example:8443"),
        ("http://[::1]:7070", "http://[::1]:7070"),
        ("/run/a.sock", "unix:///run/a.sock"),
        ("unix:/run/a.sock", "unix:///run/a.sock"),
        ("unix:///run/a.sock", "unix:///run/a.sock"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert normal_address(text) == address


@pytest.mark.parametrize("text", ["ftp://x", "http://x:port", "https://x/path", "http://", "http://x?y=z"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(Invalid, match="expected HOST:PORT"):
        normal_address(text)


def test_this_machine_comes_last(environ: dict[str, str]) -> None:
    found = resolve(environ=environ)
    assert (found.address, found.key, found.source) == (f"unix://{local_socket(environ)}", "local-key", "this machine")


def test_the_context_comes_before_this_machine(environ: dict[str, str]) -> None:
    for found in (resolve(context="work", environ=environ), resolve(environ={**environ, "SKERRY_CONTEXT": "work"})):
        assert found[:3] == ("https://skerry.example", "work-key", "team")


def test_the_environment_comes_before_the_context_and_arguments_first(environ: dict[str, str]) -> None:
    environ |= {"SKERRY_CONTEXT": "work", "SKERRY_ADDRESS": "env.example:1", "SKERRY_KEY": "env-key"}
    assert resolve(environ=environ)[:2] == ("http://env.example:1", "env-key")
    assert resolve("arg.example", "arg-key", "p", environ=environ)[:3] == ("http://arg.example:7070", "arg-key", "p")


def test_a_key_never_goes_to_another_address(environ: dict[str, str]) -> None:
    environ |= {"SKERRY_CONTEXT": "work"}
    assert resolve("https://evil.example", environ=environ).key is None
    assert resolve("https://skerry.example", environ=environ).key == "work-key"
    assert resolve("http://127.0.0.1:7070", environ=environ).key == "local-key"


def test_an_unknown_context(environ: dict[str, str]) -> None:
    with pytest.raises(NotFound, match="no context 'nope'"):
        resolve(context="nope", environ=environ)


def test_the_local_socket_is_where_the_server_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SKERRY_")]:
        monkeypatch.delenv(name)
    assert local_socket({"SKERRY_DATA_DIR": str(tmp_path)}) == Settings(data_dir=tmp_path).control_socket
    (tmp_path / "skerry.toml").write_text('run_dir = "/run/other"\n')
    assert local_socket({"SKERRY_DATA_DIR": str(tmp_path)}) == Settings(data_dir=tmp_path).control_socket
    assert local_socket({}) == Settings().control_socket


def test_the_file_is_private_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new/config.toml"
    contexts = Contexts.load(path)
    contexts.create(Context("a", "http://a:1", 'quote " and \\ and ü'))
    contexts.create(Context("b", "http://b:1"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]
    again = Contexts.load(path)
    assert (again.current, again.items["a"].key, again.items["b"].key) == ("a", 'quote " and \\ and ü', None)
    with pytest.raises(AlreadyExists):
        again.create(Context("a", "http://a:2"))
    again.delete("a")
    assert Contexts.load(path).current is None


@pytest.mark.parametrize(
    "context", [Context("local", "x"), Context("a b", "x"), Context("a", "x\ny"), Context("", "x")]
)
def test_bad_contexts(tmp_path: Path, context: Context) -> None:
    with pytest.raises(Invalid):
        Contexts.load(tmp_path / "c").create(context)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("[contexts.a]\n")
    with pytest.raises(Invalid, match="is not a context file"):
        Contexts.load(tmp_path / "c")
