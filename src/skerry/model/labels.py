"""Labels by which an object remembers the environment that it belongs to. Without pydantic, as the command line is."""

from __future__ import annotations

from collections.abc import Mapping

LABEL_PREFIX = "skerry."
"""Labels that begin so are ours: how an object remembers the environment that it belongs to."""
LABEL_ENVIRONMENT = "skerry.environment"
LABEL_MEMBER = "skerry.member"
LABEL_FILE = "skerry.file"
LABEL_APPLIED = "skerry.applied"
"""Digest of what was declared when it was last made so: tells a changed file from what was changed by hand."""


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Without ours."""
    return {key: value for key, value in labels.items() if not key.startswith(LABEL_PREFIX)}
