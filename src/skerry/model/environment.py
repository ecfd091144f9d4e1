"""An environment: what a `skerry.yaml` declares. Every noun in it is the noun's own definition, with what a file adds.

This is the file after variables, merging, `extends`, sizes, profiles and multiplication, in its long forms: what
`environment/load.py` makes of the text.
"""

from __future__ import annotations

from enum import StrEnum
from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from skerry.model.fields import Duration, Env, Frozen, GuestPath, Labels, Name, User, guest_path
from skerry.model.image import ImageSource
from skerry.model.job import DEPENDENCIES_MAX, JobSpec
from skerry.model.network import Subnet
from skerry.model.queue import QueueSpec
from skerry.model.sandbox import GIB, SandboxSpec
from skerry.model.service import ServiceSpec
from skerry.model.volume import VolumeSize
from skerry.model.weights import ModelRequest

VERSION = 1
SANDBOXES_MAX = 500
DECLARED_MAX = 200
"""Networks, volumes, models, secrets, queues and jobs of one environment, of each."""
PROVISIONERS_MAX = 64
FOLDERS_MAX = 16
EXCLUDES_MAX = 256
USER_DATA_MAX = 256 * 1024
SCRIPT_MAX = 256 * 1024
USER_DATA = "user-data"
"""What the step is called that a sandbox's `user_data` is."""
WORKSPACE = "/workspace"
"""Where the folder of the file is seen in a sandbox unless the file says otherwise."""


class Condition(StrEnum):
    """What must be true of a sandbox before one that depends on it is made."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"  # its main process has ended with code 0


class When(StrEnum):
    ONCE = "once"  # on each disk: one that is new, or put back to before it ran, runs it again
    ALWAYS = "always"  # at every `up`
    NEVER = "never"  # only when it is named: skerry provision --only NAME


class Sync(StrEnum):
    BIND = "bind"  # the folder itself, live in both directions; on the machine of the server only
    RSYNC = "rsync"  # copied into the sandbox at each `up` and `sync`, what has changed; what is gone goes
    SNAPSHOT = "snapshot"  # copied once, when the sandbox is new; from then on the sandbox's own


def _below(path: str) -> str:
    if "\0" in path or not path:
        raise ValueError("expected a path, relative to the folder of the file")
    return path


LocalPath = Annotated[str, Field(max_length=4096), AfterValidator(_below)]
"""On the machine where `skerry` is called; relative to the folder of the file."""


class Folder(Frozen):
    """A folder beside the file that a sandbox sees."""

    source: LocalPath = "."
    target: GuestPath = WORKSPACE
    sync: Sync = Sync.BIND
    exclude: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=EXCLUDES_MAX)] = []
    """Patterns as in .gitignore of what is not copied; with rsync and snapshot."""
    readonly: bool = False
    """With bind."""

    @model_validator(mode="after")
    def _fits(self) -> Folder:
        if self.exclude and self.sync is Sync.BIND:
            raise ValueError("exclude goes with sync: rsync or snapshot; a bind shows the folder as it is")
        if self.readonly and self.sync is not Sync.BIND:
            raise ValueError("readonly goes with sync: bind; a copy is the sandbox's own")
        return self


def _target(path: str) -> str:
    return guest_path(path) + ("/" if path.endswith("/") and path.strip("/") else "")


class Copy(Frozen):
    source: LocalPath
    target: Annotated[str, Field(max_length=4096), AfterValidator(_target)]
    """Ends it in /, it is the folder that the source is put below; else it is where the source comes to be."""
    owner: User | None = None
    """None: root."""
    mode: Annotated[str, Field(pattern=r"^[0-7]{3,4}$")] | None = None
    """Of a single file."""
    exclude: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=EXCLUDES_MAX)] = []


class Ansible(Frozen):
    playbook: LocalPath
    vars: dict[str, Any] = {}
    tags: Annotated[list[str], Field(max_length=64)] = []
    skip_tags: Annotated[list[str], Field(max_length=64)] = []
    groups: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]], Field(max_length=64)] = []
    """Groups of the inventory that the sandbox is in, besides `all`."""


class Provisioner(Frozen):
    """One step that makes a new sandbox ready: exactly one of run, script, copy and ansible."""

    name: Name | None = None
    """None: `step-1`, `step-2`, … by its place."""
    run: Annotated[str, Field(min_length=1, max_length=SCRIPT_MAX)] | None = None
    """Text for /bin/sh -e, or for what its #! line names."""
    script: LocalPath | None = None
    """A file that is copied into the sandbox and run there; by /bin/sh -e if it has no #! line."""
    args: Annotated[list[str], Field(max_length=256)] = []
    copy_: Annotated[Copy | None, Field(alias="copy")] = None
    ansible: Ansible | None = None
    when: When = When.ONCE
    env: Env = {}
    user: User | None = None
    """None: root."""
    workdir: GuestPath | None = None
    timeout: Annotated[Duration, Field(gt=0, le=86_400)] = 3600.0
    """Seconds, or text such as 10m."""

    @model_validator(mode="after")
    def _one_way(self) -> Provisioner:
        ways = [self.run, self.script, self.copy_, self.ansible]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of run, script, copy and ansible")
        if self.args and self.run is None and self.script is None:
            raise ValueError("args go with run or script")
        if self.copy_ is not None and (self.env or self.user or self.workdir):
            raise ValueError("env, user and workdir do not go with copy, which runs nothing; it has an owner")
        if self.ansible is not None and self.workdir is not None:
            raise ValueError("workdir does not go with ansible, which runs in the folder of the file")
        return self


