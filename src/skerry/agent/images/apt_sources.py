"""Which Debian mirror this host's apt uses, and how apt reaches it, so that images are built from the same place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from skerry.model.fields import Frozen

DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_SUITE = re.compile(
    r"^(bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)(-updates|-security|/updates)?/?$"
)
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


@dataclass(frozen=True)
class AptSource:
    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: Path | None = None


class Mirrors(Frozen):
    """Where Debian comes from on this host."""

    main: str = DEFAULT_MIRROR
    has_updates: bool = False
    security: str | None = None
    keyrings: list[Path] = []

    def lines(self, suite: str) -> list[str]:
        """For sources.list of a machine with this release."""
        lines = [f"deb {self.main} {suite} main"]
        if self.has_updates:
            lines.append(f"deb {self.main} {suite}-updates main")
        if self.security is not None:
            lines.append(f"deb {self.security} {suite}-security main")
        return lines


def host_mirrors(apt_folder: Path) -> Mirrors:
    """From sources.list and sources.list.d; Debian's own CDN where this host has no Debian mirror."""
    debian = [source for source in read_sources(apt_folder) if _is_debian(source)]
    archives = [source for source in debian if any("security" not in suite for suite in source.suites)]
    if not archives:
        return Mirrors(keyrings=_keyrings([]))
    # Others also publish a "bookworm main"; Debian's mirrors carry the updates suite and "debian" in their path.
    best = max(archives, key=lambda source: _likeness(source.uri, archives))
    secure = next((one for one in debian if any("security" in suite for suite in one.suites)), None)
    chosen = [best, *([secure] if secure else [])]
    return Mirrors(
        main=best.uri,
        has_updates=_has_updates(best.uri, archives),
        security=secure.uri if secure else None,
        keyrings=_keyrings([one.signed_by for one in chosen if one.signed_by is not None]),
    )


def read_sources(apt_folder: Path) -> list[AptSource]:
    """All enabled binary sources in the order apt reads them."""
    parts = apt_folder / "sources.list.d"
    paths = [apt_folder / "sources.list", *(sorted(parts.iterdir()) if parts.is_dir() else [])]
    sources: list[AptSource] = []
    for path in paths:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".list":
            sources += _one_line(text)
        elif path.suffix == ".sources":
            sources += _deb822(text)
    return sources


def _one_line(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        found = _ONE_LINE.match(line.partition("#")[0].strip())
        uri = _plain_uri(found["uri"]) if found else None
        if found and uri:
            signed_by = re.search(r"signed-by=(/\S+)", found["options"] or "")
            yield AptSource(
                uri, (found["suite"],), tuple(found["components"].split()), Path(signed_by[1]) if signed_by else None
            )


def _deb822(text: str) -> Iterator[AptSource]:
    text = re.sub(r"(?m)^#.*\n?", "", text)
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for key, value in re.findall(r"(?m)^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza):
            fields[key.lower()] = " ".join(value.split())
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        signed_by = fields.get("signed-by", "")
        keyring = Path(signed_by) if signed_by.startswith("/") else None
        for uri in filter(None, map(_plain_uri, fields.get("uris", "").split())):
            suites, components = fields.get("suites", "").split(), fields.get("components", "").split()
            yield AptSource(uri, tuple(suites), tuple(components), keyring)


def _plain_uri(uri: str) -> str | None:
    """http(s) as it is; mirror+file:LIST (cloud images have that) by its first line; nothing for the rest."""
    if uri.startswith("mirror+file:"):
        listed = Path(re.sub(r"^mirror\+file:/*", "/", uri))
        lines = listed.read_text(errors="replace").splitlines() if listed.is_file() else []
        uri = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else None


def _is_debian(source: AptSource) -> bool:
    return "main" in source.components and any(_SUITE.fullmatch(suite) for suite in source.suites)


def _has_updates(uri: str, sources: list[AptSource]) -> bool:
    return any(one.uri == uri and any(suite.endswith("-updates") for suite in one.suites) for one in sources)


def _likeness(uri: str, sources: list[AptSource]) -> int:
    where = urlsplit(uri)
    of_debian = (where.hostname or "").endswith(".debian.org")
    return 2 * of_debian + 2 * _has_updates(uri, sources) + ("/debian" in where.path + "/")


def _keyrings(of_host: list[Path]) -> list[Path]:
    return [path for path in dict.fromkeys([DEBIAN_KEYRING, *of_host]) if path.is_file()]
