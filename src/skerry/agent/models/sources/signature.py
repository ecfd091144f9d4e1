"""AWS' signature, version 4, of requests without a body."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from yarl import URL

from skerry.agent.models.sources.web import Headers

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Keys:
    access: str
    secret: str = field(repr=False)
    session: str | None = field(repr=False)
    region: str


def signed(method: str, url: URL, headers: Headers, keys: Keys, now: datetime) -> Headers:
    """`url`: its query in the order of names, and quoted as it is sent."""
    at, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    host = url.host if url.is_default_port() else f"{url.host}:{url.port}"
    given = {**headers, "host": str(host), "x-amz-date": at, "x-amz-content-sha256": EMPTY}
    if keys.session:
        given["x-amz-security-token"] = keys.session
    lower = {name.lower(): " ".join(value.split()) for name, value in given.items()}
    names = sorted(lower)
    canonical = "\n".join(
        [
            method,
            url.raw_path,
            url.raw_query_string,
            *(f"{name}:{lower[name]}" for name in names),
            "",
            ";".join(names),
            EMPTY,
        ]
    )
    scope = f"{day}/{keys.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in (day, keys.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"{keys.access}/{scope}"
    del given["host"]
    return {
        **given,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature}",
    }