class Machine(SandboxSpec):
    """A sandbox as the file declares it. Its `name` is that of the sandbox; None: ENVIRONMENT-KEY."""

    primary: bool = False
    """Meant where a command names no sandbox. One at most; else the first is."""
    autostart: bool = True
    """Whether `skerry up` without names brings it up."""
    depends_on: Annotated[dict[str, Condition], Field(max_length=SANDBOXES_MAX)] = {}
    """Other sandboxes of the file, and what must be true of each before this one is made."""
    user_data: Annotated[str, Field(max_length=USER_DATA_MAX)] | None = None
    """A script that begins with #!, or #cloud-config for an image that has cloud-init; once, before all else."""
    folders: Annotated[list[Folder], Field(max_length=FOLDERS_MAX)] = [Folder()]
    """The folder of the file at /workspace, unless others are named; [] for none."""
    provision: Annotated[list[Provisioner], Field(max_length=PROVISIONERS_MAX)] = []

    @model_validator(mode="after")
    def _steps_differ(self) -> Machine:
        names = step_names(self.provision)
        for number, name in enumerate(names):
            if name == USER_DATA:
                raise ValueError(f"provision[{number}].name: {USER_DATA} is the step that user_data is")
            if name in names[:number]:
                raise ValueError(f"provision[{number}].name: {name} is the name of another step")
        targets = [folder.target for folder in self.folders] + [mount.target for mount in self.mounts]
        for number, target in enumerate(targets):
            if target in targets[:number]:
                raise ValueError(f"folders: two of folders and mounts have the target {target}")
        return self


