"""Models of a machine: fetched from every kind of place, gone on with after a crash, checked, kept once, taken away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from skerry.agent.models.fetch import FetchLimits
from skerry.agent.models.sources.contract import Listed, checked, wanted
from skerry.errors import Failed, Forbidden, Invalid, NoRoom, NotFound, SkerryError, TooLarge, Unavailable
from skerry.model.weights import ModelFormat, default_name
from tests.agent.model_places import TOKEN, Bucket, Hub, Place, Registry, serving
from tests.agent.models_world import PART, Machine, model_id

pytestmark = pytest.mark.anyio
P = TypeVar("P", bound=Place)
BIG = bytes(number % 251 for number in range(10 * PART + 37))
CONFIG = b'{"architectures": ["LlamaForCausalLM"]}'
GGUF = b"GGUF\x03\0\0\0" + bytes(16) + b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama" + BIG
KIND = "application/vnd.ollama.image."


class Places:
    """Opened as they are wanted."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, place: P) -> P:
        await self._stack.enter_async_context(serving(place))
        return place

    async def hub(self) -> Hub:
        hub = await self.open(Hub())
        hub.files = {"config.json": CONFIG, "model.safetensors": BIG, "pytorch_model.bin": b"pickle", "empty.txt": b""}
        return hub


@pytest.fixture
async def places() -> AsyncIterator[Places]:
    async with AsyncExitStack() as stack:
        yield Places(stack)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    yield made
    await made.store.close()


