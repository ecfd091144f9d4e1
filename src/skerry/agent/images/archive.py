"""From an uploaded tar to a layout: OCI archives and layout folders are read here, Docker's by skopeo."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from skerry.agent.commands import CHUNK_BYTES, run
from skerry.agent.files.views import readable
from skerry.agent.images.layout import DOCUMENT_BYTES_MAX
from skerry.agent.images.progress import Progress, Step, watched
from skerry.agent.images.tool_errors import from_local
from skerry.agent.images.unpack import CHECK_BYTES
from skerry.agent.images.work import LAYOUT, TAG, Job
from skerry.errors import Invalid, TooLarge

MEMBERS_MAX = 20_000
LONG_NAME_BYTES_MAX = 64 * 1024
POLL_S = 0.2
_BLOCK = 512
_BLOB = re.compile(r"^blobs/sha256/([0-9a-f]{64})$")
_LAYOUT_FILE = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_PAX_PATH = re.compile(rb"(?:^|\n)\d+ path=([^\n]*)\n")
_PAX_SIZE = re.compile(rb"(?:^|\n)\d+ size=(\d{1,18})\n")


@dataclass(frozen=True)
class Member:
    name: str
    offset_bytes: int
    size_bytes: int


async def to_layout(archive: Path, job: Job, progress: Progress) -> str:
    """Fill the job's layout from `archive`, which is used up; the digest of the manifest for this machine."""
    plain = await _gunzip(archive, job, progress)
    with plain.open("rb") as file:
        members = await asyncio.to_thread(lambda: {one.name: one for one in members_of(file)})
        # Both forms at once is what newer Docker writes; the OCI one keeps the image's own digest.
        index = _shallowest(members, "index.json")
        if index is not None:
            prefix = index.name.removesuffix("index.json")
            await extract(file, members, prefix, job, progress)
        elif "manifest.json" not in members:
            raise Invalid(f"this tar holds no image; {Form.IMAGE.value}")
    if index is None:
        await _from_docker(plain, job, progress)
    plain.unlink()
    digest = job.layout.find("the archive")
    return digest if index is not None else job.layout.relabel(digest)


class Form(Enum):
    """What a tar may be, in the words for one that is not."""

    IMAGE = "expected a tar of `docker save`, `podman save`, `skopeo copy` or an OCI layout folder, plain or gzip"
    """Whatever else is there is passed over."""
    SANDBOX = "expected an archive that `skerry export` wrote"
    """The files of a layout and their folders, and nothing else."""


def members_of(file: BinaryIO, form: Form = Form.IMAGE) -> Iterator[Member]:
    """Regular files of a tar. Written here since tarfile reads extended headers of any size into memory."""
    end_bytes = file.seek(0, 2)
    position, name, size = 0, None, None
    for count in range(MEMBERS_MAX * 2):
        file.seek(position)
        block = file.read(_BLOCK)
        if count and (len(block) < _BLOCK or not any(block)):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise Invalid("the archive is damaged" if count else form.value) from None
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if info.size > LONG_NAME_BYTES_MAX:
                raise Invalid("the archive has a header of senseless size")
            extra = file.read(info.size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                name = extra.rstrip(b"\0").decode(errors="surrogateescape")
            else:
                path, length = _PAX_PATH.search(extra), _PAX_SIZE.search(extra)
                name = path.group(1).decode(errors="surrogateescape") if path else name
                size = int(length.group(1)) if length else size
            position += _BLOCK + _padded(info.size)
            continue
        size_bytes = info.size if size is None else size
        position += _BLOCK + _padded(size_bytes)
        if size_bytes < 0 or position > end_bytes:
            raise Invalid("the archive ends too early")
        told = (name or info.name).removeprefix("./")
        if form is Form.SANDBOX and not (_LAYOUT_FILE.fullmatch(told) if info.isreg() else info.isdir()):
            raise Invalid(f"the archive holds {readable(told)[:100]!r}; {form.value}")
        if info.isreg():
            yield Member(told, position - _padded(size_bytes), size_bytes)
        name = size = None
    raise TooLarge(f"the archive has more than {MEMBERS_MAX} members")


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK


def _shallowest(members: dict[str, Member], name: str) -> Member | None:
    """At the top, or in the one folder that a tar of a layout folder begins with."""
    for path in sorted(members, key=lambda path: path.count("/")):
        if path.count("/") > 1:
            break
        if path.rpartition("/")[2] == name and path.removesuffix(name) + "oci-layout" in members:
            return members[path]
    return None


async def extract(file: BinaryIO, members: dict[str, Member], prefix: str, job: Job, progress: Progress) -> None:
    """index.json and the blobs, each checked against the digest it is named by; nothing else gets out of the tar."""
    job.layout.create()
    index = members[prefix + "index.json"]
    if index.size_bytes > DOCUMENT_BYTES_MAX:
        raise TooLarge("the archive's index.json is larger than an index may be")
    file.seek(index.offset_bytes)
    (job.layout.folder / "index.json").write_bytes(file.read(index.size_bytes))
    blobs = [(f"sha256:{found.group(1)}", one) for name, one in members.items() if (found := _blob(name, prefix))]
    total_bytes, done_bytes = sum(one.size_bytes for _, one in blobs), 0
    job.expect(total_bytes)
    for digest, one in blobs:
        await asyncio.to_thread(_copy, file, one, job.layout.blob_path(digest), digest)
        done_bytes += one.size_bytes
        progress(Step.DOWNLOAD, done_bytes, total_bytes)


def _blob(name: str, prefix: str) -> re.Match[str] | None:
    return _BLOB.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None


def _copy(file: BinaryIO, member: Member, target: Path, digest: str) -> None:
    seen = hashlib.sha256()
    file.seek(member.offset_bytes)
    left_bytes = member.size_bytes
    with target.open("wb") as copy:
        while left_bytes and (chunk := file.read(min(left_bytes, CHUNK_BYTES))):
            seen.update(chunk)
            copy.write(chunk)
            left_bytes -= len(chunk)
    if f"sha256:{seen.hexdigest()}" != digest:
        raise Invalid(f"the archive is damaged: blob {digest} has other content")


async def _gunzip(archive: Path, job: Job, progress: Progress) -> Path:
    with archive.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return archive
    plain = archive.with_name("archive.tar")
    done_bytes = unchecked_bytes = 0
    try:
        with gzip.open(archive) as packed, plain.open("wb") as copy:
            while chunk := await asyncio.to_thread(packed.read, CHUNK_BYTES):
                await asyncio.to_thread(copy.write, chunk)
                done_bytes += len(chunk)
                unchecked_bytes += len(chunk)
                if unchecked_bytes > CHECK_BYTES:
                    unchecked_bytes = 0
                    await job.check()
                    progress(Step.DOWNLOAD, done_bytes, None)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Invalid("the archive's gzip stream is damaged", because=str(error)) from None
    archive.unlink()
    return plain


async def _from_docker(archive: Path, job: Job, progress: Progress) -> None:
    total_bytes = archive.stat().st_size
    job.expect(2 * total_bytes)

    async def look() -> None:
        progress(Step.DOWNLOAD, min(max(0, await job.check() - total_bytes), total_bytes), total_bytes)

    source, target = f"docker-archive:{archive.name}", f"oci:{LAYOUT}:{TAG}"
    command = ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", source, target]
    ran = await watched(run(command, environment=job.environment, folder=job.folder), look, POLL_S)
    if ran.code != 0:
        raise from_local(ran.stderr, "skopeo cannot read the archive")
