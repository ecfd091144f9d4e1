"""Requests as spans, in the JSON that OTLP has over HTTP; names of attributes are those of OpenTelemetry's conventions
for generative AI, and `skerry.…` where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from skerry.gateway.services.trace import Trace

WAITED_S = 0.001
"""What is shorter was no wait: the next replica was chosen at once."""
_SERVER, _CLIENT, _INTERNAL = 2, 3, 1
_ERROR = 2
_OPERATIONS = {"chat/completions": "chat", "completions": "text_completion", "responses": "chat"}


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that is over. Times are those of the machine's clock that does not jump."""

    trace: Trace
    began_s: float
    first_s: float
    ended_s: float
    status: int
    path: str
    request_id: str
    service: str
    project: str
    policy: str
    model: str
    client: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def encoded(requests: Iterable[Ended], resource: dict[str, str], wall_offset_s: float) -> bytes:
    """`wall_offset_s`: what the machine's clock lacks to the seconds since 1970."""
    spans = [span for each in requests for span in _spans(each, wall_offset_s)]
    scope = {"scope": {"name": "skerry.gateway"}, "spans": spans}
    return to_json({"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]})


def _spans(request: Ended, offset_s: float) -> list[dict[str, Any]]:
    trace, path = request.trace, request.path.removeprefix("/v1/")
    name = f"{_OPERATIONS.get(path, path)} {request.model or request.service}"
    own: dict[str, Any] = {
        "gen_ai.operation.name": _OPERATIONS.get(path, path),
        "gen_ai.request.model": request.model,
        "http.request.method": "POST",
        "http.response.status_code": request.status,
        "url.path": request.path,
        "skerry.service": request.service,
        "skerry.project": request.project,
        "skerry.client": request.client,
        "skerry.request_id": request.request_id,
    }
    if request.first_s:
        own["gen_ai.usage.input_tokens"] = request.prompt_tokens
        own["gen_ai.usage.output_tokens"] = request.completion_tokens
        own["skerry.cached_tokens"] = request.cached_tokens
        own["skerry.first_byte_s"] = request.first_s - request.began_s
    whole = (request.began_s + offset_s, request.ended_s + offset_s)
    failed = f"status {request.status}" if request.status >= 500 or request.status == 0 else ""
    spans = [_span(trace.id, trace.span, trace.parent, name, _SERVER, whole, own, failed)]
    since_s = request.began_s
    for number, attempt in enumerate(trace.attempts):
        if attempt.began_s - since_s > WAITED_S:
            spans.append(_wait(trace, number, since_s + offset_s, attempt.began_s + offset_s))
        since_s = attempt.ended_s or request.ended_s
        told = {"skerry.replica": attempt.replica, "skerry.policy": request.policy, "skerry.why": attempt.why}
        when = (attempt.began_s + offset_s, since_s + offset_s)
        last = failed if attempt is trace.attempts[-1] else ""
        spans.append(_span(trace.id, attempt.id, trace.span, "attempt", _CLIENT, when, told, attempt.because or last))
    if request.ended_s - since_s > WAITED_S:
        spans.append(_wait(trace, len(trace.attempts), since_s + offset_s, request.ended_s + offset_s))
    return spans


def _wait(trace: Trace, number: int, began_s: float, ended_s: float) -> dict[str, Any]:
    # Its id follows from the request's own: a wait is nobody's parent.
    span = f"{(int(trace.span, 16) + number + 1) % 2**64:016x}"
    return _span(trace.id, span, trace.span, "queue", _INTERNAL, (began_s, ended_s), {}, "")


def _span(
    trace: str,
    span: str,
    parent: str,
    name: str,
    kind: int,
    when: tuple[float, float],
    told: dict[str, Any],
    failed: str,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": trace,
        "spanId": span,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(int(when[0] * 1e9)),
        "endTimeUnixNano": str(int(when[1] * 1e9)),
        "attributes": _attributes(told),
    }
    if parent:
        found["parentSpanId"] = parent
    if failed:
        found["status"] = {"code": _ERROR, "message": failed}
    return found


def _attributes(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in told.items()]


def _value(value: str | int | float) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
