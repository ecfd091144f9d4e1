"""`skerry package`: an environment's sandboxes as images, and a file that starts from them: a folder to take elsewhere.

Steps that ran once are in the images, and so is the record of them; the others go along with the files they need.
Secrets, volumes and host folders are in no image: the file names them, and they are wanted where it is brought up."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from skerry.client import flows
from skerry.client.calls import images, sandboxes
from skerry.client.transport import Transport
from skerry.client.unpack import unpack
from skerry.environment.kinds.contract import SIZES, Json, Scene
from skerry.environment.trees.local import LocalTree, real_place
from skerry.errors import AlreadyExists, Conflict, Invalid
from skerry.model.environment import Environment

FILE = "skerry.yaml"
IMAGES = "images"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
COMMIT_S_MAX = 1800.0
TAG = "package"

Say = Callable[[str], None]


def package(transport: Transport, scene: Scene, there: Mapping[str, Json], folder: Path, say: Say) -> Path:
    """`there`: the sandboxes to take, by key. The file that was written; a folder that was begun is taken away again
    if one of them fails. It is mostly made where sandboxes may write, so that no link is followed on the way."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise AlreadyExists(f"{folder} is there already; name another folder, or remove it") from None
    except OSError as error:
        raise Invalid(f"cannot make {folder}: {error.strerror}") from None
    try:
        root = os.open(folder, _FOLDER)
        try:
            return _filled(transport, scene, there, folder, root, say)
        finally:
            os.close(root)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Conflict(f"cannot write {folder}: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _filled(transport: Transport, scene: Scene, there: Mapping[str, Json], folder: Path, root: int, say: Say) -> Path:
    declared: dict[str, Json] = {}
    os.mkdir(IMAGES, dir_fd=root)
    images_folder = os.open(IMAGES, _FOLDER, dir_fd=root)
    try:
        for key, body in there.items():
            say(f"{key}: takes its disk")
            declared[key] = _image(transport, scene, key, body, images_folder)
    finally:
        os.close(images_folder)
    document = _document(scene, declared)
    for source in _files_of(document):
        take_along(scene.folder, source, folder)
    with suppress(FileNotFoundError):
        os.unlink(FILE, dir_fd=root)  # a step copies the whole folder
    with _new_file(FILE, root) as file:
        file.write(_text(document).encode())
    return folder / FILE


def _new_file(name: str, folder: int) -> IO[bytes]:
    """Disks hold secrets: for its owner alone."""
    return os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb")


def _image(transport: Transport, scene: Scene, key: str, body: Json, folder: int) -> Json:
    """What `images` of the new file says of one sandbox; the image that is made for it on the server goes again."""
    name = f"{scene.name}/{key}:{TAG}"
    made = transport.run(
        flows.settle(
            lambda wait_s: sandboxes.commit(body["id"], name, wait_s),
            lambda had: images.get(had["id"]),
            timeout_s=COMMIT_S_MAX,
        )
    )
    try:
        digest = hashlib.sha256()
        with transport.stream(images.export(made["id"])) as stream, _new_file(f"{key}.tar", folder) as file:
            for chunk in stream:
                digest.update(chunk)
                file.write(chunk)
    finally:
        transport.run(flows.settle(lambda wait_s: images.delete(made["id"], wait_s)))
    return {"archive": f"{IMAGES}/{key}.tar", "digest": f"sha256:{digest.hexdigest()}"}


def _document(scene: Scene, declared: Mapping[str, Json]) -> Json:
    """The file, of what was packaged alone, without what is so by default."""
    whole = Environment.model_validate(scene.declared)
    made: Json = whole.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    machines: dict[str, Json] = {}
    for key in declared:
        machine = made["sandboxes"][key]
        machine["image"] = key
        machine.pop("user_data", None)
        machine["provision"] = [step for step in machine.get("provision", ()) if step.get("when", "once") != "once"]
        machine["depends_on"] = {name: how for name, how in machine.get("depends_on", {}).items() if name in declared}
        machine = _readable(machine)
        machines[key] = {field: value for field, value in machine.items() if value not in ([], {})} | (
            {"folders": []} if machine.get("folders") == [] else {}
        )
    used = {name for machine in machines.values() for name in _names(machine)}
    kept = {
        section: {key: _readable(one) for key, one in made[section].items() if key in used}
        for section in ("networks", "volumes", "models", "secrets", "queues")
        if made.get(section)
    }
    return {"version": 1, "name": scene.name, "images": dict(declared), **kept, "sandboxes": machines}


def _readable(one: Json) -> Json:
    """Sizes as a person writes them, where that says the same."""
    return {field: _size(value) if field in SIZES else value for field, value in one.items()}


def _size(size_bytes: Any) -> Any:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB")):
        if isinstance(size_bytes, int) and size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return size_bytes


def _text(document: Json) -> str:
    dump: Any = yaml.safe_dump  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return dump(document, sort_keys=False, allow_unicode=True)


def _names(machine: Json) -> list[str]:
    """Networks, volumes, models, secrets and the queue that it uses."""
    named = [join["name"] for join in machine.get("networks", ())]
    named += [mount["volume"] for mount in machine.get("mounts", ()) if mount.get("volume")]
    named += [mount["model"] for mount in machine.get("mounts", ()) if mount.get("model")]
    named += [machine["queue"]] if machine.get("queue") else []
    return named + [use["name"] for use in machine.get("secrets", ())]


def _files_of(document: Json) -> list[str]:
    """What the steps that are left need of this machine."""
    found: list[str] = []
    for machine in document["sandboxes"].values():
        for step in machine.get("provision", ()):
            playbook: Any = step.get("ansible")
            copied: Any = step.get("copy")
            named = (step.get("script"), copied and copied["source"], playbook and playbook["playbook"])
            found += [source for source in named if source]
    return list(dict.fromkeys(found))


def take_along(base: Path, source: str, folder: Path) -> None:
    """What a step needs, to the same place in the package; pipes, sockets and the package itself are left out."""
    base = base.resolve()
    place = real_place(base, source)
    if not place.is_relative_to(base):
        raise Invalid(f"{source} lies outside the folder of the file, and so cannot go along; put it there first")
    own = folder.resolve()
    beside = own.relative_to(place).as_posix() if own.is_relative_to(place) else None
    with LocalTree(place) as tree:
        entries = [
            entry
            for name, entry in tree.scan().items()
            if beside is None or not (name == beside or name.startswith(f"{beside}/"))
        ]
        prefix = (PurePosixPath(folder.name) / place.relative_to(base).as_posix()).as_posix()
        unpack(tree.pack(entries, prefix=prefix, top=True), folder.parent, folder.name, all_links=True)
