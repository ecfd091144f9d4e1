"""`skerry serve`: read the settings, look at the host, then become the supervisor."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from skerry.settings import Settings

PROGRAMS = ("agent", "control", "gateway")
CANNOT_START = 2
PORT_MAX = 65_535
DATABASES = ("postgresql+psycopg://", "sqlite+aiosqlite:///")

_PR_SET_CHILD_SUBREAPER = 36

UNIT = """\
[Unit]
Description=Skerry: sandboxes for AI work
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={command}
# New gateways with the code, certificate and key that are there now; not a stream is dropped.
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# Sandboxes outlive the programs: systemd must end only the supervisor, which ends its programs.
KillMode=process
Delegate=yes
# Answers of models that have begun may take a minute to end.
TimeoutStopSec=110
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


@click.command(short_help="Start Skerry on this machine.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database, keys and disks [/var/lib/skerry].")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Sockets and pipes [/run/skerry-…].")
@click.option("--listen", metavar="HOST:PORT", help="Address of the API [127.0.0.1:7070].")
@click.option("--url-listen", metavar="HOST:PORT", help="Address of the sandboxes' URLs [127.0.0.1:7080].")
@click.option("--url-domain", metavar="DOMAIN", help="URLs are NAME--PORT.DOMAIN [localhost].")
@click.option("--url-certificate", type=click.Path(path_type=Path), help="Certificate for TLS on URLs, as PEM.")
@click.option("--url-key", type=click.Path(path_type=Path), help="Its key, as PEM.")
@click.option("--gateway-workers", type=int, metavar="N", help="Gateways on this machine, a process each [1].")
@click.option("--otlp-endpoint", metavar="URL", help="Collector for traces of services [OTEL_EXPORTER_OTLP_ENDPOINT].")
@click.option(
    "--share", type=click.Path(path_type=Path), multiple=True, help="Host folder sandboxes may mount; repeat."
)
@click.option(
    "--service-addresses",
    metavar="NETWORK",
    multiple=True,
    help="Network or host of servers of yours to which services may lead; repeat [none].",
)
@click.option("--database-url", metavar="URL", help="postgresql+psycopg://… [SQLite in data-dir].")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
@click.option(
    "--pool-path", type=click.Path(path_type=Path), help="A btrfs folder for disks [a loop file in data-dir]."
)
@click.option("--pool-size", metavar="SIZE", help="Of the loop file, such as 40GiB [a quarter of the free space].")
@click.option("--network-subnet", metavar="CIDR", help="Addresses of sandboxes [10.201.0.0/16].")
@click.option("--mirror", metavar="URL", help="Debian mirror for image recipes [this host's].")
@click.option("--programs", default=",".join(PROGRAMS), show_default=True, help="Which programs to start here.")
@click.option("--print-unit", is_flag=True, help="Print a systemd unit and exit.")
def serve(programs: str, print_unit: bool, **options: Any) -> None:
    """Start the control plane, the agent and the gateway under one supervisor, and keep them running.

    Ctrl-C or SIGTERM stops them in order; sandboxes go on, and the next start adopts them. SIGHUP (`systemctl reload`)
    replaces the gateway by one of the code and certificate that are there now, and drops no stream. Every option is
    also an environment variable (SKERRY_LISTEN, …) and a line in DATA_DIR/skerry.toml; the option wins.

    Exit codes: 0 stopped as asked, 2 cannot start here (the message says what mends it), 130 told twice to stop.
    """
    settings = _settings(options)
    names = _program_names(programs)
    if print_unit:
        click.echo(UNIT.format(command=_command(settings, names, options)), nl=False)
        return
    _check_database(settings)
    _check_host(settings)
    _check_alone(settings)
    _check_address(settings, names)
    _make_folders(settings)
    _become_supervisor(settings, names)


def _settings(options: dict[str, Any]) -> Settings:
    import tomllib

    from pydantic import ValidationError

    from skerry.model.explain import explain
    from skerry.settings import Settings

    given = {name: value for name, value in options.items() if value is not None and value != ()}
    for name in ("data_dir", "run_dir", "pool_path", "url_certificate", "url_key"):
        if name in given:
            given[name] = given[name].absolute()
    if "share" in given:
        given["share"] = [folder.absolute() for folder in given["share"]]
    try:
        return Settings(**given)
    except ValidationError as error:
        _refuse(f"setting {explain(error).say}")
    except tomllib.TOMLDecodeError as error:
        _refuse(f"skerry.toml in the data folder is not TOML: {error}")


