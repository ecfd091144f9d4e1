"""`skerry init`: a first skerry.yaml, small enough to be read whole."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.cli.output import Columns
from skerry.environment.project import FILE
from skerry.errors import AlreadyExists, Invalid, NotFound
from skerry.model.nearness import did_you_mean

_SCHEMA_LINE = "# yaml-language-server: $schema=http://127.0.0.1:7070/schema.json"
"""Editors with YAML support complete and check what follows by it, while a server runs on this machine."""
_FOLDER = "templates"
_ABOUT = {
    "minimal": "one sandbox",
    "web": "a web server with a port, a health check and a step that installs it",
    "cluster": "one server and two agents on a private network",
    "python": "a Python project: its folder at /workspace, its requirements installed",
}


def template(name: str) -> str:
    if name not in _ABOUT:
        hint = did_you_mean(name, _ABOUT) or f"; there are {', '.join(_ABOUT)}"
        raise NotFound(f"there is no template {name!r}{hint}")
    return (importlib.resources.files("skerry.environment") / _FOLDER / f"{name}.yaml").read_text()


@command("init")
@click.option("--force", is_flag=True, help=f"Overwrite the {FILE} that is there.")
@click.option("--list", "listing", is_flag=True, help="List the templates.")
@click.argument("name", metavar="[TEMPLATE]", default="minimal")
def init(invocation: Invocation, name: str, force: bool, listing: bool) -> None:
    """Write a skerry.yaml into this folder: TEMPLATE is minimal, web, cluster or python."""
    if listing:
        items = [{"name": each, "about": about} for each, about in _ABOUT.items()]
        columns: Columns = {"TEMPLATE": lambda item: item["name"], "ABOUT": lambda item: item["about"]}
        invocation.output.many(items, columns, name="name")
        return
    text = f"{_SCHEMA_LINE}\n{template(name)}"
    path = Path(FILE)
    if force:
        path.unlink(missing_ok=True)  # and not what a link of that name leads to
    try:
        with open(path, "x") as file:
            file.write(text)
    except FileExistsError:
        raise AlreadyExists(f"there is a {FILE} here already; --force overwrites it") from None
    except OSError as error:
        raise Invalid(f"cannot write {path.absolute()}: {error.strerror}") from None
    invocation.output.one({"file": str(path.absolute())}, f"wrote {FILE}; now: skerry up", "file")
