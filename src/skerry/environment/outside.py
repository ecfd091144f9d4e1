"""Places of this machine that a file names outside its own folder: used only after a person has said so.

The folder of the file is mostly bound into its sandboxes, who may then write the file itself. Whoever runs `skerry up`
next must not hand over `/root/.ssh` because a guest has written it into skerry.yaml."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from skerry.client import shares
from skerry.client.target import Target
from skerry.environment.kinds.contract import Json, Scene
from skerry.environment.reading import place_of
from skerry.errors import SkerryError


def named(scene: Scene) -> Iterator[str]:
    """Every place of this machine that the file names, as a real path."""
    sources = [image["archive"] for image in scene.section("images").values() if image["archive"]]
    for machine in scene.section("sandboxes").values():
        sources += _sources(machine)
    for job in scene.section("jobs").values():
        sources += [job["folder"]] if job["folder"] else []
        sources += [mount["source"] for mount in job["mounts"] if mount.get("source")]
    for service in scene.section("services").values():
        sources += [service["folder"]] if service["folder"] else []
        sources += [mount["source"] for mount in service["mounts"] if mount.get("source")]
    for source in sources:
        yield os.path.realpath(place_of(scene.folder, source))


def _sources(machine: Json) -> Iterator[str]:
    yield from (folder["source"] for folder in machine["folders"])
    yield from (mount["source"] for mount in machine["mounts"] if mount.get("source"))
    for step in machine["provision"]:
        if step["script"]:
            yield step["script"]
        if step["copy"]:
            yield step["copy"]["source"]
        if step["ansible"]:
            yield step["ansible"]["playbook"]


def outside(scene: Scene, read: Collection[str] = (), given: Collection[str] = ()) -> list[str]:
    """Those that are not in the folder of the file, each once; so too of the files it was `read` from, by real paths:
    their texts become variables of sandboxes. `given`: those that a person has named, not counting where they lead."""
    folder = scene.folder.resolve()
    meant = {os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in given}
    files = [path for path in read if path not in meant]
    return [path for path in dict.fromkeys([*files, *named(scene)]) if not Path(path).is_relative_to(folder)]


def share_binds(scene: Scene, target: Target, allowed: list[str]) -> None:
    """Let sandboxes mount the folders that the file binds, where the server is this machine's and we may say so.
    Where not, the server itself refuses them, with what to do."""
    if target.unix_path is None:
        return
    folder = scene.folder.resolve()
    sources = [
        bind["source"]
        for machine in scene.section("sandboxes").values()
        for bind in machine["folders"]
        if bind["sync"] == "bind"
    ]
    for section in ("jobs", "services"):
        sources += [each["folder"] for each in scene.section(section).values() if each["folder"]]
    wanted = {Path(os.path.realpath(scene.folder / source)) for source in sources}
    for path in sorted(wanted):
        if path.is_relative_to(folder) or str(path) in allowed:
            try:
                shares.add(folder if path.is_relative_to(folder) else path)
            except SkerryError:
                return
