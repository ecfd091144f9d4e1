"""`skerry model …`: weights that sandboxes and services mount, fetched once to a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from skerry.cli import progress
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, sought, yes_option
from skerry.cli.output import Columns, age, human_size, local_time, part, parts
from skerry.cli.removing import delete_each
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.call import Call
from skerry.client.calls import models as calls
from skerry.errors import AlreadyExists

_IN = "Commands"
_HERE = "skerry.cli.model:"
ENTRIES = {
    "pull": Entry(_HERE + "pull", "Fetch one from a hub, a registry, a bucket or a folder.", _IN),
    "list": Entry(_HERE + "list_models", "List models.", _IN),
    "info": Entry(_HERE + "info", "All that is known of a model.", _IN),
    "rm": Entry(_HERE + "remove", "Remove models.", _IN),
    "convert": Entry(_HERE + "convert", "Make a GGUF file of safetensors.", _IN),
    "package": Entry(_HERE + "package", "Make a model as a Modelfile says.", _IN),
    "create": Entry(_HERE + "package", "Make a model as a Modelfile says."),
    "inspect": Entry(_HERE + "info", "All that is known of a model."),
    "show": Entry(_HERE + "info", "All that is known of a model."),
    "delete": Entry(_HERE + "remove", "Remove models."),
    "ls": Entry(_HERE + "list_models", "List models."),
}
HABITS = {
    "run": "skerry service create, then skerry chat NAME",
    "push": "what is here was fetched from somewhere; nothing is sent back",
    "cp": "skerry model pull model://NAME --name OTHER",
}
FILES_SHOWN_MAX = 50


def model_argument(name: str = "model") -> Any:
    return click.argument(name, callback=sought("model"), shell_complete=completing("model"))


@click.command("model", cls=LazyGroup, entries=ENTRIES, habits=HABITS)
def model() -> None:
    """Weights that sandboxes and services mount, read-only. They are fetched once to a machine; equal files are kept
    once."""


@command("pull")
@click.option("--name", metavar="NAME", help="Call it this [after its source].")
@click.option("--endpoint", metavar="URL", help="The server to ask [the source's own].")
@click.option("--secret", metavar="NAME", help="Secret that lets us in [model-hf, model-s3, … if it is set].")
@click.argument("source")
def pull(invocation: Invocation, source: str, name: str | None, endpoint: str | None, secret: str | None) -> None:
    """Fetch a model. One that was cut off goes on where it was.

    \b
      skerry model pull hf://Qwen/Qwen2.5-0.5B-Instruct
      skerry model pull 'hf://bartowski/SmolLM2-135M-Instruct-GGUF@main/*Q8_0*'
      skerry model pull ollama://llama3.2:1b
      skerry model pull s3://weights/llama --endpoint https://minio.example:9000
      skerry model pull oci://registry.example/models/llama:1
      skerry model pull https://host.example/tiny.gguf#sha256=DIGEST
      skerry model pull /srv/models/llama                    a folder that the server shares
      skerry model pull data:/llama                          a folder of the volume data
    """
    _make(invocation, name or source, lambda: calls.create(source, name=name, endpoint=endpoint, secret=secret))


@command("convert")
@click.option("--to", "form", type=click.Choice(["gguf"]), default="gguf", metavar="gguf", help="What to make [gguf].")
@click.option("--type", "kind", type=click.Choice(["f32", "f16", "q8_0"]), default="f16", help="Of its numbers [f16].")
@click.option("--name", metavar="NAME", help="Call it this [NAME-TYPE].")
@model_argument()
def convert(invocation: Invocation, model: str, form: str, kind: str, name: str | None) -> None:
    """Make a GGUF file of the safetensors of MODEL, as a model of its own.

    \b
      skerry model convert qwen2.5-0.5b --to gguf --type q8_0
    """
    title = name or f"{model}-{kind}"
    _make(invocation, title, lambda: calls.create(f"model://{model}", name=title, convert=kind))


@command("package")
@click.option("-f", "--file", "file", type=click.Path(), default="Modelfile", help="What it is made of [Modelfile].")
@click.argument("name")
def package(invocation: Invocation, name: str, file: str) -> None:
    """Make the model NAME as a Modelfile says: FROM, ADAPTER, TEMPLATE, SYSTEM, PARAMETER, LICENSE.

    One of that name is changed, if it is of the same FROM and ADAPTER. These take a model that is here, a source as for
    `pull`, or a folder that the server shares.

    \b
      FROM qwen2.5-0.5b-instruct
      SYSTEM \"\"\"You answer in one sentence.\"\"\"
      PARAMETER temperature 0.2
      PARAMETER stop <|im_end|>
    """
    from skerry.client.modelfile import read_modelfile

    given = read_modelfile(Path(file))
    source, adapters = given.pop("source"), [_adapter(invocation, each) for each in given.pop("adapters", [])]
    try:
        _make(invocation, name, lambda: calls.create(source, name=name, adapters=adapters, **given))
    except AlreadyExists:
        there = invocation.ask(calls.get(name))
        if (there["source"], there["adapters"], there["convert"]) != (source, adapters, None):
            raise
        said = {field: given.get(field) for field in ("template", "system", "parameters", "license")}
        body = invocation.ask(calls.update(name, said))
        invocation.output.one(body, f"{name} says something else now")


def _adapter(invocation: Invocation, source: str) -> str:
    """The name of the adapter, which is fetched first if it is not here."""
    if source.startswith("model://"):
        return source.removeprefix("model://")
    body = _have(invocation, source, lambda: calls.create(source))
    return str(body["name"])


def _make(invocation: Invocation, title: str, request: Callable[[], Call[Any]]) -> None:
    body = _have(invocation, title, request)
    size = f" ({human_size(body['size_bytes'])})" if body.get("size_bytes") else ""
    invocation.output.one(body, f"{body['name']} is {body['state']}{size}")


def _have(invocation: Invocation, title: str, request: Callable[[], Call[Any]]) -> Any:
    """Ask for a model, and show how it comes along; if we are interrupted it is given up, and what was fetched waits
    for the next pull."""
    body = invocation.ask(request())
    if body["state"] == "ready":
        return body
    progress.watch_or_take_back(invocation, body, title, calls.delete, "pulling it again goes on where it was")
    return invocation.ask(calls.get(body["id"]))


@command("list")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
def list_models(invocation: Invocation, name: str | None) -> None:
    """List models."""
    items = invocation.run(
        flows.gather(lambda token: calls.list_page(name=name, limit=flows.PAGE_ITEMS, page_token=token))
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "STATE": lambda item: item["state"],
        "FORMAT": lambda item: part(item, "card").get("format") if item["state"] == "ready" else "-",
        "SIZE": lambda item: human_size(item.get("size_bytes")),
        "SOURCE": lambda item: item["source"],
        "USED BY": lambda item: ", ".join(parts(item, "used_by")) or "-",
        "AGE": lambda item: age(item["created_at"]),
    }
    invocation.output.many(items, columns)


@command("info")
@model_argument()
def info(invocation: Invocation, model: str) -> None:
    """All that is known of MODEL, with its files."""
    body = invocation.ask(calls.get(model))
    files: list[Any] = invocation.ask(calls.files(body["id"]))["items"] if body["state"] == "ready" else []
    if invocation.output.json:
        invocation.output.emit({**body, "contents": files})
        return
    card = part(body, "card")
    parameters = part(card, "parameters")
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": body["state"],
            "reason": body.get("reason"),
            "source": body["source"],
            "revision": body.get("revision"),
            "format": card.get("format"),
            "architecture": card.get("architecture"),
            "size": human_size(body.get("size_bytes")),
            "digest": body.get("digest"),
            "template": _short(card.get("template")),
            "system": _short(card.get("system")),
            "parameters": ", ".join(f"{key}={_text(value)}" for key, value in parameters.items()),
            "license": _short(card.get("license")),
            "adapters": ", ".join(parts(body, "adapters")),
            "used by": ", ".join(parts(body, "used_by")) or "nobody",
            "created": local_time(body["created_at"]),
        }
    )
    for file in files[:FILES_SHOWN_MAX]:
        invocation.output.line(f"{human_size(file['size_bytes']):>10}  {file['path']}")
    if len(files) > FILES_SHOWN_MAX:
        invocation.output.line(f"and {len(files) - FILES_SHOWN_MAX} more; --json shows all")


def _text(value: Any) -> str:
    return " ".join(map(str, cast(list[object], value))) if isinstance(value, list) else str(value)


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}…"


@command("rm")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("models", nargs=-1, required=True, callback=sought("model"), shell_complete=completing("model"))
def remove(invocation: Invocation, models: tuple[str, ...], yes: bool, force: bool) -> None:
    """Remove MODELS from the machine; one that a sandbox mounts is refused."""
    invocation.confirm(f"Remove {', '.join(models)}?", yes or force)
    delete_each(
        invocation,
        models,
        lambda ref: invocation.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s))),
        "removed",
    )
