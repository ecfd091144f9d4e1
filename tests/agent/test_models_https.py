"""Models of plain web servers: by the digest that was said; archives are unpacked with care, and nothing is left."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.errors import Failed, Forbidden, Invalid, NotFound, SkerryError, TooLarge, Unavailable
from skerry.model.weights import ModelFormat, ModelRequest, default_name
from tests.agent.model_places import Site, serving, sha256
from tests.agent.models_world import PART, Machine, model_id

pytestmark = pytest.mark.anyio
BIG = bytes(number % 251 for number in range(10 * PART + 37))
CONFIG = b'{"architectures": ["LlamaForCausalLM"]}'
FILES = {"config.json": CONFIG, "sub/model.safetensors": BIG, "empty.txt": b""}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving(Site()) as place:
        assert isinstance(place, Site)
        yield place


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    yield made
    await made.store.close()


def tarred(files: dict[str, bytes], *more: tarfile.TarInfo, kind: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=kind) as archive:  # pyright: ignore
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in more:
            archive.addfile(entry)
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


async def test_a_file_that_breaks_off_is_gone_on_with(machine: Machine, site: Site) -> None:
    site.files = {"x/tiny model.gguf": b"GGUF" + BIG}
    source = f"{site.base}/x/tiny%20model.gguf#sha256={sha256(b'GGUF' + BIG)}"
    site.breaks["x/tiny model.gguf"] = [1, *[PART // 2] * 3]
    made = await machine.have(source)
    assert machine.files() == {"tiny model.gguf": b"GGUF" + BIG}
    assert made.card.format is ModelFormat.GGUF
    assert site.given["x/tiny model.gguf"] < len(BIG) + 4 * PART
    before = len(site.asked)
    await machine.have(source, 2)
    assert len(site.asked) == before + 1  # its size; the file is here


async def test_what_is_not_as_it_was_said_is_refused(machine: Machine, site: Site) -> None:
    site.files = {"m.bin": BIG, "none.bin": b""}
    with pytest.raises(Failed, match="not what its digest says"):
        await machine.have(site.source("m.bin", "0" * 64))
    with pytest.raises(NotFound):
        await machine.have(f"{site.base}/no.bin#sha256={'0' * 64}")
    site.login = "Basic bWU6c2VjcmV0"
    with pytest.raises(Forbidden, match="secret"):
        await machine.have(site.source("m.bin"))
    site.ranges = False
    await machine.have(site.source("m.bin"), secret="me:secret")
    assert machine.files() == {"m.bin": BIG}


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.tgz", "m.tar.xz", "m.zip"])
async def test_an_archive_is_unpacked(machine: Machine, site: Site, name: str) -> None:
    inside = {f"./tiny-1.0/{path}" if name != "m.zip" else f"tiny-1.0/{path}": data for path, data in FILES.items()}
    kind = {"m.tar": "w", "m.tar.xz": "w:xz"}.get(name, "w:gz")
    site.files = {name: zipped(inside) if name == "m.zip" else tarred(inside, kind=kind)}
    made = await machine.have(site.source(name))
    assert machine.files() == FILES
    assert (made.card.format, made.card.architecture) == (ModelFormat.SAFETENSORS, "LlamaForCausalLM")
    assert machine.left() == []
    blobs = {path.name for path in (machine.folder / "models" / "blobs").iterdir()}
    assert blobs == {sha256(data) for data in FILES.values()}, "the archive is not kept"


def link(kind: bytes, name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("m.tar.gz", tarred({"../../x": b"x", "y": b"y"}), Invalid),
        ("m.tar.gz", tarred({"/etc/x": b"x", "y": b"y"}), Invalid),
        ("m.tar.gz", tarred({"y": b"y"}, link(tarfile.SYMTYPE, "x", "/etc/passwd")), Invalid),
        ("m.tar.gz", tarred({"y": b"y"}, link(tarfile.LNKTYPE, "x", "y")), Invalid),
        ("m.tar.gz", tarred({"y": b"y"}, link(tarfile.CHRTYPE, "x", "")), Invalid),
        ("m.tar.gz", tarred({"y": bytes(200_000)}), TooLarge),
        ("m.zip", zipped({"y": bytes(200_000)}), TooLarge),
        ("m.tar.gz", tarred({str(number): b"" for number in range(2001)}), TooLarge),
        ("m.tar.gz", b"not an archive", Failed),
        ("m.tar.gz", gzip.compress(tarred({"y": BIG}, kind="w")[:6000]), Failed),
        ("m.zip", zipped({"y": BIG})[:300], Failed),
        ("m.tar", tarred({}, kind="w"), NotFound),
    ],
)
async def test_a_hostile_archive_leaves_nothing(
    tmp_path: Path, site: Site, name: str, data: bytes, error: type[SkerryError]
) -> None:
    machine = Machine(tmp_path, size_bytes_max=100_000)
    site.files = {name: data}
    with pytest.raises(error):
        await machine.have(site.source(name))
    assert machine.left() == []
    assert machine.store.models() == []


async def test_a_new_agent_clears_what_an_archive_left(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "unfinished" / "unpack-x"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    assert Machine(tmp_path).left() == []


async def test_a_server_elsewhere_is_asked_over_https_only(machine: Machine) -> None:
    end = f"#sha256={'a' * 64}"
    assert default_name(f"https://h.example/a/Tiny%20M.tar.gz?x=1{end}") == "tiny-m"
    for bad in (
        "https://h.example/x",
        f"http://h.example/x{end}",
        f"http://127.0.0.1.example/x{end}",
        f"https://me@h.example/x{end}",
        f"https://h.example/a/../x{end}",
        f"https://h.example/x{end}a",
    ):
        with pytest.raises(ValueError, match="expected"):
            ModelRequest(source=bad)
    with pytest.raises(ValueError, match="says itself"):
        ModelRequest(source=f"https://h.example/x{end}", endpoint="https://h.example")
    with pytest.raises(Unavailable):
        await machine.have(f"http://127.0.0.1:9/x{end}")


async def test_two_models_share_what_is_in_both(machine: Machine, site: Site) -> None:
    site.files = {"a.tar": tarred({"x": BIG, "y": b"1"}, kind="w"), "b.tar": tarred({"x": BIG, "y": b"2"}, kind="w")}
    await machine.have(site.source("a.tar"))
    await machine.have(site.source("b.tar"), 2)
    paths = [machine.store.path(model_id(number)) / "x" for number in (1, 2)]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
