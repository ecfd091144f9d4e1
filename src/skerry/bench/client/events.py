"""What an answer says: which parts of a stream brought tokens and when, and what the server counted.

Server-sent events are read as the HTML standard has them (section 9.2), as far as OpenAI's API uses them: lines of
`data:`, an empty line between events, `[DONE]` at the end. An event of the same form as one before it differs in its
text alone, and is known by its beginning and its end: JSON is parsed for the first one of each form only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, cast

from skerry.bench.client.wire import Answer
from skerry.bench.contract import Api, Fault, Record

TEXTS = ("content", "text", "reasoning_content", "reasoning", "refusal")
SAY_CHARACTERS_MAX = 300
TOKENS_MAX = 2**31 - 1
"""More are no count."""
ANSWERS: Mapping[Api, str] = {
    Api.CHAT: "choices",
    Api.COMPLETIONS: "choices",
    Api.EMBEDDINGS: "data",
    Api.RERANK: "results",
    Api.RESPONSES: "output",
    Api.TRANSCRIPTIONS: "text",
}
"""What an answer in one piece must have: a 200 of something else than a model server is none."""
CONTENTS = ("response.output_text.delta", "transcript.text.delta")


Count = Callable[[str], int]


def read(
    answer: Answer, record: Record, api: Api, *, keep_text: bool, begin_s: float, count: Count | None = None
) -> None:
    """Fill in the record. `begin_s`: the beginning of the run on the clock of the answer's moments. `count`: of tokens,
    where the server does not."""
    record.status = answer.status
    record.ended_s = answer.ended_s - begin_s
    if answer.status != 200:
        record.fault = Fault.STATUS
        record.say = _said(answer)
        return
    kind = answer.header(b"content-type") or b""
    try:
        if kind.lower().startswith(b"text/event-stream"):
            _Stream(record, keep_text, begin_s).read(answer)
        else:
            _whole(answer, record, api, keep_text, begin_s)
        if count is not None and not record.counted and record.ok:
            record.output_tokens = count(record.text or _text(answer, api))
    except (AttributeError, TypeError, ValueError) as error:  # whoever answers may have put anything anywhere
        record.fault, record.say = Fault.CONTENT, f"the answer is not of the API's form: {error}"[:SAY_CHARACTERS_MAX]


def _text(answer: Answer, api: Api) -> str:
    """Of one that was read without it."""
    found = Record(0)
    read(answer, found, api, keep_text=True, begin_s=0.0)
    return found.text


def _said(answer: Answer) -> str:
    text = b"".join(answer.parts)[:4096].decode(errors="replace")
    try:
        body = _fields(json.loads(text))
        error = body.get("error", body)
        text = str(_fields(error).get("message", error or text))
    except ValueError:
        pass
    return f"{answer.status}: {text.strip()[:SAY_CHARACTERS_MAX]}"


def _whole(answer: Answer, record: Record, api: Api, keep_text: bool, begin_s: float) -> None:
    """Not a stream: nobody saw a first token of it, and its parts are no tokens."""
    kind = answer.header(b"content-type") or b""
    if kind.startswith(b"audio/"):
        record.first_s = answer.moments[0] - begin_s if answer.moments else 0.0
        record.last_s = record.ended_s
        return
    if api is Api.TRANSCRIPTIONS and kind.startswith(b"text/plain"):
        return
    try:
        body = _fields(json.loads(b"".join(answer.parts)))
    except ValueError:
        record.fault, record.say = Fault.CONTENT, "the answer is not JSON"
        return
    if body.get("error"):
        record.fault, record.say = Fault.CONTENT, str(body["error"])[:SAY_CHARACTERS_MAX]
        return
    if not isinstance(body.get(ANSWERS.get(api, "")), str if api is Api.TRANSCRIPTIONS else list):
        record.fault, record.say = Fault.CONTENT, f"the answer has no {ANSWERS.get(api, 'sound')}"
        return
    _count(record, body)
    if keep_text:
        record.text = "".join(_texts(choice.get("message", choice)) for choice in body.get("choices", ()))
        parts = [part for item in body.get("output", ()) for part in item.get("content") or ()]
        record.text += "".join(_texts(part) for part in parts)


class _Stream:
    def __init__(self, record: Record, keep_text: bool, begin_s: float) -> None:
        self._record = record
        self._keep_text = keep_text
        self._begin_s = begin_s
        self._head, self._tail = b"", b""
        """Of an event of one form: what stands before and after its text."""
        self._more = 0
        """Tokens that came beside another in one event: of several choices."""
        self._texts: list[str] = []

    def read(self, answer: Answer) -> None:
        rest = b""
        token, begin_s = self._record.times_s.append, self._begin_s
        head, tail, begin, end, least = b"", b"", 0, 0, 0
        for part, moment in zip(answer.parts, answer.moments, strict=True):
            # Most of what is done here: an event of the known form, whose text has no quotation mark before its end.
            if least and part.startswith(head) and part.endswith(tail) and not rest:
                size = len(part)
                if size > least and part.find(b'"', begin) == size - end:
                    token(moment - begin_s)
                    continue
            if not rest and part.endswith(b"\n\n") and part.find(b"\n\n") == len(part) - 2:
                self._event(part, moment)
            else:
                *events, rest = (rest + part).replace(b"\r\n", b"\n").split(b"\n\n")
                for event in events:
                    self._event(event + b"\n\n", moment)
            if head is not self._head and not self._keep_text:
                head, tail = self._head, self._tail
                begin, end = len(head), len(tail)
                least = begin + end
        if rest.strip():
            self._event(rest, answer.ended_s)
        self._end()

    def _end(self) -> None:
        record = self._record
        if not record.counted:
            record.output_tokens = len(record.times_s) + self._more
        if record.times_s:
            record.first_s, record.last_s = record.times_s[0], record.times_s[-1]
        elif record.fault is None:
            record.fault, record.say = Fault.CONTENT, "the stream brought no token"
        if self._keep_text:
            record.text = "".join(self._texts)

    def _event(self, event: bytes, moment: float) -> None:
        if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
            data = event[6:-2]
        else:
            data = b"\n".join(line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data or data == b"[DONE]":
            return
        try:
            body = _fields(json.loads(data.decode()))
        except ValueError:
            self._fault("an event of the stream is not JSON")
            return
        if body.get("error"):
            self._fault(str(_fields(body["error"]).get("message", body["error"])))
        elif body.get("object") == "error":
            self._fault(str(body.get("message", "an error")))
        else:
            self._body(body, event, moment)

    def _fault(self, say: str) -> None:
        if self._record.fault is None:
            self._record.fault, self._record.say = Fault.CONTENT, say[:SAY_CHARACTERS_MAX]

    def _body(self, body: dict[str, Any], event: bytes, moment: float) -> None:
        if "usage" in body:
            _count(self._record, body)
        if choices := body.get("choices"):
            self._choices(choices, body, event, moment)
            return
        kind = str(body.get("type", ""))
        if kind in ("response.completed", "response.incomplete"):
            _count(self._record, body.get("response") or {})
        elif kind == "response.failed":
            error = _fields(_fields(body.get("response")).get("error"))
            self._fault(str(error.get("message", "the answer failed")))
        delta = body.get("audio") if kind == "speech.audio.delta" else body.get("delta")
        if kind.endswith(".delta") and isinstance(delta, str) and delta:
            self._token(moment, kind in CONTENTS)
            if kind in CONTENTS:
                self._texts.append(delta)

    def _choices(self, choices: list[dict[str, Any]], body: dict[str, Any], event: bytes, moment: float) -> None:
        found = 0
        for choice in choices:
            delta = _fields(choice.get("delta", choice))
            text = _texts(delta)
            if not text and not delta.get("tool_calls") and not delta.get("function_call"):
                continue
            found += 1
            if not choice.get("index"):  # of several answers a conversation goes on with the first
                self._texts.append(text)
            if found == 1:
                content = bool(delta.get("content") or delta.get("text"))
                self._token(moment, content)
                self._learn(event, text if len(choices) == 1 and not body.get("usage") else "")
        self._more += max(0, found - 1)

    def _token(self, moment: float, content: bool) -> None:
        at_s = moment - self._begin_s
        self._record.times_s.append(at_s)
        if content and not self._record.first_content_s:
            self._record.first_content_s = at_s

    def _learn(self, event: bytes, text: str) -> None:
        """The form of an event with one text and nothing counted; others are parsed each time."""
        self._head = self._tail = b""
        for quoted in (json.dumps(text), json.dumps(text, ensure_ascii=False)) if text else ():
            coded = quoted.encode()
            if event.count(coded) == 1:
                at = event.find(coded) + 1
                self._head, self._tail = event[:at], event[at + len(coded) - 2 :]
                return


def _texts(delta: dict[str, Any]) -> str:
    return "".join(found for name in TEXTS if isinstance(found := delta.get(name), str))


def _count(record: Record, body: dict[str, Any]) -> None:
    usage = _fields(body.get("usage"))
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    answer = usage.get("completion_tokens", usage.get("output_tokens"))
    if _is_count(prompt):
        record.input_tokens = prompt
    if _is_count(answer):
        record.output_tokens, record.counted = answer, True
    cached = _fields(usage.get("prompt_tokens_details", usage.get("input_tokens_details"))).get("cached_tokens")
    if _is_count(cached):
        record.cached_tokens = cached


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value <= TOKENS_MAX


def _fields(value: Any) -> dict[str, Any]:
    """Nothing, where it is not an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
