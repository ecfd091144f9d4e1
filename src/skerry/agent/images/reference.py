"""What docker://… means: which registry, which image, and whether plain HTTP may be used to reach it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from skerry.errors import Invalid

DEFAULT_HOST = "docker.io"
_HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$")
_PATH = re.compile(r"^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_FORM = "expected docker://[HOST[:PORT]/]NAME[:TAG|@sha256:DIGEST]"


@dataclass(frozen=True)
class Reference:
    host: str
    path: str
    tag: str
    digest: str | None

    @property
    def image(self) -> str:
        """For people: as short as they would type it."""
        return self.path + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def remote(self) -> str:
        """For skopeo."""
        return f"docker://{self.host}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    def at(self, digest: str) -> Reference:
        return Reference(self.host, self.path, self.tag, digest)

    @property
    def is_loopback(self) -> bool:
        name = self.host.rsplit(":", 1)[0]
        if name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def parse(source: str, *, insecure: bool) -> Reference:
    """Bare names are Docker Hub's, as everywhere: docker://debian:12 is docker.io/library/debian:12."""
    name = source.removeprefix("docker://")
    if name == source:
        raise Invalid(_FORM, field="source")
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = DEFAULT_HOST, name
    rest, _, digest = rest.partition("@")
    path, _, tag = rest.partition(":")
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    well_formed = _HOST.fullmatch(host) and _PATH.fullmatch(path) and len(path) <= 255
    if not well_formed or not _TAG.fullmatch(tag or "latest") or (digest and not _DIGEST.fullmatch(digest)):
        raise Invalid(_FORM, field="source")
    reference = Reference(host, path, tag or "latest", digest or None)
    if insecure and not reference.is_loopback:
        raise Invalid(f"plain HTTP is allowed to a registry on this machine only, not to {host}", field="insecure")
    return reference
