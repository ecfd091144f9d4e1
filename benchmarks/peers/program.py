"""The process of the peers: a mount namespace without the empty unified hierarchy, which confuses crun and podman."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from peers.crun_floor import CrunFloor
from peers.podman import Podman


def main(folder: str) -> None:
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.procs"):
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
    peers: dict[str, Any] = {"crun": CrunFloor(f"{folder}/crun"), "podman": Podman(f"{folder}/podman")}
    try:
        for line in sys.stdin:
            peer, call, given = json.loads(line)
            try:
                told = {"result": getattr(peers[peer], call)(*given)}
            except subprocess.CalledProcessError as error:
                told = {"error": f"{error}: {(error.stderr or b'').decode(errors='replace')[-500:]}"}
            except Exception as error:  # whatever it is belongs to the one who asked
                told = {"error": repr(error)}
            print(json.dumps(told), flush=True)
    finally:
        for peer in peers.values():
            peer.close()


if __name__ == "__main__":
    main(sys.argv[1])
