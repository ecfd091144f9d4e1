"""Gateways in front of mock backends: ours, nginx, and LLM routers from PyPI in virtual environments of their own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers.mock_openai import MODEL
from peers.nginx import accepts, free_port
from skerry.model.service import EngineName, PolicyName, Routing, ServiceState
from skerry.model.traffic import RouteReplica, ServiceRoute
from skerry.settings import Settings

PEERS = Path(__file__).parent
VENVS = Path("/var/tmp/skerry-bench-peers")
READY_S_MAX = 60.0
INSTALL_S_MAX = 600.0
KEY = "sk_" + "a" * 64
LITELLM_ENV = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
"""Quiet, without a download, and without keys of its own, which would need a database."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A peer that cannot be had here; the text says why."""


class Program:
    """One process of a gateway, with what belongs to it."""

    def __init__(self, name: str, command: Sequence[str], port: int, env: dict[str, str] | None = None) -> None:
        self.name, self.port = name, port
        self.folder = Path(tempfile.mkdtemp(prefix=f"skerry-{name}-", dir="/var/tmp"))
        self._log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            list(command),
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            cwd=self.folder,
        )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not accepts(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text()[-600:]
                self.stop()
                raise Missing(f"{self.name} did not come up: {log}")
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """Of the process and its children, in user space and in the kernel."""
        return sum(cpu_s_of(pid) for pid in (self.process.pid, *below(self.process.pid)))

    def memory_mib(self) -> float:
        found = 0
        for pid in (self.process.pid, *below(self.process.pid)):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    found += int(line.split()[1])
        return found / 1024

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def below(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *below(child))]


def cpu_s_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def mock(**paces: float) -> Program:
    port = free_port()
    flags = [text for name, value in paces.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    program = Program("mock", [sys.executable, str(PEERS / "mock_openai.py"), str(port), *flags], port)
    program.wait_ready()
    return program


def ours(backends: Sequence[int], engine: EngineName = EngineName.COMMAND) -> Program:
    """The gateway as it is served, told of one service with a control that answers from files."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="skerry-gw-", dir="/var/tmp"))
    settings = Settings(data_dir=folder, run_dir=folder, url_listen=f"127.0.0.1:{port}", log_level="warning")
    route = ServiceRoute(
        id="sv-mock",
        name=MODEL,
        project="default",
        state=ServiceState.ACTIVE,
        engine=engine,
        models=[MODEL],
        public=False,
        routing=Routing(policy=PolicyName.AUTO),
        replicas=[
            RouteReplica(id=f"sb-{at}", url=f"http://127.0.0.1:{backend}") for at, backend in enumerate(backends)
        ],
    )
    (folder / "route.json").write_text(route.model_dump_json())
    control = Program("control", [sys.executable, str(PEERS / "mock_control.py"), str(folder), KEY], 0)
    program = Program(
        "ours",
        [sys.executable, "-m", "skerry.serve.launch", "gateway", str(os.getpid())],
        port,
        {"SKERRY_SETTINGS_JSON": settings.model_dump_json()},
    )
    stop = program.stop

    def both() -> None:
        stop()
        control.stop()
        shutil.rmtree(folder, ignore_errors=True)

    program.stop = both
    program.wait_ready()
    _wait_told(port)
    return program


def _wait_told(port: int) -> None:
    """Until control has told it of the service and of the key."""
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S_MAX)
        connection.request("GET", f"/v1/models/{MODEL}", headers={"Authorization": f"Bearer {KEY}"})
        if connection.getresponse().status == 200:
            return
        time.sleep(0.05)
    raise SystemExit("the gateway was told of nothing")


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  upstream backends {{ {servers} keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://backends; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      client_body_buffer_size 1m;
    }}
  }}
}}
"""
"""No buffering of answers, as a stream needs it, and kept connections on both sides."""


def nginx(backends: Sequence[int]) -> Program:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise Missing("nginx is not installed: apt-get install -y nginx-light")
    port = free_port()
    folder = tempfile.mkdtemp(prefix="skerry-nginx-", dir="/var/tmp")
    servers = " ".join(f"server 127.0.0.1:{backend};" for backend in backends)
    config = Path(folder) / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, servers=servers, port=port))
    program = Program("nginx", [found, "-c", str(config), "-p", folder], port)
    stop = program.stop

    def both() -> None:
        stop()
        shutil.rmtree(folder, ignore_errors=True)

    program.stop = both
    program.wait_ready()
    return program


def venv_of(package: str, *requirements: str) -> Path:
    """Made once and kept for the next run. Raises Missing."""
    folder = VENVS / package
    if (folder / "installed").exists():
        return folder
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        subprocess.run(
            [str(folder / "bin/pip"), "-q", "install", *(requirements or (package,))],
            check=True,
            capture_output=True,
            timeout=INSTALL_S_MAX,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(f"{package} cannot be installed from PyPI here: {error}") from None
    (folder / "installed").touch()
    return folder


def sglang_router(backends: Sequence[int]) -> Program:
    return _rust_router("sglang-router", "sglang_router.launch_router", backends)


def vllm_router(backends: Sequence[int]) -> Program:
    return _rust_router("vllm-router", "vllm_router.launch_router", backends)


def smg(backends: Sequence[int]) -> Program:
    return _rust_router("smg", "smg.launch_router", backends)


def _rust_router(package: str, module: str, backends: Sequence[int]) -> Program:
    venv, port = venv_of(package), free_port()
    urls = [f"http://127.0.0.1:{backend}" for backend in backends]
    command = [
        str(venv / "bin/python"),
        "-m",
        module,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--worker-urls",
        *urls,
    ]
    command += ["--policy", "cache_aware", "--log-level", "error", "--prometheus-port", str(free_port())]
    program = Program(package, command, port)
    program.wait_ready()
    time.sleep(3)  # it looks at its workers before it serves
    return program


def litellm(backends: Sequence[int]) -> Program:
    venv, port = venv_of("litellm", "litellm[proxy]"), free_port()
    models: list[dict[str, Any]] = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"http://127.0.0.1:{backend}/v1",
                "api_key": "none",
            },
        }
        for backend in backends
    ]
    config = VENVS / "litellm.json"
    config.write_text(json.dumps({"model_list": models}))
    command = [str(venv / "bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    program = Program("litellm", command, port, LITELLM_ENV)
    program.wait_ready()
    time.sleep(3)
    return program


GATEWAYS: dict[str, Callable[[Sequence[int]], Program]] = {
    "ours": ours,
    "nginx": nginx,
    "sglang-router": sglang_router,
    "vllm-router": vllm_router,
    "litellm": litellm,
    "smg": smg,
}
