"""`skerry export` and `import`: a sandbox with its checkpoints in a file, and out of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from skerry.cli import progress
from skerry.cli.invocation import Invocation
from skerry.cli.options import command, sandbox_argument
from skerry.cli.output import human_size, is_terminal
from skerry.client import flows
from skerry.client.calls import archives
from skerry.client.calls import sandboxes as calls
from skerry.errors import NotFound

DROPPED = ("ports", "mounts", "networks", "secrets")


@command("export")
@sandbox_argument
@click.argument("file", type=click.Path(), required=False)
def export(invocation: Invocation, sandbox: str, file: str | None) -> None:
    """Write SANDBOX with its checkpoints to FILE (- for stdout) [NAME.tar], as it is now; it goes on.

    \b
    It is an OCI archive: tar, skopeo and podman can look into it. `skerry import` makes the sandbox of it again, here
    or on another server. The variables of its env are in it, readable for whoever has the file.
    """
    from skerry.client.archive import whole_file

    file = file or f"{sandbox}.tar"
    if file == "-" and is_terminal(sys.stdout):
        raise NotFound("- writes an archive to stdout, which is a terminal")
    size_bytes = 0
    with invocation.transport.stream(archives.export(sandbox)) as stream:
        chunks = progress.counted(invocation, stream, f"receiving {sandbox}", stream.length_bytes)
        if file == "-":
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        with whole_file(Path(file)) as target:
            for chunk in chunks:
                size_bytes += target.write(chunk)
    invocation.output.one({"id": sandbox, "file": file, "size_bytes": size_bytes}, f"{file}: {human_size(size_bytes)}")


@command("import")
@click.option("--name", metavar="NAME", help="Call it this [what it was called].")
@click.option("--start/--no-start", default=None, help="Start it, or do not [as it was].")
@click.option(
    "--drop", multiple=True, type=click.Choice(DROPPED), help="Leave this behind where the server lacks it. Repeat."
)
@click.argument("file", type=click.Path())
def import_(invocation: Invocation, file: str, name: str | None, start: bool | None, drop: tuple[str, ...]) -> None:
    """Make the sandbox of FILE (- for stdin), which `skerry export` wrote, with its checkpoints."""
    from skerry.client.archive import file_chunks
    from skerry.client.pack import descriptor_chunks

    if file == "-":
        data = descriptor_chunks(sys.stdin.fileno())
    else:
        path = Path(file)
        data = progress.counted(invocation, file_chunks(path), f"sending {path.name}", path.stat().st_size)
    body = invocation.run(
        flows.settle(lambda _: archives.import_(data, name, start=start, drop=drop), lambda had: calls.get(had["id"]))
    )
    invocation.output.one(body, f"{body['name']} ({body['id']}) is {body['state']}")
