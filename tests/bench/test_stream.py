"""Reading an answer: what brought tokens, when, and what the server counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skerry.bench.client.events import read
from skerry.bench.client.wire import Answer
from skerry.bench.contract import Api, Fault, Record


def event(body: Any) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


def delta(**fields: Any) -> bytes:
    return event({"id": "x", "choices": [{"index": 0, "delta": fields}]})


def answer(parts: list[bytes], *, status: int = 200, kind: bytes = b"text/event-stream") -> Answer:
    """Part `n` comes at second 100 + n."""
    made = Answer()
    made.status, made.headers = status, [(b"Content-Type", kind)]
    made.parts, made.moments = parts, [100.0 + number for number in range(len(parts))]
    made.ended_s = 100.0 + len(parts)
    return made


def taken(parts: list[bytes], api: Api = Api.CHAT, **more: Any) -> Record:
    record = Record(0, sent_s=0.0)
    read(answer(parts, **more), record, api, keep_text=True, begin_s=100.0)
    return record


USAGE = event(
    {
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
    }
)


def test_a_role_alone_is_no_token_and_the_server_counts() -> None:
    parts = [delta(role="assistant", content=""), delta(content="a b"), delta(content=" c"), USAGE, b"data: [DONE]\n\n"]
    record = taken(parts)
    assert (record.first_s, record.last_s, list(record.times_s)) == (1.0, 2.0, [1.0, 2.0])
    assert (record.output_tokens, record.input_tokens, record.cached_tokens) == (5, 9, 4)
    assert record.text == "a b c"
    assert record.ok


def test_reasoning_is_a_token_and_content_has_its_own_time() -> None:
    record = taken([delta(reasoning_content="hm"), delta(reasoning_content="m"), delta(content="yes")])
    assert (record.first_s, record.first_content_s, record.output_tokens) == (0.0, 2.0, 3)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_events_cut_anywhere_have_the_time_of_their_end(size: int) -> None:
    whole = b"".join(
        [delta(content="one"), delta(content="two"), b": kept alive\n\n", delta(content='"3\\": {'), USAGE]
    )
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    record = taken(parts)
    ends = [whole.find(word) for word in (b'one"}', b'two"}', b'{"}')]
    assert record.text == 'onetwo"3\\": {'
    for at, found in zip(ends, record.times_s, strict=True):
        assert found >= at // size


def test_events_of_one_form_are_told_from_others_without_their_text_being_kept() -> None:
    parts = [delta(content=word) for word in ("a", "b", 'q"', "c")] + [delta(content=""), delta(content="d")]
    record = Record(0)
    read(answer(parts), record, Api.CHAT, keep_text=False, begin_s=100.0)
    assert list(record.times_s) == [0.0, 1.0, 2.0, 3.0, 5.0]


def test_several_answers_in_one_event_are_a_moment_and_as_many_tokens() -> None:
    both = event({"choices": [{"index": at, "delta": {"content": word}} for at, word in enumerate(("here", "there"))]})
    alone = event({"choices": [{"index": 1, "delta": {"content": "again"}}]})
    for keep_text in (True, False):
        record = Record(0)
        read(answer([both, both, alone, alone]), record, Api.CHAT, keep_text=keep_text, begin_s=100.0)
        assert (list(record.times_s), record.output_tokens) == ([0.0, 1.0, 2.0, 3.0], 6)
    assert taken([both, alone]).text == "here"


def test_a_form_is_forgotten_with_the_event_that_has_another() -> None:
    """And an event that ends as the form does, but says more, is read as a whole."""
    counted = event(
        {"id": "x", "choices": [{"index": 0, "delta": {"content": "b"}}], "usage": {"completion_tokens": 7}}
    )
    more = event({"id": "x", "choices": [{"index": 0, "delta": {"content": "c", "role": "d"}}]})
    record = Record(0)
    parts = [delta(reasoning="word"), delta(content="word"), counted, delta(content="word"), more, delta(content="a")]
    read(answer(parts), record, Api.CHAT, keep_text=False, begin_s=100.0)
    assert (len(record.times_s), record.output_tokens, record.first_content_s) == (6, 7, 1.0)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [7]},
        {"choices": "none"},
        {"choices": {"index": 0}},
        {"usage": 5, "choices": [None]},
        {"choices": [{"delta": {"content": ["a"]}}]},
        ["choices"],
        7,
    ],
)
def test_what_has_another_form_is_a_failure_and_no_crash(body: Any) -> None:
    assert taken([event(body)]).fault is Fault.CONTENT
    assert taken([json.dumps(body).encode()], kind=b"application/json").fault in (None, Fault.CONTENT)


def test_tokens_are_counted_where_the_server_does_not() -> None:
    whole = json.dumps({"choices": [{"message": {"content": "a b c d"}}]}).encode()
    for parts, kind, counted in (
        ([delta(content="a b"), delta(content=" c"), delta(content=" d e")], b"text/event-stream", 5),
        ([delta(content="a b"), USAGE], b"text/event-stream", 5),
        ([whole], b"application/json", 4),
    ):
        for keep_text in (True, False):
            record = Record(0)
            read(
                answer(parts, kind=kind),
                record,
                Api.CHAT,
                keep_text=keep_text,
                begin_s=100.0,
                count=lambda text: len(text.split()),
            )
            assert record.output_tokens == counted
            assert bool(record.text) == keep_text


def test_windows_lines_and_responses() -> None:
    parts = [
        b"event: response.output_text.delta\r\ndata: "
        + json.dumps({"type": "response.output_text.delta", "delta": "hi"}).encode()
        + b"\r\n\r\n",
        event({"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2}}}),
    ]
    record = taken(parts)
    assert (record.text, record.output_tokens, list(record.times_s)) == ("hi", 2, [0.0])


@pytest.mark.parametrize(
    ("parts", "more", "fault", "say"),
    [
        ([b'{"error": {"message": "too long"}}'], {"status": 400}, Fault.STATUS, "400: too long"),
        ([delta(content="a"), event({"error": {"message": "out of memory"}})], {}, Fault.CONTENT, "out of memory"),
        ([delta(content="a"), event({"object": "error", "message": "too many"})], {}, Fault.CONTENT, "too many"),
        ([b"data: {nonsense\n\n"], {}, Fault.CONTENT, "not JSON"),
        ([b"data: [DONE]\n\n"], {}, Fault.CONTENT, "no token"),
        ([b"<html>"], {"kind": b"application/json"}, Fault.CONTENT, "not JSON"),
    ],
)
def test_what_went_wrong_is_told(parts: list[bytes], more: dict[str, Any], fault: Fault, say: str) -> None:
    record = taken(parts, **more)
    assert record.fault is fault
    assert say in record.say


def test_an_answer_in_one_piece() -> None:
    body = {"choices": [{"message": {"content": "all"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}
    record = taken([json.dumps(body).encode()], kind=b"application/json")
    assert (record.text, record.output_tokens, record.first_s) == ("all", 3, 0.0)


@pytest.mark.parametrize(
    ("api", "body", "text"),
    [
        (Api.EMBEDDINGS, {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 7}}, ""),
        (Api.RERANK, {"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"prompt_tokens": 7}}, ""),
        (
            Api.RESPONSES,
            {"output": [{"content": [{"type": "output_text", "text": "said"}]}], "usage": {"input_tokens": 7}},
            "said",
        ),
        (Api.TRANSCRIPTIONS, {"text": "said", "usage": {"input_tokens": 7}}, ""),
        (Api.COMPLETIONS, {"choices": [{"text": "said"}], "usage": {"prompt_tokens": 7}}, "said"),
    ],
)
def test_answers_of_each_api(api: Api, body: dict[str, Any], text: str) -> None:
    record = taken([json.dumps(body).encode()], api, kind=b"application/json")
    assert (record.fault, record.input_tokens, record.text) == (None, 7, text)
    record = taken([b'{"object": "list", "models": []}'], api, kind=b"application/json")
    assert record.fault is Fault.CONTENT
    assert record.say.startswith("the answer has no ")


def test_sound_is_heard_from_its_first_part_and_nothing_else_is_sound() -> None:
    record = taken([b"RIFF", b"more"], Api.SPEECH, kind=b"audio/wav")
    assert (record.fault, record.first_s, record.ended_s) == (None, 0.0, 2.0)
    assert taken([b"{}"], Api.SPEECH, kind=b"application/json").say == "the answer has no sound"
    parts = [event({"type": "speech.audio.delta", "audio": "UklGRg=="}), event({"type": "speech.audio.done"})]
    assert len(taken(parts, Api.SPEECH).times_s) == 1
    parts = [event({"type": "transcript.text.delta", "delta": "a"}), event({"type": "transcript.text.done"})]
    assert taken(parts, Api.TRANSCRIPTIONS).text == "a"
    failed = {"type": "response.failed", "response": {"error": {"message": "too hot"}}}
    assert taken([event(failed)], Api.RESPONSES).say == "too hot"
