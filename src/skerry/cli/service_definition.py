"""`skerry service create --definition`: a service for each model of Backend.AI's model-definition.yaml."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.output import human_size
from skerry.cli.service_advice import advised
from skerry.client import flows
from skerry.client.calls import services as calls
from skerry.errors import Failed, Invalid, SkerryError, told_of


def bodies(path: Path, name: str | None, given: dict[str, Any]) -> list[dict[str, Any]]:
    """What is to be created. `path`: the file, or the folder with it. `given`: by flags, which win. Raises Invalid with
    the file and the path in it."""
    from skerry.engines.definition import services  # here only, for it brings the models along

    image = given.pop("image", None)
    if image is None:
        raise click.UsageError("a model definition does not say in which image it runs: give --image")
    file, text = _read(path)
    try:
        found = services(text, image, given)
    except Invalid as error:
        of_flags = error.field is not None and error.field.partition(".")[0].partition("[")[0] in given
        raise error if of_flags else told_of(str(file), error) from None
    if name is not None and len(found) > 1:
        raise click.UsageError(f"{file} has {len(found)} services, which have their names from it: leave {name} out")
    made = [spec.model_dump(mode="json", exclude_unset=True, exclude_none=True) for spec in found]
    return [{**body, "name": name} for body in made] if name is not None else made


def create_all(invocation: Invocation, wanted: list[dict[str, Any]], wait: bool) -> list[Any]:
    """All are begun before one is waited for."""
    begun: list[Any] = []
    for body in wanted:
        try:
            begun.append(invocation.ask(calls.create(body)))
        except SkerryError as error:
            raise told_of(body["name"], error) from None
    return [_ended(invocation, body) for body in begun] if wait else begun


def _ended(invocation: Invocation, body: Any) -> Any:
    if body.get("operation"):
        try:
            invocation.run(flows.finish(body["operation"], deadline_s=time.monotonic() + flows.TIMEOUT_S))
        except Failed as error:
            raise advised(invocation, body["name"], error) from None
        except SkerryError as error:
            raise told_of(body["name"], error) from None
    return invocation.ask(calls.get(body["id"]))


def _read(path: Path) -> tuple[Path, str]:
    from skerry.engines.definition import FILE_BYTES_MAX, FILE_NAMES

    if path.is_dir():
        there = [path / name for name in FILE_NAMES if (path / name).is_file()]
        if not there:
            raise Invalid(f"{path}: there is no {' or '.join(FILE_NAMES)} in it")
        path = there[0]
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Invalid(f"{path}: a model definition has at most {human_size(FILE_BYTES_MAX)}")
        return path, path.read_text()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path}: this is not text") from None
