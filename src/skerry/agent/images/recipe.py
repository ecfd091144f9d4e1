"""A Debian image from packages alone, by mmdebstrap from this host's mirror, with nothing of the host left in it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from skerry.agent.commands import run, running
from skerry.agent.images.apt_sources import Mirrors, host_mirrors
from skerry.agent.images.layout import LAYER, config_document
from skerry.agent.images.progress import Progress, Step
from skerry.agent.images.tool_errors import scrub
from skerry.agent.images.work import RETRY_AFTER_S, Job
from skerry.clock import Clock
from skerry.errors import Failed, Invalid, NoRoom, NotFound, SkerryError, Unavailable
from skerry.model.image import ImageConfig

CHECK_BYTES = 64 * 1024 * 1024
DAY_S = 24 * 3600
SUITES = {"12": "bookworm", "bookworm": "bookworm", "13": "trixie", "trixie": "trixie"}
CONFIG = ImageConfig(env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
"""No command: such an image is a computer that waits, not a program."""

# What of apt's settings says how to reach the mirror. The rest of the host's settings is the host's business.
_APT_SETTING = re.compile(
    r"^(Acquire::(?:https?::(?:Proxy(?:::[\w.-]+)?|Proxy-Auto-Detect|Timeout|CaInfo|Verify-Peer|Verify-Host)"
    r'|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)) "([^"\n]+)";$'
)
# A mount namespace whose /tmp is the job's folder, since apt's own user cannot enter ours; a pid namespace, so that the
# whole build and its mounts end with its first process.
_CONTAIN = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation=private"),
    *("sh", "-c", 'mount --bind "$0" /tmp && exec "$@"'),
)
# mmdebstrap leaves the host's name and resolver, and the settings (perhaps with a password) that we gave it.
_CLEAN = (
    'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/machine-id "$1"/etc/apt/apt.conf.d/99mmdebstrap;'
    " sed -i 's#://[^/@ ]*@#://#' \"$1\"/etc/apt/sources.list"
)
_STEPS = (
    ("running apt-get update", Step.RESOLVE),
    ("downloading packages", Step.DOWNLOAD),
    ("extracting archives", Step.UNPACK),
    ("creating tarball", Step.IMPORT),
)
_FAILURES: tuple[tuple[str, type[SkerryError], str], ...] = (
    (r"Unable to locate package (\S+)|Package (\S+) (?:is not available|has no)", NotFound, "Debian has no package {}"),
    (r"No space left on device", NoRoom, "the disk is full"),
    (
        r"Could not (?:resolve|connect)|Connection (?:failed|refused|timed out)|Temporary failure|Unable to connect",
        Unavailable,
        "the Debian mirror cannot be reached",
    ),
    (r"does not have a Release file|is not signed|NO_PUBKEY", Unavailable, "the Debian mirror lacks this release"),
    (r"unmet dependencies|held broken packages", Invalid, "these packages cannot be installed together"),
)


class RecipeBuilder:
    def __init__(self, clock: Clock, mirror: str | None, apt_folder: Path = Path("/etc/apt")) -> None:
        self._clock = clock
        self._mirror = mirror
        self._apt_folder = apt_folder

    async def build(self, recipe: str, include: list[str], job: Job, progress: Progress) -> str:
        """Into the job's layout; the digest of its manifest."""
        suite = SUITES.get(recipe.removeprefix("debian:"))
        if suite is None or not recipe.startswith("debian:"):
            raise Invalid("recipes are debian:12, debian:bookworm, debian:13 and debian:trixie", field="recipe")
        for name in include:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]", name):  # "name-" tells apt to remove it
                raise Invalid(f"{name[:50]!r} is not a Debian package name", field="include")
        progress(Step.RESOLVE, None, None)
        mirrors = host_mirrors(self._apt_folder)
        if self._mirror is not None:
            mirrors = Mirrors(main=self._mirror, keyrings=mirrors.keyrings)
        command = await self._command(suite, include, mirrors, job)
        job.layout.create()
        diff_id, size_bytes = await self._run(command, job, progress)
        return job.layout.write_image(config_document(CONFIG, [diff_id]), [(LAYER, diff_id, size_bytes)])

    async def _command(self, suite: str, include: list[str], mirrors: Mirrors, job: Job) -> list[str]:
        command = [*_CONTAIN, str(job.folder), "mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
        keyrings = job.folder / "keyrings"
        keyrings.mkdir()
        for path in mirrors.keyrings:
            shutil.copyfile(path, keyrings / path.name)
        job.folder.chmod(0o755)  # for apt's user; the folder above it stays closed
        command += ["--keyring=/tmp/keyrings", f"--customize-hook={_CLEAN}"]
        command += [f"--aptopt={setting}" for setting in await self._apt_settings(job)]
        if include:
            command.append(f"--include={','.join(include)}")
        return [*command, suite, "-", *mirrors.lines(suite)]

    async def _apt_settings(self, job: Job) -> list[str]:
        ran = await run(["apt-config", "dump"], environment=job.environment)
        return [line for line in ran.stdout.decode(errors="replace").splitlines() if _APT_SETTING.fullmatch(line)]

    async def _run(self, command: list[str], job: Job, progress: Progress) -> tuple[str, int]:
        """Its tar into the layout; (digest, size)."""
        # Files newer than midnight get midnight, so the same packages on one day are the same image.
        midnight_s = int(self._clock.now().timestamp()) // DAY_S * DAY_S
        environment = {**job.environment, "TMPDIR": "/tmp", "SOURCE_DATE_EPOCH": str(midnight_s)}

        def on_line(line: str) -> None:
            for words, step in _STEPS:
                if words in line:
                    progress(step, None, None)

        digest, size_bytes, unchecked_bytes = hashlib.sha256(), 0, 0
        draft = job.folder / "layer.tar"
        async with running(command, environment=environment, on_line=on_line) as program:
            with draft.open("wb") as file:
                async for chunk in program.chunks():
                    digest.update(chunk)
                    file.write(chunk)
                    size_bytes += len(chunk)
                    unchecked_bytes += len(chunk)
                    if unchecked_bytes > CHECK_BYTES:
                        unchecked_bytes = 0
                        await job.check()
            code, stderr = await program.wait()
        if code != 0:
            raise failure_of(stderr)
        name = f"sha256:{digest.hexdigest()}"
        draft.rename(job.layout.blob_path(name))
        return name, size_bytes


def failure_of(stderr: str) -> SkerryError:
    """What apt said, in a sentence of ours."""
    words = scrub(stderr.strip())
    for pattern, kind, sentence in _FAILURES:
        found = re.search(pattern, words)
        if found:
            name = next((group for group in found.groups() if group), "")
            retry_after_s = RETRY_AFTER_S if kind in (NoRoom, Unavailable) else None
            return kind(sentence.format(name), because=words, retry_after_s=retry_after_s)
    return Failed("mmdebstrap cannot build the image", because=words)
