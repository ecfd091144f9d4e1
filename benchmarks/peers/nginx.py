"""nginx as the peer that passes on TCP or HTTP: one worker, its `stream` and `http` modules, its usual buffers."""

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
http {{
access_log off;
keepalive_requests 1000000;
{http_servers}
}}
"""
HTTP_SERVER = """
  upstream at{name} {{ server {host}:{port}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{listen};
    location / {{
      proxy_pass http://at{name};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }}
  }}
"""
"""Kept connections on both sides, and no files on disk for what its buffers do not hold."""


class Nginx:
    """`with Nginx({8000: ("10.0.0.2", 80)}) as nginx:` passes `nginx.ports[8000]` of loopback on to that address; what
    is in `http`, as HTTP."""

    def __init__(self, targets: dict[int, tuple[str, int]], *, http: dict[int, tuple[str, int]] | None = None) -> None:
        self._targets, self._http = targets, http or {}
        self.ports = {name: free_port() for name in {**self._targets, **self._http}}

    def __enter__(self) -> Nginx:
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-nginx-", dir="/var/tmp"))
        servers = "\n".join(
            f"  server {{ listen 127.0.0.1:{self.ports[name]}; proxy_pass {host}:{port}; tcp_nodelay on; }}"
            for name, (host, port) in self._targets.items()
        )
        http_servers = "".join(
            HTTP_SERVER.format(name=name, host=host, port=port, listen=self.ports[name])
            for name, (host, port) in self._http.items()
        )
        config = self.folder / "nginx.conf"
        text = CONFIG.format(module=MODULE, folder=self.folder, servers=servers, http_servers=http_servers)
        config.write_text(text)
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
