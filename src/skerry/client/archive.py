"""Where an image comes from, as users write it; local layouts and archives become the tar that is uploaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from skerry.client.pack import CHUNK_BYTES, pack
from skerry.errors import Invalid, NotFound

_REF_NAME = "org.opencontainers.image.ref.name"
_ARCHIVES = ("docker-archive:", "oci-archive:")


class ImageSource(NamedTuple):
    name: str
    source: str
    """docker://… ; "" where `data` is given."""
    data: Iterable[bytes] | None = None


def read_source(source: str, name: str | None = None) -> ImageSource:
    """docker://REF, REF, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or a FILE.tar -> what to ask for."""
    if source in ("oci:", *_ARCHIVES):
        raise _unknown(source)
    if source.startswith("oci:"):
        path, tag = _split_tag(source.removeprefix("oci:"))
        return ImageSource(name or _name_of(Path(path).resolve().name, tag), "", oci_layout(Path(path), tag))
    for prefix in _ARCHIVES:
        if source.startswith(prefix):
            path, tag = _split_tag(source.removeprefix(prefix))
            return ImageSource(name or _name_of(_stem(path), tag), "", file_chunks(Path(path)))
    if re.search(r"\.(tar|tgz|tar\.gz)$", source) and os.path.isfile(source):
        return ImageSource(name or _name_of(_stem(source)), "", file_chunks(Path(source)))
    ref = source.removeprefix("docker://")
    if "://" in ref or not ref:
        raise _unknown(source)
    return ImageSource(name or name_of_reference(ref), f"docker://{ref}")


def _unknown(source: str) -> Invalid:
    forms = "docker://REF, oci:DIR, oci-archive:FILE or docker-archive:FILE"
    return Invalid(f"{source!r}: expected {forms}", field="source")


def name_of_reference(ref: str) -> str:
    """registry.example:5000/team/tools:1 -> team/tools:1; library/debian:12 -> debian:12."""
    host, slash, rest = ref.partition("/")
    path = rest if slash and ("." in host or ":" in host or host == "localhost") else ref
    path = path.removeprefix("library/")
    if "@" in path:
        path = path.partition("@")[0]
    return path


def file_chunks(path: Path) -> Iterator[bytes]:
    """A file piece by piece; NotFound at once, not at the first piece."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
    return _chunks(file)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def oci_layout(path: Path, tag: str | None) -> Iterator[bytes]:
    """A folder with an OCI image layout as an oci-archive with the one image `tag` of it."""
    try:
        index: dict[str, Any] = json.loads((path / "index.json").read_text())
        manifests: list[dict[str, Any]] = index["manifests"]
    except OSError as error:
        raise NotFound(f"{path} is not an OCI image layout: index.json: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise NotFound(f"{path} is not an OCI image layout: its index.json lists no images") from None
    tags = [str(item.get("annotations", {}).get(_REF_NAME, "")) for item in manifests]
    if tag is None and len(manifests) == 1:
        return pack(path, "")
    if tag is None or tags.count(tag) != 1:
        raise Invalid(f"oci:{path}:TAG names one image of the layout; it has {', '.join(filter(None, tags)) or 'none'}")
    index["manifests"] = [manifests[tags.index(tag)]]
    return pack(path, "", replaced={"index.json": json.dumps(index).encode()})


@contextmanager
def whole_file(path: Path) -> Generator[IO[bytes]]:
    """A file that appears under its name only when it is whole."""
    if path.is_dir():
        raise Invalid(f"cannot write {path}: it is a folder")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = draft.open("xb")
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}") from None
    try:
        with file:
            yield file
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _split_tag(text: str) -> tuple[str, str | None]:
    """PATH[:TAG], where a path may have colons, and so may what follows it: app.tar:team/app:1."""
    ends = [*(found.start() for found in re.finditer(":", text)), len(text)]
    end = next((end for end in reversed(ends) if os.path.exists(text[:end])), len(text))
    return text[:end], text[end + 1 :] or None


def _stem(path: str) -> str:
    return re.sub(r"\.(tar\.gz|tgz|tar)$", "", os.path.basename(path))


def _name_of(text: str, tag: str | None = None) -> str:
    if tag and ":" in tag:
        return name_of_reference(tag)
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "image"
    return f"{name}:{tag}" if tag else name
