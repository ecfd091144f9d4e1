"""Every setting of the programs that run on a server, with its unit, its None and the reason for its default.

Read once, in `main`, from the environment (`SKERRY_…`) and `DATA/skerry.toml`; whoever needs one is given it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from skerry.model.fields import Labels, Size
from skerry.model.node import TAINTS_MAX, Taint
from skerry.model.resources import AcceleratorSetting, Extras
from skerry.model.sandbox import GIB, MIB
from skerry.model.sleep import SleepAfter


def _subnet(cidr: str) -> str:
    network = ipaddress.ip_network(cidr)
    if network.version != 4 or not 16 <= network.prefixlen <= 24:
        raise ValueError("expected an IPv4 range between /16 and /24, such as 10.201.0.0/16")
    return str(network)


def _subnets(cidr: str) -> str:
    network = ipaddress.ip_network(cidr)
    if network.version != 4 or not 8 <= network.prefixlen <= 24:
        raise ValueError("expected an IPv4 range between /8 and /24, such as 10.202.0.0/15")
    return str(network)


def _reachable(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text):
            raise ValueError("expected a network such as 10.0.0.0/24, an address, or a host name") from None
        return text.lower()


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _host_port(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:7080")
    return listen


def _http_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError("expected a URL such as http://127.0.0.1:4318")
    return text


def _pairs(text: str) -> dict[str, str]:
    """KEY=VALUE,KEY=VALUE, each as in a URL: as OpenTelemetry has it."""
    return {
        unquote(key.strip()): unquote(value)
        for key, _, value in (each.partition("=") for each in text.split(","))
        if key
    }


def _domain(name: str) -> str:
    if len(name) > 180 or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", name):
        raise ValueError("expected a domain in lower case, such as boxes.example.com")
    return name


def _ssh_listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if text != "off" and not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:7022, or off")
    return text


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SKERRY_", frozen=True, extra="forbid")

    data_dir: Path = Path("/var/lib/skerry")
    """Database, keys, sockets, logs and the pool. Belongs to root, 0700."""
    run_dir: Path | None = None
    """What a reboot may lose: pipes, container state. None: /run/skerry, or /run/skerry-INSTANCE."""
    listen: str = "127.0.0.1:7070"
    """HOST:PORT of the API. Loopback by default: whoever holds a key is nearly root here."""
    url_listen: Annotated[str, AfterValidator(_host_port)] = "127.0.0.1:7080"
    """HOST:PORT of the sandboxes' URLs. Loopback by default: opening it to others is a decision."""
    url_domain: Annotated[str, AfterValidator(_domain)] = "localhost"
    """Sandboxes are at NAME--PORT.DOMAIN; localhost needs no DNS. Another needs a record for *.DOMAIN."""
    url_certificate: Path | None = None
    """PEM file of the certificate of *.DOMAIN and what leads to its root. None: no TLS."""
    url_key: Path | None = None
    """PEM file of its key. None: no TLS."""
    url_body_bytes_max: Annotated[Size, Field(ge=1024)] = 10 * GIB
    """Largest body of one request to a URL. It is streamed and costs us nothing; this stops what never ends."""
    gateway_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Gateways on this machine, each a process with a core to use. One by default: it passes on some ten thousand short
    requests a second, and knows alone what it sent where."""
    otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default_factory=lambda: os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None, validate_default=True
    )
    """Collector to which gateways send traces by OTLP over HTTP, such as http://127.0.0.1:4318. None: nothing is
    traced. Other programs' variables count here too, since a machine has one collector."""
    otlp_headers: dict[str, str] = Field(
        default_factory=lambda: _pairs(os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""))
    )
    """Sent to it with each request: what it knows us by."""
    otlp_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of requests whose callers do not trace themselves; those who do have decided it."""
    database_url: str | None = None
    """SQLAlchemy async URL; None: SQLite in data_dir. PostgreSQL: postgresql+psycopg://…"""
    log_level: str = "info"

    pool_path: Path | None = None
    """A btrfs folder to keep disks in. None: a loop file in data_dir, made at first start."""
    pool_size: Annotated[Size, Field(ge=1 * GIB)] | None = None
    """Bytes of the loop file, allocated in full so that a full host disk can never corrupt a running pool.
    None: a quarter of what is free at first start, at least 4 GiB and at most 256 GiB."""
    pool_reserve: Annotated[Size, Field(ge=0)] = 256 * MIB
    """Below this much free space nothing new is created, so that what runs can go on writing."""
    models_path: Path | None = None
    """Where models are kept, on a file system of which sandboxes may mount folders. None: in data_dir."""
    models_reserve: Annotated[Size, Field(ge=0)] = 1 * GIB
    """Free space that models leave there: the database and the logs may live on the same disk."""
    models_size_max: Annotated[Size, Field(ge=1 * MIB)] = 2 * 1024 * GIB
    """Of one model. The largest that are published are below it; a listing that claims more is a mistake."""
    model_endpoints: dict[Literal["hf", "s3", "ollama"], str] = {}
    """URLs of servers to ask in place of huggingface.co, of AWS and of registry.ollama.ai: mirrors of our own."""
    network_subnet: Annotated[str, AfterValidator(_subnet)] = "10.201.0.0/16"
    """Sandboxes' addresses, four to each. A /16 holds 16,384 sandboxes."""
    job_subnets: Annotated[str, AfterValidator(_subnets)] = "10.202.0.0/15"
    """Where the private networks of jobs' gangs get their addresses. A /15 has room for gangs of 131,072 in all."""
    webhooks_private: bool = False
    """Whether jobs may send notices to this machine and to private networks. Not by default: a job's owner would reach
    what only the server can."""
    service_addresses: list[Annotated[str, AfterValidator(_reachable)]] = []
    """Networks and host names of servers that are not ours to which services may lead; none by default, since a gateway
    reaches what this machine reaches, its own loopback included."""
    nameserver: Annotated[str, AfterValidator(_address)] | None = None
    """Where names that sandboxes ask for are looked up. None: this host's first nameserver that is not on loopback."""
    slots_ahead: Annotated[int, Field(ge=0, le=256)] = 12
    """Network and user namespaces made in advance: enough for fork --count 10 with two to spare."""
    share: list[Path] = []
    """Host folders below which sandboxes may mount; none by default, since a mount is root's view of the folder."""
    log_bytes_max: Annotated[Size, Field(ge=4096)] = 10 * MIB
    """Size at which a sandbox's log is rotated and compressed."""
    logs_keep: Annotated[int, Field(ge=0, le=100)] = 5
    """Compressed logs kept of each sandbox."""
    job_logs_bytes_max: Annotated[Size, Field(ge=1 * MIB)] = 10 * GIB
    """What jobs have printed, kept on one machine after their sandboxes are gone. The oldest goes first."""
    sandboxes_max: Annotated[int, Field(ge=1, le=16_000)] = 4000
    """On one machine, in any state but deleted."""
    volumes_max: Annotated[int, Field(ge=1, le=16_000)] = 1000
    """On one machine, in any state but deleted. Each is a subvolume with an account, which this bounds."""
    job_sandboxes_max: Annotated[int, Field(ge=1, le=16_000)] = 2000
    """Those of jobs among them. Half: what people start by hand always finds a number that is free."""
    job_waiting_max: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Tasks of one job that wait in the queue at once. The others are made as these start: a job of a hundred thousand
    neither fills the machine's books nor hides jobs that come later and are worth more."""
    cpu_overcommit: Annotated[float, Field(ge=1, le=10_000)] = 128.0
    """Promised cores per real one. A sandbox's cpu is a ceiling and most idle; too many busy ones only slow down."""
    memory_overcommit: Annotated[float, Field(ge=1, le=1000)] = 16.0
    """Promised memory per real byte. Idle boxes use a few MiB of their ceiling; lower it for boxes that fill it."""
    idle: SleepAfter = "never"
    """Idle time of sandboxes whose spec names none. Never by default: background work nobody told us of would stop."""
    cold_after: SleepAfter = "never"
    """Time from warm to cold of those whose spec names none. Never by default: processes are lost on the way."""
    ssh_listen: Annotated[str, AfterValidator(_ssh_listen)] = "127.0.0.1:7022"
    """HOST:PORT of the SSH listener, or `off`. Loopback by default: being reached from elsewhere is a decision."""
    exec_sessions_max: Annotated[int, Field(ge=1)] = 256
    """Commands at one time in one sandbox, ended ones that are still listed included."""
    body_bytes_max: Annotated[Size, Field(ge=1024)] = 16 * MIB
    """Largest JSON body; files and archives are streamed and have their own limit."""
    upload_bytes_max: Annotated[Size, Field(ge=1 * MIB)] = 64 * GIB
    accelerators: Annotated[list[AcceleratorSetting], Field(max_length=16)] = []
    """Of this machine, by kind, in the order of their numbers. None: NVIDIA's, if nvidia-smi is there and tells."""
    extras: Extras = {}
    """What else of this machine is counted and given out, by name: {"license": 4}."""
    node_labels: Labels = {}
    """Of this machine: what queues choose their nodes by, and sandboxes where they run."""
    node_taints: Annotated[list[Taint], Field(max_length=TAINTS_MAX)] = []
    """KEY=VALUE each: only work that tolerates all of them runs on this machine."""
    mirror: str | None = None
    """Debian mirror for image recipes; None: the one this host's apt uses."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # What `main` was told by flag wins over the environment, which wins over the file.
        given = dict(init_settings())
        data_dir = Path(given.get("data_dir") or dict(env_settings()).get("data_dir") or "/var/lib/skerry")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, data_dir / "skerry.toml")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.url_certificate is None) != (self.url_key is None):
            raise ValueError("url_certificate and url_key go together: give both, or none")
        return self

    @property
    def instance(self) -> str:
        """Four hex digits that keep two installations on one machine apart (names of cgroups, links, tables)."""
        return hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:4]

    @property
    def run_path(self) -> Path:
        return self.run_dir or Path(f"/run/skerry-{self.instance}")

    @property
    def control_socket(self) -> Path:
        return self.run_path / "control.sock"

    @property
    def agent_socket(self) -> Path:
        return self.run_path / "agent.sock"

    @property
    def streams_socket(self) -> Path:
        return self.run_path / "streams.sock"

    @property
    def gateway_socket(self) -> Path:
        return self.gateway_socket_of(0)

    def gateway_socket_of(self, slot: int) -> Path:
        return self.run_path / ("gateway.sock" if slot == 0 else f"gateway-{slot}.sock")

    @property
    def url_secret_path(self) -> Path:
        return self.data_dir / "url.secret"

    @property
    def secrets_key_path(self) -> Path:
        return self.data_dir / "secrets.key"

    @property
    def url_scheme(self) -> str:
        return "http" if self.url_certificate is None else "https"

    @property
    def url_place(self) -> str:
        """What follows `NAME--PORT.` in a URL."""
        port = self.url_listen.rpartition(":")[2]
        usual = "80" if self.url_certificate is None else "443"
        return self.url_domain if port == usual else f"{self.url_domain}:{port}"

    @property
    def ssh_host_key_path(self) -> Path:
        return self.data_dir / "ssh_host_ed25519_key"

    @property
    def admin_key_path(self) -> Path:
        return self.data_dir / "admin.key"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir}/skerry.db"
