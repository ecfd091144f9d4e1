"""Members of a job's tasks: the sandbox that each is, with the words of its command filled in and what it is told of
the others. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.model.fields import NAME_LENGTH_MAX
from skerry.model.identity import make_id
from skerry.model.job import JobSpec, Parameter
from skerry.model.network import Membership, link_towards
from skerry.model.sandbox import Mount, SandboxSpec

OUTPUT = "/output"
"""Where the output volume is in every member."""
OUTPUT_VARIABLE = "SKERRY_OUTPUT"
ALONE = "127.0.0.1"
"""The address of the only member of a task."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Which member of which try of which task."""

    job: str
    """Id."""
    name: str
    """Of the job."""
    index: int
    attempt: int
    rank: int

    @property
    def sandbox(self) -> str:
        """Its id. The same seat has the same one, so that no member is ever made twice."""
        digest = hashlib.sha256(f"{self.job}/{self.index}/{self.attempt}/{self.rank}".encode()).digest()
        return make_id("sandbox", digest[:6])

    @property
    def sandbox_name(self) -> str:
        """Begins with an id, as no name does that people choose."""
        return f"{self.job}-{self.index}-{self.attempt}-{self.rank}"

    @property
    def hostname(self) -> str:
        end = f"-{self.index}-{self.rank}"
        return self.name[: NAME_LENGTH_MAX - len(end)].rstrip("-") + end


def log_name(job: str, index: int, attempt: int, rank: int) -> str:
    """Where its machine keeps what it wrote, once it is gone."""
    return f"{job}/{index}-{attempt}-{rank}"


def gang_of(job: str, index: int, attempt: int) -> str:
    return f"{job}-{index}-{attempt}"


def fill(text: str, words: Mapping[str, Parameter]) -> str:
    """`{index}` -> 3 for each of the words; any other brace stays as it is."""
    if "{" not in text:
        return text
    return re.sub(r"\{([a-z][a-z0-9_]*)\}", lambda found: _shown(words, found), text)


def _shown(words: Mapping[str, Parameter], found: re.Match[str]) -> str:
    word = found[1]
    return as_text(words[word]) if word in words else found[0]


def as_text(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def member_spec(spec: JobSpec, seat: Seat, *, image: str, places: Sequence[Membership] = ()) -> SandboxSpec:
    """`places`: of all members by their ranks; none where it is the only one. Raises ValidationError where what it
    comes to is not allowed, such as a word that has become too long."""
    parameters = spec.parameters(seat.index) if spec.sweep else {}
    words: dict[str, Parameter] = {
        **parameters,
        "index": seat.index,
        "rank": seat.rank,
        "attempt": seat.attempt,
        "job": seat.name,
    }
    mounts = [*spec.mounts]
    if spec.output is not None:
        mounts.append(Mount(volume=spec.output, target=OUTPUT))
    shared = {name: getattr(spec, name) for name in SHARED}
    return SandboxSpec(
        **shared,
        name=seat.sandbox_name,
        hostname=seat.hostname,
        image=image,
        command=[fill(word, words) for word in spec.command],
        env={
            **_interfaces(places),
            **{name: fill(value, words) for name, value in spec.env.items()},
            **_told(spec, seat, [each.address for each in places] or [ALONE], parameters),
        },
        workdir=None if spec.workdir is None else fill(spec.workdir, words),
        mounts=mounts,
        idle="never",
        cold_after="never",
    )


SHARED = (
    "cpu",
    "memory",
    "disk",
    "pids",
    "gpu",
    "gpu_kind",
    "gpu_memory",
    "extras",
    "user",
    "secrets",
    "network",
    "queue",
    "tier",
    "priority",
    "placement",
    "labels",
)
"""Fields of a job that its members have just so."""


def _interfaces(places: Sequence[Membership]) -> Mapping[str, str]:
    """Where libraries that look at interfaces find the other members; a job may say it otherwise."""
    if not places:
        return {}
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include")
    return dict.fromkeys(names, link_towards(places[0].subnet))


def _told(
    spec: JobSpec, seat: Seat, addresses: Sequence[str], parameters: Mapping[str, Parameter]
) -> Mapping[str, str]:
    """What launchers look for (torchrun reads PET_ variables, `env://` the first five), and the same in our words."""
    count, rank = str(len(addresses)), str(seat.rank)
    first, port = addresses[0], str(spec.port)
    told = {
        "RANK": rank,
        "WORLD_SIZE": count,
        "MASTER_ADDR": first,
        "MASTER_PORT": port,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NODE_RANK": rank,
        "GROUP_RANK": rank,
        "NNODES": count,
        "PET_NNODES": count,
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": first,
        "PET_MASTER_PORT": port,
        "SKERRY_JOB": seat.name,
        "SKERRY_JOB_ID": seat.job,
        "SKERRY_INDEX": str(seat.index),
        "SKERRY_RANK": rank,
        "SKERRY_NODES": count,
        "SKERRY_NODES_MIN": str(spec.nodes_min or spec.nodes),
        "SKERRY_ATTEMPT": str(seat.attempt),
        "SKERRY_PEERS": ",".join(addresses),
        **{f"SKERRY_PARAM_{name.upper()}": as_text(value) for name, value in parameters.items()},
    }
    if spec.output is not None:
        told[OUTPUT_VARIABLE] = f"{OUTPUT}/{seat.name}/{seat.index}"
    return told
