"""Names, sizes, labels, paths and ids: what is taken, what is refused, and that the words say which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from skerry.model.amounts import format_size
from skerry.model.fields import Env, GuestPath, Labels, Name, Size, parse_size
from skerry.model.identity import PREFIX, make_id
from skerry.model.image import ImageRequest, image_name
from skerry.model.sandbox import MIB, ForkRequest, SandboxSpec

UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4, "KB": 1000, "MB": 1000**2}


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_size_with_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]
    assert parse_size(f"{number}{unit.lower()}") == number * UNITS[unit]


@given(st.integers(0, 2**50))
def test_format_reads_back_within_a_rounding(size_bytes: int) -> None:
    again = parse_size(format_size(size_bytes))
    assert abs(again - size_bytes) <= max(1, size_bytes * 0.05)
    assert len(format_size(size_bytes)) <= 8


@given(st.text())
def test_size_is_understood_or_refused_never_anything_else(text: str) -> None:
    try:
        size_bytes = TypeAdapter(Size).validate_python(text)
    except ValidationError:
        return
    assert size_bytes >= 0


@pytest.mark.parametrize("text", ["-1", "1e9", "0x10", "1.5.2GiB", "GiB", "1 000", "١GiB", "1\u212aB", "1GiBs", ""])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Size).validate_python(text)


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_names(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a" * 64, "a\n", "a b", "../a", "a\0", "sb-0123456789ab"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@given(st.text(max_size=60))
def test_guest_path_is_absolute_and_never_climbs(text: str) -> None:
    try:
        path = TypeAdapter(GuestPath).validate_python(text)
    except ValidationError:
        return
    assert path.startswith("/")
    assert ".." not in path.split("/")
    assert "\0" not in path


def test_labels_and_env_have_limits() -> None:
    assert TypeAdapter(Labels).validate_python({f"k{n}": "v" for n in range(64)})
    for bad in ({f"k{n}": "v" for n in range(65)}, {"": "v"}, {"a" * 64: "v"}, {"a": "v" * 257}, {"a": "x\n"}):
        with pytest.raises(ValidationError):
            TypeAdapter(Labels).validate_python(bad)
    for bad in ({f"K{n}": "v" for n in range(513)}, {"A=B": "v"}, {"A": "x\0"}, {"A": "x" * 131_073}, {"": "x"}):
        with pytest.raises(ValidationError):
            TypeAdapter(Env).validate_python(bad)


@given(st.sampled_from(sorted(PREFIX)), st.binary(min_size=6, max_size=6))
def test_ids_tell_their_noun_and_keep_their_chance(noun: str, chance: bytes) -> None:
    prefix, _, digits = make_id(noun, chance).partition("-")
    assert (prefix, bytes.fromhex(digits)) == (PREFIX[noun], chance)
    assert len(set(PREFIX.values())) == len(PREFIX)


@pytest.mark.parametrize("length", [0, 5, 7])
def test_id_needs_six_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="6 random bytes"):
        make_id("sandbox", bytes(length))


def test_image_names() -> None:
    assert image_name("debian") == "debian:latest"
    assert image_name("team/tools") == "team/tools:latest"
    assert image_name("debian:12") == "debian:12"
    for bad in ("", "Debian", "a:b:c", "../x", "a//b", "/x", "x:", "x" * 300, "a b", "a\n"):
        with pytest.raises(ValueError, match="expected an image name"):
            image_name(bad)


@pytest.mark.parametrize("target", ["/", "/proc", "/proc/x", "/sys", "/dev/shm", "/.skerry", "/.skerry/run"])
def test_reserved_mount_targets(target: str) -> None:
    with pytest.raises(ValidationError, match="reserved"):
        SandboxSpec(image="x", mounts=[{"source": "/srv", "target": target}])  # type: ignore[list-item]


def test_two_mounts_on_one_target() -> None:
    mounts = [{"source": "/a", "target": "/x"}, {"source": "/b", "target": "/x/"}]
    with pytest.raises(ValidationError, match="same target"):
        SandboxSpec(image="x", mounts=mounts)  # type: ignore[arg-type]


@given(st.integers(-5, 200))
def test_fork_count_is_bounded(count: int) -> None:
    if 1 <= count <= 100:
        assert ForkRequest(count=count).count == count
    else:
        with pytest.raises(ValidationError):
            ForkRequest(count=count)


def test_spec_is_frozen_and_closed() -> None:
    spec = SandboxSpec(image="x", memory="64MiB")  # type: ignore[arg-type]
    assert spec.memory == 64 * MIB
    with pytest.raises(ValidationError):
        spec.memory = 1
    with pytest.raises(ValidationError):
        SandboxSpec(image="x", memroy=1)  # type: ignore[call-arg]
    assert SandboxSpec.model_validate_json(spec.model_dump_json()) == spec


def test_image_comes_from_exactly_one_place() -> None:
    for bad in ({}, {"source": "docker://a", "recipe": "debian:12"}, {"source": "docker://a", "include": ["vim"]}):
        with pytest.raises(ValidationError):
            ImageRequest(name="x", **bad)  # type: ignore[arg-type]
