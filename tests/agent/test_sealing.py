"""Sealed values: they open with their own key, for what they were sealed for, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Failed
from skerry.sealing import Sealer


def sealer(folder: Path) -> Sealer:
    made = Sealer(folder / "secrets.key")
    made.make_key()
    return made


@given(value=st.binary(max_size=200), bound_to=st.text(max_size=40).filter(str.isprintable))
def test_what_was_sealed_opens_and_looks_different_each_time(
    tmp_path_factory: pytest.TempPathFactory, value: bytes, bound_to: str
) -> None:
    seals = sealer(tmp_path_factory.getbasetemp())
    one, other = seals.seal(value, bound_to), seals.seal(value, bound_to)
    assert one != other
    assert seals.open(one, bound_to) == value
    with pytest.raises(Failed):
        seals.open(one, bound_to + "x")
    form, key_id, text = one.split(".")
    for changed in (f"{form}.{key_id}.{text[:-4]}", f"{form}.{key_id}.AAAA{text[4:]}", "", f"9.{key_id}.{text}"):
        if changed != one:
            with pytest.raises(Failed):
                seals.open(changed, bound_to)


def test_a_key_is_made_once_and_is_the_owners(tmp_path: Path) -> None:
    seals = sealer(tmp_path)
    path = tmp_path / "secrets.key"
    before = path.read_bytes()
    seals.make_key()
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert before.decode().strip() not in repr(vars(seals))


def test_a_key_that_others_may_read_is_refused_and_so_is_another_or_none(tmp_path: Path) -> None:
    seals = sealer(tmp_path)
    path = tmp_path / "secrets.key"
    sealed = seals.seal(b"v", "x")
    path.chmod(0o640)
    with pytest.raises(Failed, match="chmod 600"):
        seals.open(sealed, "x")
    path.unlink()
    with pytest.raises(Failed, match="is missing"):
        seals.open(sealed, "x")
    seals.make_key()
    with pytest.raises(Failed, match="another key"):
        seals.open(sealed, "x")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="cannot be read"):
        seals.open(sealed, "x")
