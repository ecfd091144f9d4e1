"""Folders beside the file that sandboxes get a copy of (a bind is a mount, and not our business). What others call:

    sync(transport, ref, member, machine, folder, report) -> [Synced]       rsync and snapshot
    watch(transport, ref, member, machine, folder, report, stop)            rsync, and on until `stop` is set

The arguments are those of `skerry.environment.provision`. A sandbox that sleeps is woken.
"""

from skerry.environment.folders.sync import Synced, sync
from skerry.environment.folders.watch import watch

__all__ = ["Synced", "sync", "watch"]