def _program_names(programs: str) -> list[str]:
    names = [name.strip() for name in programs.split(",") if name.strip()]
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown or not names:
        _refuse(f"--programs: expected some of {', '.join(PROGRAMS)}, got {programs!r}")
    return names


def _check_database(settings: Settings) -> None:
    """Only the kind, and without repeating the address, which may hold a password."""
    from importlib.util import find_spec

    url = settings.database
    if not url.startswith(DATABASES):
        _refuse(f"--database-url: expected {DATABASES[0]}USER:PASSWORD@HOST/NAME")
    if url.startswith(DATABASES[0]) and find_spec("psycopg") is None:
        _refuse("PostgreSQL needs psycopg; install it with: pip install 'skerry[postgres]'")


def _check_host(settings: Settings) -> None:
    from skerry.cli.checks.catalog import misses
    from skerry.cli.checks.host import ThisHost
    from skerry.cli.doctor import lines

    found = misses(ThisHost(), str(settings.data_dir))
    if found:
        for text in lines(found):
            click.echo(text, err=True)
        _refuse("this host cannot run sandboxes yet; `skerry doctor` tells all of it")


def _check_address(settings: Settings, names: list[str]) -> None:
    """Said here in one sentence, since a program that fails at its first breath can only say it in a log."""
    for name, option, listen in (
        ("control", "--listen", settings.listen),
        ("gateway", "--url-listen", settings.url_listen),
    ):
        if name in names:
            _check_free(option, listen)


def _check_free(option: str, listen: str) -> None:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > PORT_MAX:
        _refuse(f"{option}: expected HOST:PORT, got {listen!r}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        _refuse(f"cannot listen on {listen}: {error.strerror}; try another {option}")


def _check_alone(settings: Settings) -> None:
    """The supervisor takes the lock for good; asked here too, before its own address looks like somebody else's."""
    import fcntl

    try:
        with open(settings.data_dir / "serve.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (settings.data_dir / "serve.lock").read_text()
        _refuse(f"already running with {settings.data_dir} (pid {holder})")
    except OSError:
        return


def _make_folders(settings: Settings) -> None:
    for folder in (settings.data_dir, settings.run_path):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            _refuse(f"cannot make the folder {folder}: {error.strerror}")


def _become_supervisor(settings: Settings, names: list[str]) -> NoReturn:
    """Replace this process by one that has imported next to nothing; what is inherited over exec is set before."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = {
        "lock_path": str(settings.data_dir / "serve.lock"),
        "run_path": str(settings.run_path),
        "programs": names,
        "listen": settings.url_listen,
        "gateways": settings.gateway_workers if "gateway" in names else 0,
        "log_level": settings.log_level,
        "banner": _banner(settings, names) if sys.stdout.isatty() else None,
    }
    environment = dict(os.environ)
    environment["SKERRY_SETTINGS_JSON"] = settings.model_dump_json()
    environment["SKERRY_SUPERVISOR_JSON"] = json.dumps(told)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "skerry.serve.program"], environment)


def _banner(settings: Settings, names: list[str]) -> str:
    told = [click.style("Skerry serves.", bold=True), f"  data      {settings.data_dir}"]
    if "control" in names:
        told += [
            f"  address   http://{settings.listen}",
            f"  key       {settings.admin_key_path}",
            f"  URLs      {settings.url_scheme}://NAME--PORT.{settings.url_place}",
            "Next, in another terminal:",
            "  skerry image build debian:12 --recipe debian:12",
            "  skerry run debian:12 -- echo hello",
        ]
    return "\n".join([*told, "Ctrl-C stops the programs; sandboxes go on."])


def _command(settings: Settings, names: list[str], options: dict[str, Any]) -> str:
    """What was asked for now, to be asked for at every boot; what the environment says is not repeated."""
    words = [str(Path(sys.argv[0]).resolve()), "serve", "--data-dir", str(settings.data_dir)]
    for name, given in options.items():
        if not given or name == "data_dir":
            continue
        values: list[Any] = [given]
        if isinstance(given, tuple):
            values = list(getattr(settings, name))
        for value in values:
            words += ["--" + name.replace("_", "-"), str(value.absolute() if isinstance(value, Path) else value)]
    if set(names) != set(PROGRAMS):
        words += ["--programs", ",".join(names)]
    return shlex.join(words).replace("%", "%%").replace("$", "$$")


def _refuse(say: str) -> NoReturn:
    click.echo(f"skerry serve: {say}", err=True)
    raise SystemExit(CANNOT_START)