class Need(StrEnum):
    """What must be so before a job or a service starts: the first three of a sandbox, the second of a service too, the
    others of a job."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FINISHED = "finished"  # however it ended


class DeclaredJob(JobSpec):
    """A job as the file declares it: submitted once for each content. Its `name` is that of the job; None:
    ENVIRONMENT-KEY."""

    autostart: bool = True
    """Whether `skerry up` without names submits it."""
    folder: LocalPath | None = None
    """A folder beside the file that its members see read-only at /workspace, and run in unless `workdir` says other."""
    # What the file names are its own sandboxes and jobs, and of a sandbox there is more to wait for than an end.
    depends_on: Annotated[dict[str, Need | None], Field(max_length=DEPENDENCIES_MAX)] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
    """Sandboxes and jobs of the file. Null: that the sandbox has started, that the job has succeeded."""


class DeclaredService(ServiceSpec):
    """A service as the file declares it. Its `name` is that of the service; None: ENVIRONMENT-KEY."""

    autostart: bool = True
    """Whether `skerry up` without names makes it."""
    folder: LocalPath | None = None
    """A folder beside the file that its replicas see read-only at /workspace. Without a `workdir` they run there."""
    depends_on: Annotated[dict[str, Need | None], Field(max_length=DEPENDENCIES_MAX)] = {}
    """Sandboxes, jobs and other services of the file, and what must be so of each before it is made or changed. Null:
    that a sandbox has started, that a job has succeeded, that a service is healthy."""


class DeclaredNetwork(Frozen):
    """A private network of the environment."""

    name: Name | None = None
    """None: ENVIRONMENT-KEY."""
    subnet: Subnet | None = None
    """None: a free one is chosen, and kept."""
    internal: bool = False
    external: bool = False
    """It is there already, by its own name, and neither made nor deleted here."""


class DeclaredVolume(Frozen):
    name: Name | None = None
    """None: ENVIRONMENT-KEY."""
    size: VolumeSize = 10 * GIB
    external: bool = False
    labels: Labels = {}


class DeclaredModel(ModelRequest):
    """Weights that are fetched where they are not here yet; `model: KEY` of a mount and `model://KEY` mean them. Its
    `name` is that of the model; None: ENVIRONMENT-KEY."""

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        return self  # of its key


class DeclaredQueue(QueueSpec):
    """Rules by which work waits for nodes, of the whole cloud; `queue: KEY` of a sandbox or a job means it."""

    name: Name | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """None: ENVIRONMENT-KEY."""
    external: bool = False
    """It is there already, by its own name, and neither made, changed nor deleted here."""

    @model_validator(mode="after")
    def _has_its_rules(self) -> Self:
        fields = type(self).model_fields.items()
        rules = [name for name, field in fields if getattr(self, name) != field.get_default()]
        if self.external and (said := [name for name in rules if name not in ("name", "external")]):
            raise ValueError(f"an external queue has the rules that it has; take away: {', '.join(said)}")
        return self


class DeclaredImage(ImageSource):
    """An image that is made where it is not there yet; `image: KEY` of a sandbox means it. Its name is
    ENVIRONMENT/KEY:DIGEST, the digest being of what is said here: another definition is another image."""

    archive: LocalPath | None = None
    """An OCI or docker archive beside the file, as `skerry package` and `skerry image export` write it."""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Of the archive, which is refused if it is another one."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(way is not None for way in (self.source, self.recipe, self.archive)) != 1:
            raise ValueError("give exactly one of source, recipe and archive")
        if self.include and self.recipe is None:
            raise ValueError("include goes with recipe")
        if self.digest is not None and self.archive is None:
            raise ValueError("digest goes with archive; a source is pinned by source: docker://NAME@sha256:…")
        return self


class DeclaredSecret(Frozen):
    """A secret that must be there already: `skerry secret set NAME`. No value ever stands in a file."""

    name: Name | None = None
    """None: the key itself."""


class Environment(Frozen):
    version: Literal[1] = VERSION
    """Of this format. A later one that means something else by a word gets another number."""
    name: Annotated[Name, Field(max_length=40)]
    """The first half of its objects' names. The loader's default is the name of the file's folder."""
    images: Annotated[dict[Name, DeclaredImage], Field(max_length=DECLARED_MAX)] = {}
    networks: Annotated[dict[Name, DeclaredNetwork], Field(max_length=DECLARED_MAX)] = {}
    volumes: Annotated[dict[Name, DeclaredVolume], Field(max_length=DECLARED_MAX)] = {}
    models: Annotated[dict[Name, DeclaredModel], Field(max_length=DECLARED_MAX)] = {}
    secrets: Annotated[dict[Name, DeclaredSecret], Field(max_length=DECLARED_MAX)] = {}
    queues: Annotated[dict[Name, DeclaredQueue], Field(max_length=DECLARED_MAX)] = {}
    sandboxes: Annotated[dict[Name, Machine], Field(max_length=SANDBOXES_MAX)] = {}
    jobs: Annotated[dict[Name, DeclaredJob], Field(max_length=DECLARED_MAX)] = {}
    services: Annotated[dict[Name, DeclaredService], Field(max_length=DECLARED_MAX)] = {}

    def own_name(self, key: str, given: str | None) -> str:
        """What an object of the file is called on the server."""
        return given or f"{self.name}-{key}"


def step_names(steps: list[Provisioner]) -> list[str]:
    """What each is called: by its own name, else by its place."""
    return [step.name or f"step-{number}" for number, step in enumerate(steps, 1)]


def schema_text() -> str:
    """The JSON Schema of the file, for editors."""
    return (resources.files("skerry.model") / "environment.schema.json").read_text()
