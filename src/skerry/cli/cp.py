"""`skerry cp`: files and trees in and out of a sandbox, by the rules of `docker cp`; `-` is a tar stream."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, completing_path_or_box
from skerry.cli.output import human_size, is_terminal, plain
from skerry.client.calls import files as calls
from skerry.client.calls import sandboxes
from skerry.errors import Invalid

SKIPPED_TOLD_MAX = 5


def place(text: str) -> tuple[str | None, str]:
    """BOX:/PATH -> (BOX, /PATH); anything else is a path here. A path with a colon is written ./a:b."""
    found = re.match(r"([A-Za-z0-9][A-Za-z0-9_-]*):(.*)$", text, re.DOTALL)
    if text == "-" or not found:
        return None, text
    path = found[2]
    return found[1], path if path.startswith("/") else f"/{path}"


@command("cp")
@click.option("--follow-link", "-L", is_flag=True, help="Copy what a link given as SOURCE points to.")
@click.option("--all-links", is_flag=True, help="Keep links that point out of the copied tree.")
@click.argument("source", shell_complete=completing_path_or_box)
@click.argument("target", shell_complete=completing_path_or_box)
def cp(invocation: Invocation, source: str, target: str, follow_link: bool, all_links: bool) -> None:
    """Copy SOURCE to TARGET; one of them is BOX:/PATH. `-` is a tar archive on stdin or stdout.

    \b
      skerry cp site/ web:/srv/           the folder, as /srv/site
      skerry cp site/. web:/srv/site      its content
      skerry cp web:/var/log/app.log .    a file, here
      tar c src | skerry cp - web:/work   a stream
    """
    from_box, from_path = place(source)
    to_box, to_path = place(target)
    if (from_box is None) == (to_box is None):
        raise click.UsageError("one of SOURCE and TARGET is BOX:/PATH, the other a path here or -")
    if to_box is not None:
        to_box = invocation.members.get(to_box, to_box)
        invocation.sought.append(("sandbox", to_box))
        upload(invocation, from_path, to_box, to_path, follow_link)
    elif from_box is not None:
        from_box = invocation.members.get(from_box, from_box)
        invocation.sought.append(("sandbox", from_box))
        download(invocation, from_box, from_path, to_path, follow_link, all_links)


def upload(invocation: Invocation, local: str, box: str, remote: str, follow_link: bool) -> None:
    from skerry.client import copying
    from skerry.client.pack import descriptor_chunks

    base = sandboxes.path(box)
    if local == "-":
        if is_terminal(sys.stdin):
            raise Invalid("- reads a tar archive from stdin, which is a terminal")
        folder, data = remote.rstrip("/") or "/", descriptor_chunks(sys.stdin.fileno())
    else:
        plan = copying.plan_upload(local, remote, invocation.run(copying.remote_kind(base, remote)))
        folder = plan.folder
        data = copying.pack(Path(local), plan.name, follow=follow_link, on_skip=invocation.output.note)
    answer = invocation.ask(calls.write_archive(base, folder, data))
    if invocation.output.json:
        invocation.output.emit(answer)
    elif is_terminal(sys.stdout):
        invocation.output.note(f"{_files(answer['files'])}, {human_size(answer['bytes'])}, copied to {box}:{remote}")


def download(invocation: Invocation, box: str, remote: str, local: str, follow_link: bool, all_links: bool) -> None:
    from skerry.client import copying

    base = sandboxes.path(box)
    if follow_link:
        remote = invocation.run(copying.followed(base, copying.archive_path(remote)))
    if local == "-":
        if is_terminal(sys.stdout):
            raise Invalid("- writes a tar archive to stdout, which is a terminal")
        with invocation.transport.stream(calls.read_archive(base, copying.archive_path(remote))) as stream:
            for chunk in stream:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    folder, name = copying.download_place(local, remote)
    skipped: list[str] = []
    with invocation.transport.stream(calls.read_archive(base, copying.archive_path(remote))) as stream:
        done = copying.unpack(stream, folder, name, all_links=all_links, on_skip=skipped.append)
    _tell_skipped(invocation, skipped)
    if skipped and not done.files and not (folder / name).is_dir():
        raise Invalid(f"nothing was copied; -L copies what {remote} points to, --all-links the link itself")
    if invocation.output.json:
        invocation.output.emit({"files": done.files, "bytes": done.size_bytes})
    elif is_terminal(sys.stdout):
        invocation.output.note(f"{_files(done.files)}, {human_size(done.size_bytes)}, copied to {folder / name}")


def _tell_skipped(invocation: Invocation, skipped: list[str]) -> None:
    for text in skipped[:SKIPPED_TOLD_MAX]:
        invocation.output.note(plain(text))
    if len(skipped) > SKIPPED_TOLD_MAX:
        invocation.output.note(f"and {len(skipped) - SKIPPED_TOLD_MAX} more; --all-links keeps links")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
