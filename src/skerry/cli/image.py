"""`skerry image …`: fetch, build, send, list and remove what sandboxes start from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from skerry.cli import progress
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, image_argument, yes_option
from skerry.cli.output import Columns, age, human_size, is_terminal, local_time, part, parts
from skerry.cli.removing import delete_each
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.call import Call
from skerry.client.calls import images as calls
from skerry.errors import NotFound

_IN = "Commands"
_HERE = "skerry.cli.image:"
ENTRIES = {
    "pull": Entry(_HERE + "pull", "Fetch one from a registry, a folder or an archive.", _IN),
    "build": Entry(_HERE + "build", "Build one of Debian's packages.", _IN),
    "upload": Entry(_HERE + "upload", "Send an archive made elsewhere.", _IN),
    "list": Entry(_HERE + "list_images", "List images.", _IN),
    "inspect": Entry(_HERE + "inspect", "All that is known of an image.", _IN),
    "rm": Entry(_HERE + "remove", "Remove images.", _IN),
    "prune": Entry(_HERE + "prune", "Remove every image that nothing uses.", _IN),
    "export": Entry(_HERE + "export", "Write one to a file.", _IN),
    "load": Entry(_HERE + "upload", "Send an archive made elsewhere."),
    "delete": Entry(_HERE + "remove", "Remove images."),
    "ls": Entry(_HERE + "list_images", "List images."),
}
HABITS = {"tag": "skerry image pull SOURCE --name NAME", "save": "skerry image export", "import": "skerry image upload"}


@click.command("image", cls=LazyGroup, entries=ENTRIES, habits=HABITS)
def image() -> None:
    """Read-only disks that sandboxes start from; equal ones are kept once."""


@command("pull")
@click.option("--name", metavar="NAME", help="Call it this [its name in the registry, or of the file].")
@click.option("--insecure", is_flag=True, help="Allow plain HTTP, to a registry on this machine only.")
@click.argument("source", type=click.Path())
def pull(invocation: Invocation, source: str, name: str | None, insecure: bool) -> None:
    """Fetch an image.

    \b
      skerry image pull debian:12                                from Docker Hub
      skerry image pull docker://registry.example/team/app:1     from another registry
      skerry image pull oci:build/layout:latest                  a folder here
      skerry image pull docker-archive:app.tar --name app:1      what `docker save` wrote
    """
    from skerry.client.archive import read_source

    found = read_source(source, name)
    if found.data is not None:
        send(invocation, found.name, found.data)
    else:
        make(invocation, found.name, lambda: calls.pull(found.name, found.source, insecure=insecure))


@command("build")
@click.option("--recipe", required=True, metavar="debian:12|debian:13", help="What to build.")
@click.option("--include", multiple=True, metavar="PACKAGE,…", help="Packages besides the minimal set. Repeat.")
@click.argument("name")
def build(invocation: Invocation, name: str, recipe: str, include: tuple[str, ...]) -> None:
    """Build the image NAME of Debian's own packages, from this host's mirror."""
    packages = [package for item in include for package in item.split(",") if package]
    make(invocation, name, lambda: calls.build(name, recipe, packages))


@command("upload")
@click.option("--name", metavar="NAME", help="Call it this [after the file].")
@click.argument("file", type=click.Path())
def upload(invocation: Invocation, file: str, name: str | None) -> None:
    """Send FILE, a docker-archive or oci-archive tar (- for stdin), as an image."""
    from skerry.client.archive import file_chunks, read_source
    from skerry.client.pack import descriptor_chunks

    if file == "-":
        if not name:
            raise click.UsageError("stdin has no name of its own: give --name")
        send(invocation, name, descriptor_chunks(sys.stdin.fileno()))
        return
    path = Path(file)
    data = progress.counted(invocation, file_chunks(path), f"sending {path.name}", path.stat().st_size)
    send(invocation, name or read_source(f"oci-archive:{file}").name, data)


def send(invocation: Invocation, name: str, data: Iterable[bytes]) -> None:
    make(invocation, name, lambda: calls.upload(name, data))


def make(invocation: Invocation, name: str, request: Callable[[], Call[Any]]) -> None:
    """Ask for an image, show how it comes along, and take it back if we are interrupted."""
    body = invocation.ask(request())
    progress.watch_or_take_back(invocation, body, name, calls.delete, "nothing is left of it")
    body = invocation.ask(calls.get(body["id"]))
    size = f" ({human_size(body['size_bytes'])})" if body.get("size_bytes") else ""
    invocation.output.one(body, f"{body['name']} is {body['state']}{size}")


@command("list")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
def list_images(invocation: Invocation, name: str | None) -> None:
    """List images; two names of one content share its disk."""
    items = invocation.run(
        flows.gather(lambda token: calls.list_page(name=name, limit=flows.PAGE_ITEMS, page_token=token))
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "STATE": lambda item: item["state"],
        "DIGEST": lambda item: (item.get("digest") or "-").removeprefix("sha256:")[:12],
        "SIZE": lambda item: human_size(item.get("size_bytes")),
        "USERS": lambda item: item.get("users", 0),
        "AGE": lambda item: age(item["created_at"]),
    }
    invocation.output.many(items, columns)


@command("inspect")
@image_argument
def inspect(invocation: Invocation, image: str) -> None:
    """All that is known of IMAGE."""
    body = invocation.ask(calls.get(image))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    config = part(body, "config")
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": body["state"],
            "reason": body.get("reason"),
            "source": body["source"],
            "include": ", ".join(parts(body, "include")),
            "digest": body.get("digest"),
            "size": human_size(body.get("size_bytes")),
            "users": body.get("users"),
            "user": config.get("user"),
            "workdir": config.get("workdir"),
            "entrypoint": " ".join(parts(config, "entrypoint")),
            "command": " ".join(parts(config, "cmd")),
            "created": local_time(body["created_at"]),
        }
    )


@command("rm")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("images", nargs=-1, required=True, shell_complete=completing("image"))
def remove(invocation: Invocation, images: tuple[str, ...], yes: bool, force: bool) -> None:
    """Remove IMAGES; one that is in use is refused."""
    invocation.sought.extend(("image", name) for name in images)
    invocation.confirm(f"Remove {', '.join(images)}?", yes or force)
    delete_each(
        invocation,
        images,
        lambda ref: invocation.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s))),
        "removed",
    )


@command("prune")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
def prune(invocation: Invocation, yes: bool, force: bool) -> None:
    """Remove every image that no sandbox and no checkpoint uses."""
    invocation.confirm("Remove every image that nothing uses?", yes or force)
    items = invocation.ask(calls.prune())["items"]
    output = invocation.output
    if output.json:
        output.emit(items)
        return
    for item in items:
        output.line(item["id"] if output.quiet else f"{item['name']} removed")
    if not items:
        output.note("nothing to remove: every image is used")


@command("export")
@image_argument
@click.argument("file", type=click.Path())
def export(invocation: Invocation, image: str, file: str) -> None:
    """Write IMAGE to FILE (- for stdout) as an OCI archive, for `skerry image upload`, skopeo or podman load."""
    from skerry.client.archive import whole_file

    if file == "-" and is_terminal(sys.stdout):
        raise NotFound("- writes an archive to stdout, which is a terminal")
    size_bytes = 0
    with invocation.transport.stream(calls.export(image)) as stream:
        if file == "-":
            for chunk in stream:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        with whole_file(Path(file)) as target:
            for chunk in stream:
                size_bytes += target.write(chunk)
    invocation.output.one({"id": image, "file": file, "size_bytes": size_bytes}, f"{file}: {human_size(size_bytes)}")
