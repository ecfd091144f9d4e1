"""Where the agent is put together; the only place that knows every part."""

from __future__ import annotations

import ipaddress
import os
import secrets

from starlette.applications import Starlette

from skerry.agent.api import AgentRoutes
from skerry.agent.egress.egress import Egress
from skerry.agent.egress.resolver import Resolver
from skerry.agent.egress.routes import EgressRoutes
from skerry.agent.egress.upstream import Upstream
from skerry.agent.exec_routes import ExecRoutes
from skerry.agent.execs import Execs
from skerry.agent.files.routes import file_routes
from skerry.agent.firewall import Firewall, resolver_address
from skerry.agent.guest import GuestDoor
from skerry.agent.http_errors import error_handlers
from skerry.agent.identity import GuestIdentity
from skerry.agent.images.routes import image_routes
from skerry.agent.images.store import ImageLimits, ImageStore
from skerry.agent.journal import Journal
from skerry.agent.logs import OutputLogs
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
from skerry.agent.reports import Reports
from skerry.agent.roots import SandboxRoots
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.services.crew import Means
from skerry.agent.services.kept import KeptServices
from skerry.agent.services.look import Looks
from skerry.agent.services.routes import ServiceRoutes
from skerry.agent.services.services import Services, log_key
from skerry.agent.sleep.routes import SleepRoutes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.slots import SlotPool
from skerry.agent.ssh.inside import Inside
from skerry.agent.ssh.listener import SshListener
from skerry.agent.ssh.routes import SshRoutes
from skerry.clock import Clock, SystemClock
from skerry.model.sandbox import MIB
from skerry.runtime.catalog import make_runtime
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
        self.journal = Journal(folder / "sandboxes")
        self.slots, self.egress, self.resolver, reach = _network(settings, clock, log)
        reports = Reports()
        self.images = self._image_store(settings, clock)
        self.guests = self._guest_door(settings)
        plans = Plans(
            config_of=self.images.config_of,
            shared=settings.share,
            guests=self.guests,
            policy_folder=self.egress.folder,
        )
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
            outputs=OutputLogs(folder / "logs", bytes_max=settings.log_bytes_max, keep=settings.logs_keep),
            sandboxes_max=settings.sandboxes_max,
        )
        self.sleeper: Sleeper = Sleeper(
            sandboxes=self.sandboxes,
            runtime=self.runtime,
            clock=clock,
            log=log,
            chance=os.urandom,
            idle=settings.idle,
            cold_after=settings.cold_after,
        )
        self.execs = Execs(
            runtime=self.runtime,
            folder=folder / "execs",
            clock=clock,
            chance=os.urandom,
            sessions_max=settings.exec_sessions_max,
            oom_rose=self.sandboxes.oom_rose,
            vigil=self.sleeper,
        )
        self.sandboxes.execs = self.execs
        self.services = self._services(settings, clock, log)
        self.sandboxes.services = self.services
        self.dialer = Dialer(sandboxes=self.sandboxes, sleeper=self.sleeper, slots=self.slots, services=self.services)
        relay = Relay()
        self.streams = Streams(self.dialer, relay)
        self.publisher = Publisher(dialer=self.dialer, relay=relay, log=log)
        self.sandboxes.ports = self.publisher
        self.ssh = self._ssh(settings, clock, log)
        self.sandboxes.on_destroy = self.ssh.revoke
        self.web = self._web(reports, clock, settings.upload_bytes_max)

    def _guest_door(self, settings: Settings) -> GuestDoor:
        return GuestDoor(
            folder=settings.run_path / "guest",
            chance=os.urandom,
            tell=lambda sandbox_id, wanted: self.sandboxes.wish(sandbox_id, wanted),
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

    def _services(self, settings: Settings, clock: Clock, log: Log) -> Services:
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
            tell=sandboxes.tell_services,
            log=log,
        )
        return Services(means, logs)

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

    def _web(self, reports: Reports, clock: Clock, upload_bytes_max: int) -> Starlette:
        api = AgentRoutes(
            sandboxes=self.sandboxes, runtime=self.runtime, reports=reports, guests=self.guests, clock=clock
        )
        roots = SandboxRoots(self.runtime, self.sandboxes, self.sleeper)
        return Starlette(
            routes=[
                *ExecRoutes(self.sandboxes, self.execs, self.sleeper).routes(),
                *EgressRoutes(self.sandboxes, self.egress).routes(),
                *SleepRoutes(self.sandboxes, self.sleeper).routes(),
                *PortRoutes(
                    sandboxes=self.sandboxes, slots=self.slots, dialer=self.dialer, publisher=self.publisher
                ).routes(),
                *SshRoutes(self.sandboxes, self.ssh).routes(),
                *ServiceRoutes(self.sandboxes, self.services, self.sleeper).routes(),
                *api.routes(),
                *file_routes(roots, upload_bytes_max=upload_bytes_max),
                *image_routes(self.images),
            ],
            exception_handlers=error_handlers(),
        )

    async def open(self) -> None:
        self.journal.open()
        await self.runtime.open()
        await self.images.open()
        await self.slots.open(self.journal.slots())
        await self.sandboxes.recover()
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
        await self.images.close()
        await self.slots.close()
        await self.egress.close()
        await self.runtime.close()


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
