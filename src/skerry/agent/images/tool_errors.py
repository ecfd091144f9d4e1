"""What skopeo and umoci say when they fail, in the words of our own errors; no password of anyone's gets through."""

from __future__ import annotations

import re

from skerry.errors import Failed, Invalid, NoRoom, NotFound, SkerryError, Unauthenticated, Unavailable

RETRY_AFTER_S = 10.0

_SECRETS = (
    (re.compile(r"://[^/@\s\"]+@"), "://…@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 …"),
    (
        re.compile(r"(?i)\b((?:access_|refresh_)?token|password|passwd|secret|signature|x-amz-[a-z-]+)=[^&\s\"]+"),
        r"\1=…",
    ),
)

# First match wins: a registry answers "denied" and "unauthorized" in one sentence with others.
_REGISTRY: tuple[tuple[str, type[SkerryError], str], ...] = (
    (
        r"manifest unknown|name unknown|repository name not known|manifest for .* not found|ode:? 404",
        NotFound,
        "there is no image {image} at registry {host}",
    ),
    (
        r"unauthorized|authentication required|denied|ode:? 40[13]|invalid username/password|Forbidden|registry 40[13]",
        Unauthenticated,
        "registry {host} does not give us {image}: it does not exist, or needs `skopeo login {host}` on this machine",
    ),
    (
        r"toomanyrequests|too many requests|StatusCode: 429",
        Unavailable,
        "registry {host} says that this machine asks too often",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        Invalid,
        "registry {host} speaks plain HTTP; that takes --insecure, and a registry on this machine",
    ),
    (r"x509|certificate|tls: ", Unavailable, "registry {host} has a certificate that this machine does not trust"),
    (
        (
            r"connection refused|no such host|time-?out|deadline exceeded|network is unreachable|no route to host"
            r"|connection reset|EOF|ode:? 5\d\d|server misbehaving|proxyconnect"
        ),
        Unavailable,
        "registry {host} cannot be reached",
    ),
    (
        r"[Dd]igest did not match|digest.*(mismatch|does not match)|[Ss]ize mismatch|blob size mismatch",
        Failed,
        "registry {host} sent other content for {image} than its digest promises",
    ),
)

_LOCAL: tuple[tuple[str, type[SkerryError], str], ...] = (
    (r"no space left on device|disk quota exceeded", NoRoom, "the disk is full"),
    (
        r"cannot be mapped|no mapping|unmap|map rootfs",
        Invalid,
        "the image has files of a user or group beyond 65535, which no sandbox can have",
    ),
    (r"device or resource busy", Invalid, "the image has a layer that deletes more than its own files"),
    (
        r"expected 1 item, got|more than one image|choose an image",
        Invalid,
        "the archive holds several images; save one image per archive",
    ),
    (
        r"unexpected EOF|gzip: |flate: corrupt|archive/tar|invalid header|(did|does) not match|mismatch|manifest\.json",
        Invalid,
        "the image is damaged: {hint}",
    ),
)


def scrub(text: str) -> str:
    """Without what looks like a credential."""
    for pattern, harmless in _SECRETS:
        text = pattern.sub(harmless, text)
    return text


def from_registry(stderr: str, *, host: str, image: str) -> SkerryError:
    words = scrub(stderr.strip())
    path, tag = image.partition("@")[0].partition(":")[::2]
    reason = words.replace(f"{host}/{path}", "").replace(f"manifest {tag} in", "")  # it may be called "timeout"
    for pattern, kind, sentence in _REGISTRY:
        if re.search(pattern, reason):
            retry_after_s = RETRY_AFTER_S if kind is Unavailable else None
            return kind(sentence.format(host=host, image=image), because=words, retry_after_s=retry_after_s)
    return from_local(stderr, f"skopeo cannot fetch {image} from registry {host}")


def from_local(stderr: str, failed: str) -> SkerryError:
    """For work on files of ours; `failed` is the sentence where nothing better is known."""
    words = scrub(stderr.strip())
    for pattern, kind, sentence in _LOCAL:
        if re.search(pattern, words):
            found = re.search(rf"[^\n:]*(?:{pattern})[^\n]*", words)
            hint = found.group(0).strip()[:200] if found else ""
            retry_after_s = RETRY_AFTER_S if kind is NoRoom else None
            return kind(sentence.format(hint=hint), because=words, retry_after_s=retry_after_s)
    return Failed(failed, because=words)
