"""What files and traces become: texts of the right lengths, shared where the trace shared, at its times."""

from __future__ import annotations

import json
import re
import struct
import wave
import zlib
from email.parser import BytesParser
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.bench import build
from skerry.bench.client.target import read_url
from skerry.bench.contract import Record, Request
from skerry.bench.data.images import png
from skerry.bench.data.rows import moment_s
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.errors import Invalid


def plan(data: list[dict[str, Any]], load: dict[str, Any] | None = None, **more: Any) -> Plan:
    load = load or {"concurrency": 1000, "requests": 1000}
    return read_here(Plan, {"url": "http://h:1", "model": "m", "data": data, "load": load, **more})


def sent(wanted: Plan, worker: int = 0, workers: int = 1) -> list[tuple[Request, dict[str, Any]]]:
    """All of it, each answered at once."""
    load, found, now_s = build.load(wanted, worker, workers), [], 0.0
    while True:
        while (request := load.take(now_s)) is not None:
            found.append((request, json.loads(request.body)))
            load.ended(request, Record(request.number, text="said"), now_s)
        if (due_s := load.due_s()) is None:
            return found
        now_s = due_s


def prompt(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def alike(first: list[str], second: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def lines(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_mooncake_shares_prefixes_as_its_blocks_do(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 5000, "input_length": 1100, "output_length": 9, "hash_ids": [1, 2, 3]},
        {"timestamp": 7000, "input_length": 1300, "output_length": 9, "hash_ids": [1, 2, 4]},
        {"timestamp": 7000, "input_length": 600, "output_length": 9, "hash_ids": [5, 2]},
    ]
    data = [{"kind": "mooncake", "path": lines(tmp_path / "trace", *rows)}]
    found = sent(plan(data, {"trace": True, "scale": 4}))
    assert [request.at_s for request, _ in found] == [0.0, 0.5, 0.5]
    words = [prompt(body).split() for _, body in found]
    assert [len(each) for each in words] == [1100, 1300, 600]
    assert 1024 <= alike(words[0], words[1]) < 1024 + 10
    assert alike(words[0], words[2]) < 10
    assert words[0][512:600] == words[2][512:600]
    assert [body["max_tokens"] for _, body in found] == [9, 9, 9]


def test_azure_has_seven_digits_and_ends_its_lines_as_windows_does(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,3,4\r\n2023-11-16 18:15:50.9951690,5,6"
    )
    (tmp_path / "trace").write_bytes(text.encode())
    found = sent(plan([{"kind": "azure", "path": str(tmp_path / "trace")}], {"trace": True}))
    assert [request.at_s for request, _ in found] == [0.0, pytest.approx(4.314579, abs=1e-6)]
    assert [len(prompt(body).split()) for _, body in found] == [3, 5]


def test_moments_as_people_write_them() -> None:
    assert moment_s("1970-01-01T00:00:01.5Z") == 1.5
    later = moment_s("2024-05-10 00:00:00.009930+00:00") - moment_s("2024-05-10 00:00:00+00:00")
    assert later == pytest.approx(0.00993, abs=1e-6)
    assert moment_s("12.5") == moment_s(12.5) == 12.5


def test_sessions_of_bailian_go_on_by_their_parents(tmp_path: Path) -> None:
    def row(chat: int, parent: int, at_s: float, ids: list[int]) -> dict[str, Any]:
        lengths = {"input_length": 16 * len(ids), "output_length": 2}
        return {"chat_id": chat, "parent_chat_id": parent, "timestamp": at_s, "hash_ids": ids, "turn": 1, **lengths}

    rows = [row(1, -1, 1.0, [7]), row(2, -1, 2.0, [8]), row(3, 1, 3.0, [7, 9]), row(4, 3, 9.0, [7, 9, 11])]
    data = [{"kind": "bailian", "path": lines(tmp_path / "trace", *rows)}]
    found = sent(plan(data, {"trace": True}))
    assert [(r.session, r.turn, r.at_s) for r, _ in found] == [(0, 0, 0.0), (1, 0, 1.0), (0, 1, 2.0), (0, 2, 8.0)]
    first, _, second, third = (prompt(body) for _, body in found)
    assert second.startswith(first)
    assert third.startswith(second)
    assert [len(body["messages"]) for _, body in found] == [1] * 4


def test_rows_sharegpt_and_logs(tmp_path: Path) -> None:
    rows = lines(tmp_path / "a.jsonl", {"prompt": "one two", "output_tokens": 3}, {"messages": [{"role": "user"}]})
    (tmp_path / "b.csv").write_text('prompt,max_tokens\r\n"x, y",4\r\n')
    said = [{"from": "human", "value": "a b"}, {"from": "gpt", "value": "c d e"}, {"from": "human", "value": "f"}]
    (tmp_path / "c.json").write_text(json.dumps([{"conversations": [*said, {"from": "gpt", "value": "g"}]}]))
    body = {"model": "other", "messages": [], "temperature": 0.5}
    log = lines(tmp_path / "d.log", {"timestamp": "2024-01-01T00:00:02Z", "body": body})
    found = [body for _, body in sent(plan([{"kind": "jsonl", "path": rows, "output_tokens": "7"}]))]
    assert [(each["messages"], each["max_tokens"]) for each in found] == [
        ([{"role": "user", "content": "one two"}], 3),
        ([{"role": "user"}], 7),
    ]
    (found,) = (body for _, body in sent(plan([{"kind": "csv", "path": str(tmp_path / "b.csv")}])))
    assert (prompt(found), found["max_tokens"]) == ("x, y", 4)
    talk = sent(plan([{"kind": "sharegpt", "path": str(tmp_path / "c.json"), "turns": "9"}]))
    assert [(prompt(each), each["max_tokens"]) for _, each in talk] == [("a b", 3), ("f", 1)]
    assert [request.body for request, _ in sent(plan([{"kind": "log", "path": log}]))] == [
        json.dumps(body, separators=(",", ":")).encode()
    ]


def test_who_asks_and_with_which_headers(tmp_path: Path) -> None:
    own = {"Authorization": "Bearer b"}
    rows = lines(tmp_path / "a.jsonl", {"prompt": "x", "user": "a"}, {"prompt": "y", "user_id": 7, "headers": own})
    logged = lines(tmp_path / "d.log", {"body": {"messages": [], "user": "c"}}, {"body": {"prompt": ""}, "user": "d"})
    found = sent(plan([{"kind": "jsonl", "path": rows}]))
    assert [(request.user, dict(request.headers), body["user"]) for request, body in found] == [
        ("a", {}, "a"),
        ("7", own, "7"),
    ]
    assert [request.user for request, _ in sent(plan([{"kind": "log", "path": logged}]))] == ["c", "d"]
    for wrong in ("a: b", {"a": "b\r\nc: d"}, {"a:b": "c"}):
        broken = lines(tmp_path / "b.jsonl", {"prompt": "x", "headers": wrong})
        with pytest.raises(Invalid, match="row 1: headers are names and values on one line each"):
            sent(plan([{"kind": "jsonl", "path": broken}]))


def test_scenarios_are_mixed_by_weight_whatever_the_workers(tmp_path: Path) -> None:
    data = [{"name": "a", "weight": 3}, {"name": "b", "output_tokens": "5"}]
    wanted = plan(data, {"concurrency": 10, "requests": 400})
    alone = [request.scenario for request, _ in sent(wanted)]
    assert 0.65 < alone.count("a") / len(alone) < 0.85
    parts = [sent(wanted, worker, 2) for worker in range(2)]
    assert [r.scenario for pair in zip(*parts, strict=True) for r, _ in pair] == alone


def test_a_file_ends_or_begins_anew(tmp_path: Path) -> None:
    rows = lines(tmp_path / "a.jsonl", {"prompt": "x"}, {"prompt": "y"})
    load = {"concurrency": 1, "requests": 5}
    assert len(sent(plan([{"kind": "jsonl", "path": rows}], load))) == 2
    assert len(sent(plan([{"kind": "jsonl", "path": rows, "repeat": True}], load))) == 5
    with pytest.raises(Invalid, match="no times"):
        sent(plan([{"kind": "jsonl", "path": rows}], {"trace": True}))


def test_pictures_have_their_size() -> None:
    found = png(70, 33, np.random.default_rng(1))
    assert struct.unpack(">II", found[16:24]) == (70, 33)
    at = found.index(b"IDAT")
    (length,) = struct.unpack(">I", found[at - 4 : at])
    assert len(zlib.decompress(found[at + 4 : at + 4 + length])) == 33 * (1 + 70 * 3)
    body = sent(plan([{"image_sizes": ["8x8"]}], {"concurrency": 1, "requests": 1}))[0][1]
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_sound_is_sent_as_a_form() -> None:
    wanted = plan([{"sound": "2"}], {"concurrency": 1, "requests": 1}, api="transcriptions", stream=False)
    request = build.load(wanted).take(0.0)
    assert request is not None
    head = read_url("http://h:1").heads()[request.api]
    message = BytesParser().parsebytes(head.split(b"\r\n", 1)[1] + b"\r\n" + request.body)
    model, sound = message.get_payload()
    assert model.get_payload(decode=True).strip() == b"m"
    with wave.open(BytesIO(sound.get_payload(decode=True))) as found:
        assert (found.getframerate(), found.getnchannels(), found.getnframes()) == (16_000, 1, 32_000)


@pytest.mark.parametrize("kind", ["mooncake", "azure", "bailian", "jsonl", "csv", "sharegpt", "log"])
@pytest.mark.parametrize("text", ["nonsense\n{", '{"a": 1}', "a,b\n1,2"])
def test_files_that_are_none(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    if (kind, text) in {("azure", '{"a": 1}'), ("csv", '{"a": 1}'), ("jsonl", '{"a": 1}')}:
        path.write_text("a\n1")  # of one line a CSV has the head alone, and no row to complain of
    with pytest.raises(Invalid, match=re.escape(str(path))) as failed:
        sent(plan([{"kind": kind, "path": str(path)}]))
    assert failed.value.field == "data.path"
