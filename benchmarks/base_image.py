"""One Debian tree for everybody who is measured: made once on this machine, as a plain tar and as an OCI archive."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path("/var/cache/skerry-bench")
NAME = "debian:12"


def tree(*packages: str) -> Path:
    """The root file system as a tar, for podman and the crun floor; `packages` are in it besides."""
    path = FOLDER / f"{'-'.join(['debian-12', *packages])}.tar"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        print("making the Debian 12 tree once (mmdebstrap, about a minute)", flush=True)
        unfinished = path.with_suffix(".unfinished.tar")
        include = [f"--include={','.join(packages)}"] if packages else []
        command = ["mmdebstrap", "--variant=minbase", *include, "--quiet", "bookworm", str(unfinished)]
        subprocess.run(command, check=True)
        os.rename(unfinished, path)
    return path


def archive(*packages: str) -> Path:
    """The same tree as an OCI archive, for `skerry image load`."""
    path = FOLDER / f"{'-'.join(['debian-12', *packages])}.oci.tar"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            layout = f"{folder}/layout"
            for command in (
                ["umoci", "init", "--layout", layout],
                ["umoci", "new", "--image", f"{layout}:latest"],
                ["umoci", "raw", "add-layer", "--image", f"{layout}:latest", str(tree(*packages))],
                ["tar", "-C", layout, "-cf", f"{folder}/archive.tar", "."],
            ):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            os.rename(f"{folder}/archive.tar", path)
    return path
