"""`skerry service`: what stands behind -- is a command, and never the name that was left out."""

from __future__ import annotations

from skerry.cli.service_token import limits_of
from tests.cli.conftest import Skerry


def test_a_command_is_not_taken_for_the_name(skerry: Skerry) -> None:
    done = skerry("service", "create", "--image", "debian:12", "--port", "80", "--", "true")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: Missing argument 'NAME'.")


def test_limits_are_shown_with_what_they_count() -> None:
    given = {"requests_per_minute": 5, "tokens_per_minute": 30, "concurrency": 2, "budget_tokens": 9}
    assert limits_of({"spec": {"limits": given}}) == "5 requests/min, 30 tokens/min, 2 at once, 9 tokens in all"
    assert limits_of({"spec": {"limits": {}}}) == "none"
