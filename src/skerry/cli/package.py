"""`skerry package`: an environment as a folder that can be taken elsewhere and brought up there."""

from __future__ import annotations

from pathlib import Path

import click

from skerry.cli.environment import chosen, open_here, read_actual, relative
from skerry.cli.file_options import file_options, names_argument
from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.environment.package import package as make
from skerry.errors import NotFound


@command("package")
@click.option(
    "--output",
    "-o",
    type=click.Path(),
    metavar="FOLDER",
    help="Write it there [ENVIRONMENT-package, beside the file's folder].",
)
@file_options
@names_argument
def package(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    output: str | None,
) -> None:
    """Write a folder with an image of each sandbox and a skerry.yaml that starts from them.

    Take it to another machine and run `skerry up` in it. Secrets and volumes are named there, and not contained.
    """
    opened = open_here(invocation, files, profiles, names)
    found = dict(chosen(opened, read_actual(invocation, opened.scene.name), names))
    if not found:
        raise NotFound(f"nothing of {opened.scene.name} is there to be packaged; run `skerry up` first")
    # Not in the folder of the file: its sandboxes, who mostly see that one, have no business in each other's disks.
    folder = Path(output) if output else opened.scene.folder.parent / f"{opened.scene.name}-package"
    path = make(invocation.transport, opened.scene, found, folder, invocation.output.note)
    told = {"file": str(path.absolute()), "sandboxes": list(found)}
    count = f"{len(found)} image{'' if len(found) == 1 else 's'}"
    invocation.output.one(told, f"wrote {relative(path.absolute())} and {count}", "file")
