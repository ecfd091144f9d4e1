"""Where the agent is put together; the only place that knows every part."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette

from skerry.agent.api import AgentRoutes
from skerry.agent.archives.export import Exports
from skerry.agent.archives.imports import Imports
from skerry.agent.archives.routes import ArchiveRoutes
from skerry.agent.busy_routes import BusyRoutes
from skerry.agent.devices import Devices
from skerry.agent.egress.egress import Egress
from skerry.agent.egress.resolver import Resolver
from skerry.agent.egress.routes import EgressRoutes
from skerry.agent.egress.upstream import Upstream
from skerry.agent.exec_routes import ExecRoutes
from skerry.agent.execs import Execs
from skerry.agent.files.routes import file_routes
from skerry.agent.firewall import Firewall, links_begin, resolver_address
from skerry.agent.guest import GuestDoor
from skerry.agent.http_errors import error_handlers
from skerry.agent.identity import GuestIdentity
from skerry.agent.images.routes import image_routes
from skerry.agent.images.store import ImageLimits, ImageStore
from skerry.agent.journal import Journal
from skerry.agent.kept_log_routes import KeptLogRoutes
from skerry.agent.kept_logs import KeptLogs
from skerry.agent.logs import OutputLogs
from skerry.agent.machine import Machine
from skerry.agent.models.cache import ModelCache
from skerry.agent.models.convert.run import Converter
from skerry.agent.models.routes import ModelRoutes
from skerry.agent.models.store import ModelLimits, ModelStore
from skerry.agent.nameservers import usable_nameserver
from skerry.agent.networks.memberships import Memberships
from skerry.agent.networks.names import MemberNames
from skerry.agent.networks.reach import Reach
from skerry.agent.plans import Plans
from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.publish import Publisher
from skerry.agent.ports.relay import Relay
from skerry.agent.ports.routes import PortRoutes
from skerry.agent.ports.streams import Streams
from skerry.agent.recovery import Recovery
from skerry.agent.reports import Reports
from skerry.agent.roots import SandboxRoots
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.secrets import Secrets
from skerry.agent.services.crew import Means
from skerry.agent.services.kept import KeptServices
from skerry.agent.services.look import Looks
from skerry.agent.services.routes import GuestServiceRoutes
from skerry.agent.services.services import Services, log_key
from skerry.agent.sleep.routes import SleepRoutes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.slots import SlotPool
from skerry.agent.ssh.inside import Inside
from skerry.agent.ssh.listener import SshListener
from skerry.agent.ssh.routes import SshRoutes
from skerry.agent.volumes import VolumeRoutes
from skerry.client.shares import Shares
from skerry.clock import Clock, SystemClock
from skerry.model.sandbox import MIB
from skerry.runtime.catalog import make_runtime
from skerry.sealing import Sealer
from skerry.settings import Settings
from skerry.telemetry import Log

NAMES_LOG_BYTES_MAX, NAMES_LOGS_KEPT = 1 * MIB, 3
"""Of names asked for, per sandbox: some twenty thousand lines, and a tenth of that on disk."""
SERVICE_LOG_SHARE = 4
"""A service's log is rotated at this part of the size of its sandbox's: there may be many of them."""
LOG_BYTES_MIN = 4096


class AgentApp:
    """Built closed; `open` recovers what runs, and only then is there something to serve."""

    def __init__(self, settings: Settings, log: Log) -> None:
        clock = SystemClock()
        folder = settings.data_dir / "agent"
        self.runtime = make_runtime(settings)
        self.devices = Devices(settings.accelerators, log, clock.monotonic_s)
        self.journal = Journal(folder / "sandboxes")
        self.slots, self.egress, self.resolver, reach = _network(settings, clock, log)
        self.images, reports = self._image_store(settings, clock), Reports()
        self.guests = self._guest_door(settings, reports)
        self.models = _models(settings, self.runtime.volume_path, clock)
        plans = Plans(
            config_of=self.images.config_of,
            volume_path=self.runtime.volume_path,
            model_path=self.models.path,
            shares=Shares(settings.data_dir, settings.share),
            guests=self.guests,
            policy_folder=self.egress.folder,
            secrets=Secrets(Sealer(settings.secrets_key_path)),
            devices=self.devices,
        )
        self.kept_logs = KeptLogs(folder / "job-logs", bytes_max=settings.job_logs_bytes_max)
        self.sandboxes: Sandboxes = Sandboxes(
            runtime=self.runtime,
            slots=self.slots,
            journal=self.journal,
            reports=reports,
            plans=plans,
            identity=GuestIdentity(secrets.token_bytes),
            reach=reach,
            clock=clock,
            log=log,
            outputs=_outputs(settings, self.kept_logs),
            sandboxes_max=settings.sandboxes_max,
        )
        self.imports = self._imports(reports, plans, folder / "imports")
        self.sleeper: Sleeper = Sleeper(
            sandboxes=self.sandboxes,
            runtime=self.runtime,
            clock=clock,
            log=log,
            chance=os.urandom,
            idle=settings.idle,
            cold_after=settings.cold_after,
        )
        self.execs = self._execs(settings, clock)
        self.sandboxes.execs = self.execs
        self.services = self._services(settings, reports, clock, log)
        self.sandboxes.services = self.services
        self.dialer = Dialer(sandboxes=self.sandboxes, sleeper=self.sleeper, slots=self.slots, services=self.services)
        relay = Relay()
        self.streams = Streams(self.dialer, relay)
        self.publisher = Publisher(dialer=self.dialer, relay=relay, log=log)
        self.sandboxes.ports = self.publisher
        self.ssh = self._ssh(settings, clock, log)
        self.sandboxes.on_destroy = self.ssh.revoke
        self._recovery = self._recovery_with(reports, plans, reach, log)
        self.web = self._web(reports, plans, clock, settings)

    def _recovery_with(self, reports: Reports, plans: Plans, reach: Reach, log: Log) -> Recovery:
        return Recovery(
            sandboxes=self.sandboxes,
            execs=self.execs,
            services=self.services,
            runtime=self.runtime,
            slots=self.slots,
            journal=self.journal,
            reports=reports,
            plans=plans,
            reach=reach,
            log=log,
        )

    def _imports(self, reports: Reports, plans: Plans, folder: Path) -> Imports:
        return Imports(
            sandboxes=self.sandboxes,
            runtime=self.runtime,
            images=self.images,
            identity=GuestIdentity(secrets.token_bytes),
            reports=reports,
            journal=self.journal,
            plans=plans,
            folder=folder,
        )

    def _guest_door(self, settings: Settings, reports: Reports) -> GuestDoor:
        async def wish(sandbox_id: str, wanted: dict[str, str] | None) -> None:
            # Part of its report until it is answered.
            reports.change(sandbox_id, checkpoint_wanted=wanted)

        return GuestDoor(
            folder=settings.run_path / "guest",
            chance=os.urandom,
            tell=wish,
            grant=lambda sandbox_id, asked: self.sleeper.grant(sandbox_id, asked),
        )

    def _ssh(self, settings: Settings, clock: Clock, log: Log) -> SshListener:
        inside = Inside(
            sandboxes=self.sandboxes,
            execs=self.execs,
            sleeper=self.sleeper,
            dialer=self.dialer,
            runtime=self.runtime,
        )
        return SshListener(
            listen=settings.ssh_listen,
            key_path=settings.ssh_host_key_path,
            folder=settings.data_dir / "agent" / "ssh",
            inside=inside,
            clock=clock,
            log=log,
        )

    def _execs(self, settings: Settings, clock: Clock) -> Execs:
        return Execs(
            runtime=self.runtime,
            folder=settings.data_dir / "agent" / "execs",
            clock=clock,
            chance=os.urandom,
            sessions_max=settings.exec_sessions_max,
            oom_rose=self.sandboxes.oom_rose,
            vigil=self.sleeper,
        )

    def _services(self, settings: Settings, reports: Reports, clock: Clock, log: Log) -> Services:
        folder = settings.data_dir / "agent"
        logs = OutputLogs(
            folder / "service-logs",
            bytes_max=max(LOG_BYTES_MIN, settings.log_bytes_max // SERVICE_LOG_SHARE),
            keep=settings.logs_keep,
        )
        sandboxes = self.sandboxes
        looks = Looks(
            runtime=self.runtime,
            plan=lambda sandbox_id, asked: sandboxes.exec_plan(sandbox_id, asked, stdin=False),
            place=lambda sandbox_id: (self.slots.network_of(sandbox_id), sandboxes.entry(sandbox_id).address),
            chance=os.urandom,
        )
        means = Means(
            runtime=self.runtime,
            plan=lambda sandbox_id, asked: sandboxes.exec_plan(sandbox_id, asked, stdin=False),
            looks=looks,
            kept=KeptServices(folder / "services"),
            log_of=lambda sandbox_id, name: logs.of(log_key(sandbox_id, name)),
            remove_log=lambda sandbox_id, name: logs.remove(log_key(sandbox_id, name)),
            clock=clock,
            chance=os.urandom,
            tell=lambda sandbox_id: reports.change(sandbox_id, **self.services.told(sandbox_id)),
            log=log,
        )
        return Services(means, logs, kept_health=KeptServices(folder / "health"), give_up=sandboxes.give_up)

    def _image_store(self, settings: Settings, clock: Clock) -> ImageStore:
        upload_bytes_max = settings.upload_bytes_max
        return ImageStore(
            runtime=self.runtime,
            data_dir=settings.data_dir / "agent",
            mirror=settings.mirror,
            clock=clock,
            limits=ImageLimits(upload_bytes_max=upload_bytes_max, work_bytes_max=2 * upload_bytes_max),
            digest_of_sandbox=lambda sandbox_id: self.sandboxes.order_of(sandbox_id).image_digest,
            take_checkpoint=lambda sandbox_id, name: self.sandboxes.checkpoint(sandbox_id, name),
        )

    def _web(self, reports: Reports, plans: Plans, clock: Clock, settings: Settings) -> Starlette:
        api = AgentRoutes(
            sandboxes=self.sandboxes,
            runtime=self.runtime,
            reports=reports,
            guests=self.guests,
            imports=self.imports,
            machine=Machine(settings, self.runtime, self.devices, own_links=links_begin(settings.instance)),
            clock=clock,
        )
        exports = Exports(sandboxes=self.sandboxes, runtime=self.runtime, images=self.images)
        roots = SandboxRoots(self.runtime, self.sandboxes, self.sleeper, plans)
        return Starlette(
            routes=[
                *ExecRoutes(self.sandboxes, self.execs, self.sleeper).routes(),
                *BusyRoutes(sandboxes=self.sandboxes, runtime=self.runtime, devices=self.devices, clock=clock).routes(),
                *EgressRoutes(self.sandboxes, self.egress).routes(),
                *SleepRoutes(self.sandboxes, self.sleeper).routes(),
                *PortRoutes(
                    sandboxes=self.sandboxes, slots=self.slots, dialer=self.dialer, publisher=self.publisher
                ).routes(),
                *SshRoutes(self.sandboxes, self.ssh).routes(),
                *GuestServiceRoutes(self.sandboxes, self.services, self.sleeper).routes(),
                *api.routes(),
                *file_routes(roots, upload_bytes_max=settings.upload_bytes_max),
                *KeptLogRoutes(self.kept_logs).routes(),
                *image_routes(self.images),
                *VolumeRoutes(self.runtime, self.sandboxes).routes(),
                *ModelRoutes(self.models, self.sandboxes).routes(),
                *ArchiveRoutes(exports, self.imports).routes(),
            ],
            exception_handlers=error_handlers(),
        )

    async def open(self) -> None:
        self.journal.open()
        await self.runtime.open()
        await self.devices.look()
        await self.images.open()
        self.models.open()
        await self.slots.open(self.journal.slots())
        await self._recovery.recover()
        self.imports.open()
        await self.resolver.open()
        self.sleeper.open()
        self.publisher.open()
        self.ssh.open({entry.sandbox_id for entry in self.sandboxes.entries()})

    async def close(self) -> None:
        """Let go; sandboxes run on."""
        await self.ssh.close()
        await self.streams.close()
        await self.publisher.close()
        await self.sleeper.close()
        await self.resolver.close()
        await self.services.close()
        await self.execs.close()
        await self.sandboxes.close()
        await self.guests.close_all()
        await self.imports.close()
        await self.images.close()
        await self.models.close()
        await self.slots.close()
        await self.egress.close()
        await self.runtime.close()


def _outputs(settings: Settings, kept: KeptLogs) -> OutputLogs:
    folder = settings.data_dir / "agent" / "logs"
    return OutputLogs(folder, bytes_max=settings.log_bytes_max, keep=settings.logs_keep, kept=kept)


def _models(settings: Settings, volume_path: Callable[[str], Path], clock: Clock) -> ModelStore:
    folder = settings.models_path or settings.data_dir / "agent" / "models"
    return ModelStore(
        cache=ModelCache(folder, reserve_bytes=settings.models_reserve),
        sealer=Sealer(settings.secrets_key_path),
        shares=Shares(settings.data_dir, settings.share),
        volume_path=volume_path,
        endpoints={str(kind): url for kind, url in settings.model_endpoints.items()},
        converter=Converter(),
        clock=clock,
        limits=ModelLimits(size_bytes_max=settings.models_size_max),
    )


def _network(settings: Settings, clock: Clock, log: Log) -> tuple[SlotPool, Egress, Resolver, Reach]:
    nameserver = settings.nameserver or usable_nameserver()
    firewall = Firewall(instance=settings.instance, subnet=settings.network_subnet, nameserver=nameserver)
    egress = Egress(
        firewall=firewall,
        logs=OutputLogs(settings.data_dir / "agent" / "names", bytes_max=NAMES_LOG_BYTES_MAX, keep=NAMES_LOGS_KEPT),
        folder=settings.run_path / "policy",
        clock=clock,
    )
    members = MemberNames()
    resolver = Resolver(
        egress=egress,
        members=members,
        upstream=Upstream(nameserver),
        address=resolver_address(ipaddress.IPv4Network(settings.network_subnet)),
        clock=clock,
        log=log,
    )
    slots = SlotPool(
        instance=settings.instance,
        run_path=settings.run_path,
        subnet=settings.network_subnet,
        ahead=settings.slots_ahead,
        firewall=firewall,
        count_max=settings.sandboxes_max,
    )
    memberships = Memberships(slots=slots, firewall=firewall, names=members)
    return slots, egress, resolver, Reach(slots=slots, egress=egress, memberships=memberships)