async def test_a_hub_with_pages_large_files_and_a_token(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    hub.private = True
    with pytest.raises(Forbidden, match="secret"):
        await machine.have("hf://org/tiny", endpoint=hub.base)
    made = await machine.have("hf://org/tiny@v1", secret=TOKEN, endpoint=hub.base)
    assert machine.files() == {"config.json": CONFIG, "model.safetensors": BIG, "empty.txt": b""}
    assert (made.revision, made.size_bytes) == (hub.commit, len(CONFIG) + len(BIG))
    assert (made.card.format, made.card.architecture) == (ModelFormat.SAFETENSORS, "LlamaForCausalLM")
    assert hub.given["model.safetensors"] == len(BIG)
    assert machine.told[-1][1:] == (made.size_bytes, made.size_bytes)
    assert await machine.have("hf://org/tiny@v1") == made
    assert machine.left() == []
    modes = {path.stat().st_mode & 0o777 for path in machine.store.path(model_id(1)).rglob("*")}
    assert modes == {0o444}
    with pytest.raises(NotFound):
        await machine.have("hf://org/none", 2, secret=TOKEN, endpoint=hub.base)
    await machine.have("hf://org/tiny/*.bin", 3, secret=TOKEN, endpoint=hub.base)
    assert machine.files(3) == {"pytorch_model.bin": b"pickle"}


async def test_two_revisions_share_what_is_the_same(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    await machine.have("hf://org/tiny", endpoint=hub.base)
    hub.files["config.json"] = b"{}"
    await machine.have("hf://org/tiny", 2, endpoint=hub.base)
    paths = [machine.store.path(model_id(number)) / "model.safetensors" for number in (1, 2)]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
    assert hub.given["model.safetensors"] == len(BIG)
    await machine.store.delete(model_id(1))
    await machine.have("hf://org/tiny", 3, endpoint=hub.base)
    assert machine.files(3)["model.safetensors"] == BIG
    assert hub.given["model.safetensors"] == len(BIG)
    await machine.store.delete(model_id(3))
    await machine.store.delete(model_id(2))
    await machine.store.delete(model_id(2))
    assert list((machine.folder / "models" / "blobs").iterdir()) == []
    assert machine.store.models() == []


async def test_two_pulls_at_one_time_share_a_download(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    await asyncio.gather(*(machine.have("hf://org/tiny", number, endpoint=hub.base) for number in (1, 2, 3)))
    assert hub.given["model.safetensors"] == len(BIG)
    assert machine.files(1) == machine.files(3)


async def test_a_bucket_of_which_every_request_is_signed(machine: Machine, places: Places) -> None:
    bucket = await places.open(Bucket())
    bucket.files = {
        "llama/a b+c.bin": BIG,
        "llama/sub/x": b"x",
        "llama/z": b"z",
        "llama-2/other": b"no",
        "llama/d/": b"",
    }
    source, secret = "s3://weights/llama", "AKIA1:secret+key"
    with pytest.raises(Forbidden):
        await machine.have(source, secret="AKIA1:wrong", endpoint=bucket.base)
    await machine.have(source, secret=secret, endpoint=bucket.base)
    assert machine.files() == {"a b+c.bin": BIG, "sub/x": b"x", "z": b"z"}
    bucket.damage["llama/z"] = 2
    with pytest.raises(Failed, match="damaged"):
        await machine.have("s3://weights/llama/z", 2, secret=secret, endpoint=bucket.base)


async def test_an_artifact_of_a_registry_that_hands_out_tokens(machine: Machine, places: Places) -> None:
    registry = await places.open(Registry())
    registry.private = True
    layers = [registry.put(BIG, "application/octet-stream", "sub/weights.bin"), registry.put(GGUF, "x/gguf.v3")]
    registry.manifests["models/tiny:1"] = {"layers": layers}
    source = f"oci://{registry.base.removeprefix('http://')}/models/tiny:1"
    with pytest.raises(SkerryError, match="let us in"):
        await machine.have(source, endpoint=registry.base)
    with pytest.raises(Invalid, match="https"):
        await machine.have("oci://registry.example/models/tiny", endpoint="http://registry.example")
    made = await machine.have(source, secret="me:pass", endpoint=registry.base)
    assert machine.files() == {"sub/weights.bin": BIG, "model.gguf": GGUF}
    assert (made.card.main, made.card.architecture) == ("model.gguf", "llama")
    registry.manifests["models/tiny:2"] = {"layers": [registry.put(BIG, "application/vnd.oci.image.layer.v1.tar+gzip")]}
    with pytest.raises(Invalid, match="no file of a model"):
        await machine.have(source.removesuffix("1") + "2", 2, secret="me:pass", endpoint=registry.base)


async def test_ollamas_registry_tells_template_and_parameters(machine: Machine, places: Places) -> None:
    registry = await places.open(Registry())
    layers = [
        registry.put(GGUF, KIND + "model"),
        registry.put(b"{{ .Prompt }}", KIND + "template"),
        registry.put(b"MIT", KIND + "license"),
        registry.put(b'{"stop": ["<|end|>"], "temperature": 0.5}', KIND + "params"),
        registry.put(b"{}", "application/vnd.docker.container.image.v1+json"),
    ]
    registry.manifests["library/tiny:1b"] = {"layers": layers}
    made = await machine.have("ollama://tiny:1b", endpoint=registry.base)
    assert machine.files() == {"model.gguf": GGUF}
    assert (made.card.template, made.card.license) == ("{{ .Prompt }}", "MIT")
    assert made.card.parameters == {"stop": ["<|end|>"], "temperature": 0.5}
    registry.files[layers[1]["digest"]] = b"another text"
    with pytest.raises(Failed):
        await machine.have("ollama://tiny:1b", 2, endpoint=registry.base)


async def test_a_shared_folder_and_a_volume(machine: Machine) -> None:
    (machine.shared / "llama/sub").mkdir(parents=True)
    (machine.shared / "llama/sub/w.bin").write_bytes(BIG)
    await machine.have(str(machine.shared / "llama"))
    assert machine.files() == {"sub/w.bin": BIG}
    (machine.shared / "llama/sub/w.bin").write_bytes(b"changed")
    assert machine.files() == {"sub/w.bin": BIG}
    (machine.volume / "m").mkdir()
    (machine.volume / "m/x").write_bytes(b"x")
    await machine.have("data:/m", 2, base="vol-1")
    assert machine.files(2) == {"x": b"x"}
    (machine.volume / "m/link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="link"):
        await machine.have("data:/m", 3, base="vol-1")
    (machine.volume / "out").symlink_to("/etc")
    for source, base in (("data:/out", "vol-1"), (str(machine.shared / "none"), None)):
        with pytest.raises(NotFound):
            await machine.have(source, 4, base=base)
    with pytest.raises(Invalid, match="shares"):
        await machine.have("/etc", 5)


async def test_what_breaks_off_goes_on_where_it_was(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    hub.breaks["model.safetensors"] = [10, 500, 0, 3]
    await machine.have("hf://org/tiny", endpoint=hub.base)
    assert machine.files()["model.safetensors"] == BIG
    assert hub.given["model.safetensors"] <= len(BIG) + 513


async def test_a_place_that_is_gone_leaves_what_was_fetched(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    hub.breaks["model.safetensors"] = [PART] * 3 + [0] * 30
    with pytest.raises(Unavailable):
        await machine.have("hf://org/tiny", endpoint=hub.base)
    hub.breaks.clear()
    before = hub.given["model.safetensors"]
    again = Machine(machine.folder)  # a new agent
    await again.have("hf://org/tiny", endpoint=hub.base)
    assert again.files()["model.safetensors"] == BIG
    assert hub.given["model.safetensors"] - before == len(BIG) - 3 * PART


async def test_a_place_without_ranges(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    hub.ranges = False
    hub.breaks["model.safetensors"] = [len(BIG)] * 4 + [100]
    await machine.have("hf://org/tiny", endpoint=hub.base)
    assert machine.files()["model.safetensors"] == BIG


async def test_what_arrives_damaged_is_fetched_again_and_not_for_ever(machine: Machine, places: Places) -> None:
    hub = await places.hub()
    hub.damage["model.safetensors"] = 1
    hub.damage["config.json"] = 1  # known by git's digest only
    await machine.have("hf://org/tiny", endpoint=hub.base)
    assert machine.files() == {"config.json": CONFIG, "model.safetensors": BIG, "empty.txt": b""}
    hub.files["config.json"] = b"[]"
    hub.damage["config.json"] = 9
    with pytest.raises(Failed, match=r"config\.json arrives .* damaged"):
        await machine.have("hf://org/tiny", 2, endpoint=hub.base)
    assert model_id(2) not in machine.store.models()


PULL = """
import asyncio, sys
from pathlib import Path
from tests.agent.models_world import Machine
machine = Machine(Path(sys.argv[1]))
asyncio.run(machine.have("hf://org/tiny", endpoint=sys.argv[2]))
"""


async def test_a_killed_agent_goes_on_where_it_was(tmp_path: Path, places: Places) -> None:
    hub = await places.hub()
    half = asyncio.Event()
    give = hub.give

    async def stalls(request: object, path: str, headers: dict[str, str] | None = None) -> object:
        if hub.given["model.safetensors"] >= 4 * PART:
            half.set()
            await asyncio.sleep(60)
        return await give(request, path, headers)  # pyright: ignore

    hub.give = stalls  # pyright: ignore
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PULL, str(tmp_path), hub.base)
    async with asyncio.timeout(60):
        await half.wait()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    hub.give = give
    before = hub.given["model.safetensors"]
    machine = Machine(tmp_path)
    await machine.have("hf://org/tiny", endpoint=hub.base)
    assert machine.files()["model.safetensors"] == BIG
    assert hub.given["model.safetensors"] - before < len(BIG)


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", "a//b", "a/./b", "", "a\nb", "a\\b", "d/" * 20 + "x", "x" * 300]
)
def test_a_name_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="no name for a file"):
        checked([Listed(path, 1, None, "1")], 1000)


def test_a_listing_has_limits() -> None:
    def listing(*files: tuple[str, int]) -> list[Listed]:
        return [Listed(path, size_bytes, None, path) for path, size_bytes in files]

    for files, error in (
        (listing(("a", 1), ("a/b", 1)), Invalid),
        (listing(("a", 1), ("a", 1)), Invalid),
        (listing(("a", -1)), Invalid),
        (listing(("a", 1001)), TooLarge),
        (listing(*((str(number), 0) for number in range(2001))), TooLarge),
        ([], NotFound),
    ):
        with pytest.raises(error):
            checked(files, 1000)
    kept = wanted(
        listing(("m.safetensors", 1), ("m.bin", 1), ("onnx/m.onnx", 1), (".gitattributes", 1), ("t.json", 1)), ""
    )
    assert [file.path for file in kept] == ["m.safetensors", "t.json"]
    assert [file.path for file in wanted(listing(("m.bin", 1), ("sub/x", 1)), "sub")] == ["sub/x"]


async def test_a_hostile_listing_writes_nothing(machine: Machine, places: Places) -> None:
    registry = await places.open(Registry())
    for title in ("../../../../tmp/owned", "/tmp/owned"):
        registry.manifests["m/x:1"] = {"layers": [registry.put(b"owned", "application/octet-stream", title)]}
        with pytest.raises(Invalid, match="no name for a file"):
            await machine.have("oci://127.0.0.1/m/x:1", endpoint=registry.base)
    layer = registry.put(b"owned", "application/octet-stream", "x")
    registry.manifests["m/x:1"] = {"layers": [{**layer, "digest": "sha256:../../x"}]}
    with pytest.raises(Failed, match="no sha256"):
        await machine.have("oci://127.0.0.1/m/x:1", endpoint=registry.base)
    registry.manifests["m/x:1"] = {"layers": [{**layer, "size": 10**15}]}
    with pytest.raises(TooLarge):
        await machine.have("oci://127.0.0.1/m/x:1", endpoint=registry.base)
    registry.manifests["m/x:1"] = {"layers": "nonsense"}
    with pytest.raises(Invalid, match="not understood"):
        await machine.have("oci://127.0.0.1/m/x:1", endpoint=registry.base)
    assert machine.left() == []


@pytest.mark.parametrize("there", ["ftp://x/y", "file:///etc/passwd", "http://example.com/x"])
async def test_redirects_lead_to_nothing_unsafe(machine: Machine, places: Places, there: str) -> None:
    hub = await places.hub()
    hub.elsewhere = there
    if there.startswith("http://example"):
        hub.elsewhere = hub.base + "/org/tiny/resolve/x/model.safetensors"  # to itself, without end
    with pytest.raises(Failed):
        await machine.have("hf://org/tiny", endpoint=hub.base)


async def test_no_room_is_told_before_a_byte_is_fetched(tmp_path: Path, places: Places) -> None:
    hub = await places.hub()
    machine = Machine(tmp_path)
    machine.cache._reserve_bytes = 1 << 60  # pyright: ignore
    with pytest.raises(NoRoom):
        await machine.have("hf://org/tiny", endpoint=hub.base)
    assert hub.given["model.safetensors"] == 0


async def test_a_new_agent_clears_what_is_half_done(tmp_path: Path, places: Places) -> None:
    hub = await places.hub()
    machine = Machine(tmp_path, fetch=FetchLimits(part_bytes=PART, pause_s=0.01))
    await machine.have("hf://org/tiny", endpoint=hub.base)
    models = tmp_path / "models"
    (models / "trees" / model_id(7)).mkdir()
    (models / "entries" / f"{model_id(8)}.json").write_text("{}")
    old = models / "unfinished" / "old"
    old.mkdir()
    os.utime(old, (0, 0))
    again = Machine(tmp_path)
    assert again.store.models() == [model_id(1)]
    assert sorted(path.name for path in (models / "trees").iterdir()) == [model_id(1)]
    assert not old.exists()
    with pytest.raises(NotFound):
        again.store.path(model_id(7))
    with pytest.raises(Invalid):
        again.store.path("../../etc")


def test_names_after_sources() -> None:
    for source, name in {
        "hf://Qwen/Qwen2.5-0.5B": "qwen2.5-0.5b",
        "hf://a/Model@v1": "model-v1",
        "hf://a/x-GGUF@main/*Q8_0*": "x-gguf-q8_0",
        "ollama://llama3.2:1b": "llama3.2-1b",
        "ollama://llama3.2": "llama3.2",
        "oci://r.example:5000/a/b:1": "b-1",
        "s3://bucket/models/Llama/": "llama",
        "/srv/models/x": "x",
        "data:/m/y": "y",
    }.items():
        assert default_name(source) == name
