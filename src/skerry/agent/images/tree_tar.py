"""A tree of files as one tar stream that depends on the files alone: sorted, numeric owners, no access times."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from skerry.agent.commands import running
from skerry.errors import Failed

# tar puts its pid in the names of extended headers unless told otherwise. Whole seconds as Docker's layers have: with
# fractions, every single file would need an extended header of 1 KiB.
_PAX = "exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime"
_TAR = (
    *("tar", "--create", "--file=-", "--format=posix", f"--pax-option={_PAX}", "--sort=name", "--numeric-owner"),
    *("--xattrs", "--xattrs-include=*", "--xattrs-exclude=btrfs.*", "--no-wildcards-match-slash", "--anchored"),
)


async def tar_of_tree(
    tree: Path, environment: Mapping[str, str], exclude: Sequence[str] = ()
) -> AsyncGenerator[bytes, None]:
    """Hard links, extended attributes and device nodes included; sockets are left out, as in every image."""
    command = [*_TAR, *(f"--exclude=./{pattern}" for pattern in exclude), f"--directory={tree}", "."]
    async with running(command, environment=environment) as program:
        async for chunk in program.chunks():
            yield chunk
        code, stderr = await program.wait()
    if code != 0:
        raise Failed("the image's files cannot be read", because=stderr)
