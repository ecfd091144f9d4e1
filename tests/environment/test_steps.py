"""Which steps are due, and what is made of the record that a guest may have written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.environment.provision import record
from skerry.environment.provision.guest import LINE_CHARACTERS_MAX, Lines
from skerry.environment.provision.steps import Step, changed, due, steps_of
from skerry.errors import Conflict, NotFound
from skerry.model.environment import Machine, step_names

WHENS = st.sampled_from(["once", "always", "never"])


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    whens = draw(st.lists(WHENS, max_size=8))
    return [Step(f"s{number}", "run", when, {}, "digest") for number, when in enumerate(whens)]


@given(steps(), st.sets(st.integers(0, 8)), st.booleans())
def test_what_is_due(given_steps: list[Step], numbers: set[int], everything: bool) -> None:
    done = {f"s{number}" for number in numbers}
    found = due(given_steps, done, everything=everything)
    assert found == [step for step in given_steps if step in found], "in the order of the file"
    for step in given_steps:
        expected = {"always": True, "never": False, "once": everything or step.name not in done}[step.when]
        assert (step in found) == expected


@given(steps(), st.integers(0, 8))
def test_what_failed_is_due_again_and_all_after_it(given_steps: list[Step], fails: int) -> None:
    done = {step.name for step in given_steps[:fails] if step.when == "once"}
    again = due(given_steps, done)
    assert [step for step in given_steps[fails:] if step.when != "never"] == [
        step for step in again if step in given_steps[fails:]
    ]


def test_only_what_is_named() -> None:
    given_steps = [Step(name, "run", when, {}, "") for name, when in (("a", "once"), ("b", "never"), ("c", "always"))]
    assert [step.name for step in due(given_steps, {"a"}, ["b", "a"])] == ["a", "b"]
    with pytest.raises(NotFound, match="no step 'x'; there are a, b, c"):
        due(given_steps, {}, ["x"])


def test_names_are_those_of_the_model_and_a_change_is_seen() -> None:
    machine = Machine.model_validate(
        {
            "image": "i",
            "user_data": "#!/bin/sh",
            "provision": [{"run": "a"}, {"name": "b", "script": "f"}, {"run": "c"}],
        }
    )
    body = machine.model_dump(mode="json", by_alias=True)
    found = steps_of(body, lambda source: b"one")
    assert [step.name for step in found] == ["user-data", *step_names(machine.provision)]
    done = {step.name: step.digest for step in found}
    assert changed(found, done) == []
    assert changed(steps_of(body, lambda source: b"two"), done) == ["b"]
    renamed = {**body, "provision": [{**body["provision"][0], "timeout": 5.0, "env": {"A": "1"}}]}
    assert changed(steps_of(renamed, lambda source: b"one"), done) == ["step-1"]


SCALARS = st.sampled_from([None, True, 1, -1, 0.5, "", "text"])
FIELDS = st.dictionaries(st.sampled_from(["digest", "at", "x"]), SCALARS, max_size=3)
WRITTEN = st.dictionaries(
    st.sampled_from(["version", "steps", "folders", "failed"]),
    SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), FIELDS | SCALARS),
)


@given(st.binary(max_size=50) | WRITTEN.map(lambda body: json.dumps(body).encode()))
def test_whatever_a_guest_writes_is_taken(content: bytes) -> None:
    found = record.parse(content)
    found.step_done("a", "b")
    again = record.parse(found.text().encode())
    assert (again.done, again.folders, again.failed) == (found.done, found.folders, None)


def test_what_a_newer_one_wrote_is_refused() -> None:
    with pytest.raises(Conflict, match="newer Skerry"):
        record.parse(b'{"version": 2}')


def test_too_deep_and_too_large() -> None:
    for data in (b"[" * 100_000, b'{"version": 1' + b" " * record.BYTES_MAX + b"}"):
        found = record.parse(data)
        assert found.damaged
        assert found.done == {}


@given(st.lists(st.text("ab\n\ré☃", max_size=30)))
def test_lines_come_whole_however_they_are_cut(pieces: list[str]) -> None:
    lines = Lines()
    got = [line for piece in pieces for line in lines.feed(piece)] + lines.end()
    whole = "".join(pieces)
    expected = whole.split("\n")
    if expected[-1] == "":
        expected.pop()
    last = [] if whole.endswith("\n") else expected[-1:]
    ended = expected[: len(expected) - len(last)]
    assert got == [line.removesuffix("\r") for line in ended] + last


def test_a_line_without_end_is_told_in_pieces() -> None:
    lines = Lines()
    assert [len(line) for line in lines.feed("x" * (LINE_CHARACTERS_MAX * 2 + 1))] == [LINE_CHARACTERS_MAX] * 2
    assert lines.feed("y\n") == ["xy"]
