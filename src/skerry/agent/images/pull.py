"""From a registry to a layout on disk, by skopeo: which image it is, then its blobs, watched while they come."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.agent.commands import run
from skerry.agent.images.layout import (
    DOCUMENT_BYTES_MAX,
    INDEX_DEPTH_MAX,
    Manifest,
    choose,
    digest_of,
    is_index,
    read_manifest,
)
from skerry.agent.images.progress import Progress, Step, watched
from skerry.agent.images.reference import Reference
from skerry.agent.images.tool_errors import from_registry
from skerry.agent.images.work import LAYOUT, TAG, Job
from skerry.clock import Clock
from skerry.errors import Failed, Invalid, Unavailable

POLL_S = 0.2
RESOLVE_S = 60
STALLED_S = 120.0
"""No new byte for this long and the registry counts as gone; slow but moving is fine."""
RETRY_TIMES = 2


@dataclass(frozen=True)
class Resolved:
    """The one image behind a reference, for this machine."""

    reference: Reference
    """By digest, so that a tag that moves meanwhile changes nothing."""
    manifest: Manifest
    insecure: bool

    @property
    def digest(self) -> str:
        assert self.reference.digest is not None
        return self.reference.digest

    @property
    def download_bytes(self) -> int:
        return self.manifest.config.size + sum({one.digest: one.size for one in self.manifest.layers}.values())


class Registry:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def resolve(self, reference: Reference, insecure: bool, job: Job) -> Resolved:
        """Raises NotFound, Unauthenticated, Unavailable or Invalid, each in one sentence."""
        for _ in range(INDEX_DEPTH_MAX):
            raw = await self._manifest(reference, insecure, job)
            if not is_index(raw):
                return Resolved(reference.at(digest_of(raw)), read_manifest(raw), insecure)
            reference = reference.at(choose(raw, reference.image).digest)
        raise Invalid(f"{reference.image} has indexes nested more than {INDEX_DEPTH_MAX} deep")

    async def _manifest(self, reference: Reference, insecure: bool, job: Job) -> bytes:
        command = ["skopeo", f"--command-timeout={RESOLVE_S}s", "inspect", "--raw", *_tls(insecure), reference.remote]
        ran = await run(command, environment=job.environment, stdout_bytes_max=DOCUMENT_BYTES_MAX)
        if ran.code != 0:
            raise from_registry(ran.stderr, host=reference.host, image=reference.image)
        if reference.digest and digest_of(ran.stdout) != reference.digest:
            raise Failed(f"registry {reference.host} sent another manifest for {reference.image} than asked for")
        return ran.stdout

    async def fetch(self, resolved: Resolved, job: Job, progress: Progress) -> str:
        """All blobs, checked against their digests, into the job's layout; the digest of the manifest *there*.

        skopeo turns Docker's manifest into OCI's, so that digest may differ from the image's.
        """
        total_bytes = resolved.download_bytes
        job.expect(total_bytes)
        watch = _Watch(self._clock, job, progress, total_bytes, resolved.reference.host)
        command = ["skopeo", "copy", "--quiet", f"--retry-times={RETRY_TIMES}"]
        if resolved.insecure:
            command.append("--src-tls-verify=false")
        command += [resolved.reference.remote, f"oci:{LAYOUT}:{TAG}"]
        work = run(command, environment=job.environment, folder=job.folder)
        progress(Step.DOWNLOAD, 0, total_bytes)
        ran = await watched(work, watch.look, POLL_S)
        if ran.code != 0:
            raise from_registry(ran.stderr, host=resolved.reference.host, image=resolved.reference.image)
        progress(Step.DOWNLOAD, total_bytes, total_bytes)
        return job.layout.find(resolved.reference.image)


class _Watch:
    """Tells how far a download is, and ends one that stands still."""

    def __init__(self, clock: Clock, job: Job, progress: Progress, total_bytes: int, host: str) -> None:
        self._clock = clock
        self._job = job
        self._progress = progress
        self._total_bytes = total_bytes
        self._host = host
        self._seen_bytes = -1
        self._moved_at_s = clock.monotonic_s()

    async def look(self) -> None:
        done_bytes = await self._job.check()
        now_s = self._clock.monotonic_s()
        if done_bytes != self._seen_bytes:
            self._seen_bytes, self._moved_at_s = done_bytes, now_s
            self._progress(Step.DOWNLOAD, min(done_bytes, self._total_bytes), self._total_bytes)
        elif now_s - self._moved_at_s > STALLED_S:
            raise Unavailable(f"registry {self._host} sent nothing for {STALLED_S:.0f} s", retry_after_s=10)


def _tls(insecure: bool) -> list[str]:
    return ["--tls-verify=false"] if insecure else []
