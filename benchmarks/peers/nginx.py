"""nginx as the peer that passes on TCP: one worker, its `stream` module, its usual buffers."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
READY_S_MAX = 10.0
CONFIG = """
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
stream {{
{servers}
}}
"""


class Nginx:
    """`with Nginx({8000: ("10.0.0.2", 80)}) as nginx:` passes `nginx.ports[8000]` of loopback on to that address."""

    def __init__(self, targets: dict[int, tuple[str, int]]) -> None:
        self.ports = {name: free_port() for name in targets}
        self._targets = targets

    def __enter__(self) -> Nginx:
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-nginx-", dir="/var/tmp"))
        servers = "\n".join(
            f"  server {{ listen 127.0.0.1:{self.ports[name]}; proxy_pass {host}:{port}; tcp_nodelay on; }}"
            for name, (host, port) in self._targets.items()
        )
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, folder=self.folder, servers=servers))
        self._process = subprocess.Popen(["nginx", "-c", str(config), "-p", str(self.folder)])
        deadline = time.monotonic() + READY_S_MAX
        while not all(accepts(port) for port in self.ports.values()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"nginx did not come up: {(self.folder / 'error.log').read_text()[-500:]}")
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def is_installed() -> bool:
    return MODULE.exists() and shutil.which("nginx") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
