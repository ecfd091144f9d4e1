"""Pulling from a real registry: the right files, one download for many, the right error, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.agent.images.progress import Step
from skerry.agent.images.store import ImageLimits
from skerry.errors import Invalid, NotFound, TooLarge, Unavailable
from tests.agent.images_machine import (
    FolderRuntime,
    LocalRegistry,
    Told,
    entry,
    local_registry,
    make_store,
    nothing_left,
    small_rootfs,
    tar_of,
    until,
    write_layout,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with local_registry(tmp_path_factory.mktemp("registry")) as one:
        yield one


@pytest.fixture
def runtime(tmp_path: Path) -> FolderRuntime:
    return FolderRuntime(tmp_path / "pool")


def test_pull_has_files_owners_and_config(registry: LocalRegistry, runtime: FolderRuntime, tmp_path: Path) -> None:
    upper = tar_of(entry("./etc/.wh.hostname"), entry("./etc/new", b"new"))
    digest = write_layout(tmp_path / "layout", [small_rootfs(), upper])
    registry.push(tmp_path / "layout", "team/box:1")
    told = Told()

    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        made = await store.pull("im-1", f"docker://{registry.host}/team/box:1", True, told)
        assert made.digest == digest
        assert store.config_of(digest).env == {"PATH": "/bin", "EMPTY": "", "TWO": "a=b"}
        assert (made.config.workdir, made.config.user) == ("/srv", "1000:1000")
        assert (made.config.entrypoint, made.config.cmd) == (["/bin/su"], ["-x"])
        again = make_store(tmp_path / "data", runtime)
        await again.open()
        assert again.images() == [made]

    asyncio.run(pull())
    tree = runtime.image_path(digest)
    assert not (tree / "etc/hostname").exists()
    assert (tree / "etc/new").read_text() == "new"
    mine = (tree / "home/me/file").stat()
    assert (mine.st_uid, mine.st_gid) == (1000, 65535)
    assert os.getxattr(tree / "home/me/file", "user.colour") == b"red"
    assert (tree / "bin/su").stat().st_mode & 0o7777 == 0o4755
    assert (tree / "bin/su").stat().st_ino == (tree / "bin/su2").stat().st_ino
    assert (tree / "etc/shadow").stat().st_gid == 42
    assert (tree / "dev/null").is_char_device()
    assert told.steps() == [Step.RESOLVE, Step.DOWNLOAD, Step.UNPACK, Step.IMPORT]
    download = [line for line in told.lines if line[0] is Step.DOWNLOAD]
    assert download[-1][1] == download[-1][2]
    assert nothing_left(tmp_path / "data", runtime)


def test_a_docker_manifest_keeps_the_digest_the_registry_shows(
    registry: LocalRegistry, runtime: FolderRuntime, tmp_path: Path
) -> None:
    write_layout(tmp_path / "layout", [small_rootfs()])
    digest_file = tmp_path / "digest"
    registry.push(tmp_path / "layout", "docker:1", "--format=v2s2", f"--digestfile={digest_file}")
    digest = digest_file.read_text()

    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        by_tag = await store.pull("im-1", f"docker://{registry.host}/docker:1", True, Told())
        by_digest = await store.pull("im-2", f"docker://{registry.host}/docker@{digest}", True, Told())
        assert by_tag == by_digest
        assert by_tag.digest == digest

    asyncio.run(pull())
    assert runtime.unpacked == 1


def test_concurrent_pulls_share_one_unpack(registry: LocalRegistry, runtime: FolderRuntime, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", [small_rootfs()])
    registry.push(tmp_path / "layout", "same:1")
    registry.push(tmp_path / "layout", "same:2")

    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        sources = [f"docker://{registry.host}/same:{tag}" for tag in (1, 2, 1)]
        made = await asyncio.gather(*(store.pull(f"im-{n}", one, True, Told()) for n, one in enumerate(sources)))
        assert len({one.digest for one in made}) == 1

    asyncio.run(pull())
    assert runtime.unpacked == 1
    assert nothing_left(tmp_path / "data", runtime)


@pytest.mark.parametrize(
    ("source", "insecure", "kind", "words"),
    [
        ("{host}/nosuch:1", True, NotFound, "there is no image nosuch:1 at registry {host}"),
        ("localhost:1/box:1", True, Unavailable, "registry localhost:1 cannot be reached"),
        ("{host}/box:1", False, Invalid, "plain HTTP"),
        ("registry.example/box:1", True, Invalid, "not to registry.example"),
        ("user:secret@{host}/box:1", True, Invalid, "expected docker://"),
    ],
)
def test_errors_say_what_is_wrong(
    registry: LocalRegistry,
    runtime: FolderRuntime,
    tmp_path: Path,
    source: str,
    insecure: bool,
    kind: type[Exception],
    words: str,
) -> None:
    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        with pytest.raises(kind) as caught:
            await store.pull("im-1", "docker://" + source.format(host=registry.host), insecure, Told())
        assert words.format(host=registry.host) in str(caught.value)
        assert "secret" not in str(caught.value)
        assert store.images() == []

    asyncio.run(pull())
    assert nothing_left(tmp_path / "data", runtime)


def test_cancelled_pull_leaves_nothing_while_another_goes_on(
    registry: LocalRegistry, runtime: FolderRuntime, tmp_path: Path
) -> None:
    write_layout(tmp_path / "layout", [tar_of(entry("./big", os.urandom(24 * 1024 * 1024)))])
    registry.push(tmp_path / "layout", "big:1")
    source = f"docker://{registry.host}/big:1"

    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        one, two = (asyncio.create_task(store.pull(name, source, True, told)) for name, told in tellers.items())
        await until(lambda: Step.DOWNLOAD in tellers["im-2"].steps())
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert (await two).size_bytes == 24 * 1024 * 1024
        await store.delete((await two).digest)

        alone = Told()
        three = asyncio.create_task(store.pull("im-3", source, True, alone))
        await until(lambda: Step.DOWNLOAD in alone.steps())
        three.cancel()
        with pytest.raises(asyncio.CancelledError):
            await three
        assert store.images() == []

    tellers = {"im-1": Told(), "im-2": Told()}
    asyncio.run(pull())
    assert nothing_left(tmp_path / "data", runtime)
    assert list((runtime.root / "images").iterdir()) == []
    assert not _processes_with(str(tmp_path))


def test_image_larger_than_the_work_folder_is_refused(
    registry: LocalRegistry, runtime: FolderRuntime, tmp_path: Path
) -> None:
    write_layout(tmp_path / "layout", [tar_of(entry("./big", os.urandom(2 * 1024 * 1024)))])
    registry.push(tmp_path / "layout", "large:1")

    async def pull() -> None:
        store = make_store(tmp_path / "data", runtime, limits=ImageLimits(work_bytes_max=1024 * 1024))
        await store.open()
        with pytest.raises(TooLarge):
            await store.pull("im-1", f"docker://{registry.host}/large:1", True, Told())

    asyncio.run(pull())
    assert nothing_left(tmp_path / "data", runtime)


def test_login_needed_is_told_as_such(runtime: FolderRuntime, tmp_path: Path) -> None:
    class Closed(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n")

    async def pull(port: int) -> None:
        store = make_store(tmp_path / "data", runtime)
        await store.open()
        with pytest.raises(Exception, match=f"skopeo login localhost:{port}"):
            await store.pull("im-1", f"docker://localhost:{port}/box:1", True, Told())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(pull(server.server_address[1]))
        server.shutdown()


def _processes_with(words: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(path.with_name("cwd"))
        except OSError:
            continue
        if line.startswith(("skopeo", "umoci", "mmdebstrap", "unshare")) and words in line + folder:
            found.append(line)
    return found
