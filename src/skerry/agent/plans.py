"""From an order to what the runtime needs: the image's defaults merged in, host folders checked, paths settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from skerry.agent.devices import Devices
from skerry.agent.guest import GuestDoor
from skerry.agent.output_folders import make_folders
from skerry.agent.secrets import Secrets
from skerry.client.shares import Shares
from skerry.errors import Invalid, NotFound
from skerry.model.exec import ExecSpec
from skerry.model.image import ImageConfig
from skerry.model.order import Order
from skerry.model.sandbox import Mount
from skerry.runtime.contract import ExecPlan, HostMount, Slot, StartPlan

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Plans:
    def __init__(
        self,
        *,
        config_of: Callable[[str], ImageConfig],
        volume_path: Callable[[str], Path],
        model_path: Callable[[str], Path],
        shares: Shares,
        guests: GuestDoor,
        policy_folder: Callable[[str], Path],
        secrets: Secrets,
        devices: Devices,
    ) -> None:
        self._config_of = config_of
        self._volume_path = volume_path
        self._model_path = model_path
        self._shares = shares
        self._guests = guests
        self._policy_folder = policy_folder
        self._secrets = secrets
        self._devices = devices

    def settle(self, order: Order) -> Order:
        """The order with each shared folder by its real path, which is looked up once and opened without following
        links ever after: a guest that may write a shared folder could put one there. Control asked the same; the
        agent, which is root, does not take its word for it. Raises Invalid, and NotFound for a volume that is lost and
        a secret that is gone."""
        self._secrets.check(order)
        shared = self._shares.folders() if order.spec.mounts else []
        mounts = [_settled(number, mount, shared) for number, mount in enumerate(order.spec.mounts)]
        self.mounts(order)
        return order.model_copy(update={"spec": order.spec.model_copy(update={"mounts": mounts})})

    def mounts(self, order: Order) -> list[HostMount]:
        """Where on this machine the mounts of a settled order are. Raises NotFound for a volume that is lost: a new one
        in its place would hide that."""
        found: list[HostMount] = []
        for number, mount in enumerate(order.spec.mounts):
            if mount.model is not None:
                try:
                    source = self._model_path(order.models[mount.model]).resolve()
                except (KeyError, NotFound):
                    field = f"mounts[{number}].model"
                    raise NotFound(f"{field}: this machine has lost model {mount.model}", field=field) from None
            elif mount.volume is None:
                source = Path(str(mount.source))
            else:
                try:
                    source = self._volume_path(order.volumes[mount.volume]).resolve()
                except (KeyError, NotFound):
                    field = f"mounts[{number}].volume"
                    raise NotFound(f"{field}: this machine has lost volume {mount.volume}", field=field) from None
            found.append(HostMount(mount.target, source, mount.readonly, mount.owner))
        return found

    def start_plan(self, order: Order, slot: Slot) -> StartPlan:
        spec, config = order.spec, self._config_of(order.image_digest)
        mounts = self.mounts(order)
        make_folders(order, mounts)
        has_door = spec.self_checkpoint or spec.self_lease
        user = spec.user or config.user or "root"
        return StartPlan(
            sandbox_id=order.sandbox_id,
            hostname=order.hostname,
            spec=spec,
            slot=slot,
            address=order.networks[0].address if order.networks else None,
            mounts=mounts,
            command=spec.command or (),
            env=self._env(order, config),
            workdir=spec.workdir or config.workdir or "/",
            user=user,
            secret_env=self._secrets.env(order),
            secret_files=self._secrets.files(order, user),
            guest_policy_folder=self._policy_folder(order.sandbox_id),
            devices=self._devices.paths(order.devices),
            guest_socket_folder=self._guests.folder(order.sandbox_id) if has_door else None,
        )

    def exec_plan(self, order: Order, asked: ExecSpec, *, stdin: bool) -> ExecPlan:
        spec, config = order.spec, self._config_of(order.image_digest)
        env = self._env(order, config)
        if asked.tty:
            env.setdefault("TERM", "xterm-256color")
        return ExecPlan(
            command=asked.command,
            env=env | asked.env,
            workdir=asked.workdir or spec.workdir or config.workdir or "/",
            user=asked.user or spec.user or config.user or "root",
            secret_env={name: value for name, value in self._secrets.env(order).items() if name not in asked.env},
            tty=asked.tty,
            size=asked.size,
            stdin=stdin,
        )

    def _env(self, order: Order, config: ImageConfig) -> dict[str, str]:
        ours = {"PATH": PATH, "HOSTNAME": order.hostname, "SKERRY_SANDBOX": order.sandbox_id}
        return ours | config.env | self._devices.env(order.devices) | order.spec.env

    async def serve_guest(self, order: Order, *, uid: int) -> None:
        """Open the sandbox's own door to us, if its spec allows one."""
        if order.spec.self_checkpoint or order.spec.self_lease:
            await self._guests.open(order.sandbox_id, order.spec, uid=uid)
        else:
            await self._guests.close(order.sandbox_id)

    async def forget(self, sandbox_id: str) -> None:
        await self._guests.close(sandbox_id)


def _settled(number: int, mount: Mount, shared: Sequence[Path]) -> Mount:
    if mount.source is None:
        return mount
    source = Path(mount.source).resolve()
    field = f"mounts[{number}].source"
    if not any(source.is_relative_to(folder) for folder in shared):
        allowed = ", ".join(map(str, shared)) or "none; its operator adds one with `skerry share add`"
        raise Invalid(
            f"{field}: {mount.source} is not below a folder this machine shares (shared: {allowed})", field=field
        )
    if not source.is_dir():
        raise Invalid(f"{field}: {mount.source} is not a folder on this machine", field=field)
    return mount.model_copy(update={"source": str(source)})
