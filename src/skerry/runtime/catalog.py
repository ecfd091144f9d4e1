"""Every runtime there is, by name, and how each is put together from the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from skerry.errors import Failed
from skerry.runtime.container.cgroups import detect
from skerry.runtime.container.crun import Crun
from skerry.runtime.container.launch import Launcher, Layout
from skerry.runtime.container.pool import Pool
from skerry.runtime.container.runtime import ContainerRuntime
from skerry.runtime.container.syscalls import umount, unshare_mount_namespace
from skerry.runtime.contract import Runtime
from skerry.settings import Settings

INIT_BINARY = Path("/usr/bin/catatonit")
UNIFIED = Path("/sys/fs/cgroup/unified")


def prepare_process() -> None:
    """At the very start of a program that will run sandboxes, before its first thread: mounts of ours are seen by
    nobody else and vanish with us."""
    try:
        unshare_mount_namespace()
    except PermissionError as error:
        raise Failed("only root can run sandboxes: run `sudo skerry serve`", because=str(error)) from None
    if os.path.ismount(UNIFIED):
        umount(UNIFIED, lazy=True)  # crun 1.8 does not run beside an empty hybrid hierarchy


def container(settings: Settings) -> Runtime:
    run_path = settings.run_path
    cgroups = detect(settings.instance)
    crun = Crun("/usr/bin/crun", run_path / "crun")
    layout = Layout(run_path)
    return ContainerRuntime(
        pool=Pool(
            pool_path=settings.pool_path,
            loop_file=settings.data_dir / "pool.img",
            mount_point=run_path / "pool",
            size_bytes=settings.pool_size,
            reserve_bytes=settings.pool_reserve,
        ),
        cgroups=cgroups,
        crun=crun,
        layout=layout,
        launcher=Launcher(crun=crun, layout=layout, init_binary=INIT_BINARY, cgroup_path=cgroups.path),
    )


CATALOG: dict[str, Callable[[Settings], Runtime]] = {
    "container": container,
}
DEFAULT = "container"


def make_runtime(settings: Settings, name: str = DEFAULT) -> Runtime:
    return CATALOG[name](settings)
