"""`skerry` as a user runs it, inside this process, against a fake control plane."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skerry.cli.invocation import Invocation
from skerry.cli.program import run
from tests.client.fake_control import KEY, FakeControl


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Skerry = Callable[..., Ended]


@pytest.fixture
def control() -> Iterator[FakeControl]:
    # Not tmp_path: the path of a socket is at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="skerry-f-") as folder:
        fake = FakeControl(Path(folder))
        fake.start()
        yield fake
        fake.stop()


@pytest.fixture
def environ(control: FakeControl, tmp_path: Path) -> dict[str, str]:
    return {
        "SKERRY_ADDRESS": control.unix,
        "SKERRY_KEY": KEY,
        "SKERRY_CONFIG": str(tmp_path / "config.toml"),
        "SKERRY_DATA_DIR": str(tmp_path / "data"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def skerry(
    environ: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Skerry]:
    def call(*arguments: str) -> Ended:
        capfd.readouterr()
        code = run(Invocation(environ), list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        return Ended(code, *capfd.readouterr())

    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield call


@pytest.fixture
def box(skerry: Skerry) -> str:
    assert skerry("create", "debian:12", "--name", "box", "-l", "team=a").code == 0
    return "box"
