"""What a user may ask of secrets, and that no finding about a value shows it."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.client.calls import secrets as calls
from skerry.model.explain import explain
from skerry.model.sandbox import SandboxSpec
from skerry.model.secret import VALUE_BYTES_MAX, SecretRequest, SecretUse, is_text

HUSH = "hunter2-hush"


def test_the_client_knows_the_limit() -> None:
    assert calls.VALUE_BYTES_MAX == VALUE_BYTES_MAX


@pytest.mark.parametrize(
    "body",
    [
        {"value": [HUSH]},
        {"value": {"value": HUSH}},
        {"base64": HUSH + "!"},
        {"value": HUSH, "base64": base64.b64encode(HUSH.encode()).decode()},
        {"value": HUSH * VALUE_BYTES_MAX},
        {"value": HUSH + chr(0xD800)},
        {"base64": base64.b64encode(HUSH.encode() * VALUE_BYTES_MAX).decode()},
        {"value": HUSH, "labels": {"a b": "c"}},
        {"value": HUSH, "surplus": 1},
    ],
)
def test_what_is_wrong_with_a_value_is_said_without_it(body: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        SecretRequest.model_validate(body)
    said = explain(caught.value).say + str(caught.value) + repr(caught.value)
    assert HUSH not in said
    assert base64.b64encode(HUSH.encode()).decode()[:12] not in said


def test_a_number_is_no_value_and_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        SecretRequest.model_validate({"value": 8315})
    assert explain(caught.value).say == "value: expected text"


@given(st.binary(min_size=1, max_size=300))
def test_bytes_come_back_as_they_were(value: bytes) -> None:
    request = SecretRequest.model_validate(calls.set_value("x", value).body)
    assert request.plain() == value
    assert repr(value) not in repr(request)
    if is_text(value):
        assert SecretRequest.model_validate(calls.set_value("x", value.decode()).body).plain() == value


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", (None, "/run/secrets/a")),
        ("a=TOKEN", ("TOKEN", None)),
        ("a:/srv/a=b:c", (None, "/srv/a=b:c")),
    ],
)
def test_a_use_as_text(text: str, place: tuple[str | None, str | None]) -> None:
    use = SecretUse.model_validate(calls.use_from_text(text))
    assert (use.env, use.path) == place
    assert calls.text_of(use.model_dump(mode="json")) == text


@pytest.mark.parametrize(
    ("secrets", "more", "said"),
    [
        (["a=T", "b=T"], {}, "secrets[1].env: T is set by secrets[0] already"),
        (["a=T"], {"env": {"T": "x"}}, "secrets[0].env: T is set by env already"),
        (["a", "a"], {}, "secrets[1].file: /run/secrets/a is in the way of secrets[0]"),
        (["a:/srv/x", "b:/srv/x/y"], {}, "secrets[1].file: /srv/x/y is in the way of secrets[0]"),
        (["a:/data/key"], {"mounts": [{"source": "/srv", "target": "/data"}]}, "is in the way of mount /data"),
        (["a:/etc/hosts"], {}, "secrets[0].file: /etc/hosts is reserved"),
        (["a:/proc/1/environ"], {}, "reserved"),
        (["a=2X"], {}, "secrets[0].env: '2X' is not allowed"),
        (["a:x"], {}, "secrets[0].file: 'x' is not allowed"),
        ([{"name": "a", "env": "A", "mode": "0444"}], {}, "user and mode are a file's"),
        ([{"name": "a", "mode": "4755"}], {}, "secrets[0].mode: '4755' is not allowed"),
    ],
)
def test_uses_that_clash_are_refused(secrets: list[Any], more: dict[str, Any], said: str) -> None:
    body = {"image": "x", "secrets": calls_body(secrets), **more}
    with pytest.raises(ValidationError) as caught:
        SandboxSpec.model_validate(body)
    assert re.search(re.escape(said), explain(caught.value).say)


def calls_body(secrets: list[Any]) -> list[Any]:
    return [calls.use_from_text(each) if isinstance(each, str) else each for each in secrets]


def test_a_spec_is_read_back_as_it_was_written() -> None:
    spec = SandboxSpec.model_validate({"image": "x", "secrets": calls_body(["a", "b=B", "c:/srv/c"])})
    assert (
        SandboxSpec.model_validate(spec.model_dump()) == SandboxSpec.model_validate_json(spec.model_dump_json()) == spec
    )
