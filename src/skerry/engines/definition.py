"""Backend.AI's `model-definition.yaml`, as it is, as services of ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from skerry.errors import Invalid
from skerry.model.explain import explain
from skerry.model.fields import NAME_LENGTH_MAX
from skerry.model.service import EngineName, HealthCheck, ServiceSpec

FILE_NAMES = ("model-definition.yaml", "model-definition.yml")
FILE_BYTES_MAX = 1 << 20
SHELL = "/bin/bash"
GOES_ON = 'name=$1; "$@" || echo "$name ended with $?, which is not taken for a failure" >&2'
"""Backend.AI does not look at how a command of `run_command` ends."""
WRITES = 'file=$1 mode=$2; shift 2; {{ [ $# = 0 ] || printf "{line}" "$@"; }} {arrow} "$file" && chmod "$mode" "$file"'


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""Names that clients can give as `model`. By others a model has its service's name, and its own in the environment."""
OURS = {"models[0]": "name", "model": "model_path", "command": "service.start_command"}
"""Fields of a service -> those of a model definition that they are read from under another name."""


class _Part(BaseModel):
    """Keys may be written with dashes, too."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _underscores(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return cast("object", data)
        return {str(key).replace("-", "_"): value for key, value in cast("dict[Any, Any]", data).items()}


class Health(_Part):
    enable: bool = True
    """Backend.AI has taken a block without it for a check, and later for none; who writes one wants one."""
    path: str = "/health"
    interval: float = 10.0
    max_retries: int = 10
    max_wait_time: float = 15.0
    expected_status_code: int = 200
    initial_delay: float = 60.0


class Action(_Part):
    action: str
    args: dict[str, Any] = {}


class Service(_Part):
    pre_start_actions: Annotated[list[Action], Field(max_length=32)] = []
    start_command: str | list[str] | None = None
    """Text for the shell, or words; None: the image's own."""
    shell: str | None = SHELL
    """None or empty: the text is split into words."""
    port: Annotated[int, Field(gt=1, le=65_535)]
    health_check: Health | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_command(cls, data: Any) -> Any:
        if isinstance(data, dict) and "command" in data:
            known = cast("dict[Any, Any]", data)
            rest = {key: value for key, value in known.items() if key not in ("command", "start_command")}
            return {**rest, "start_command": known["command"] or known.get("start_command")}
        return cast("object", data)


class Model(_Part):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    model_path: Annotated[str, Field(min_length=1, max_length=1000)]
    service: Service | None = None
    metadata: dict[str, Any] | None = None
    """For people and catalogs; nothing here depends on it."""

    @field_validator("model_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError("expected an absolute path in the session, such as /models/llama")
        return path


class Definition(_Part):
    models: Annotated[list[Model], Field(min_length=1, max_length=64)]


def parse(text: str) -> Definition:
    """Raises Invalid with the path of the field."""
    if len(text) > FILE_BYTES_MAX:
        raise Invalid(f"a model definition has at most {FILE_BYTES_MAX} bytes")
    try:
        return Definition.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise Invalid(f"this is not YAML{where}", because=str(error)) from None
    except ValidationError as error:
        raise explain(error, Definition) from None


def services(text: str, image: str, more: Mapping[str, Any] | None = None) -> list[ServiceSpec]:
    """One for each of its models that has a service. `more`: what the file does not say, as fields of a service: its
    resources, and the mount of the folder of models at /models. Raises Invalid."""
    found = [
        _service(model, f"models[{at}]", image, more or {})
        for at, model in enumerate(parse(text).models)
        if model.service is not None
    ]
    if not found:
        raise Invalid("models: none of them has a service", field="models")
    names = [spec.name for spec in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Invalid(f"models: two of them would be service {twice}", field="models")
    return found


def _service(model: Model, path: str, image: str, more: Mapping[str, Any]) -> ServiceSpec:
    service = model.service
    assert service is not None
    known = _Variables(model_name=model.name, model_path=model.model_path)
    steps = [
        _step(action, known, f"{path}.service.pre_start_actions[{at}]")
        for at, action in enumerate(service.pre_start_actions)
    ]
    is_plain = _PLAIN.fullmatch(model.name) is not None
    spec: dict[str, Any] = {
        "name": name_of(model.name),
        "engine": EngineName.COMMAND,
        "image": image,
        "command": _command(service, model.model_path, f"{path}.service.start_command"),
        "prepare": steps,
        "model": model.model_path,
        "models": [model.name] if is_plain else [],
        "env": {} if is_plain else {"BACKEND_MODEL_NAME": model.name},
        "port": service.port,
        "health": _health(service.health_check, f"{path}.service.health_check"),
    }
    try:
        env = {**spec["env"], **more.get("env", {})}
        return ServiceSpec.model_validate({**spec, **more, "env": env})
    except ValidationError as error:
        found = explain(error, ServiceSpec)
        if found.field is not None and found.field.partition(".")[0].partition("[")[0] in more:
            raise found from None
        field, _, said = found.say.partition(": ")
        where = f"{path}.{OURS[field]}" if field in OURS else path
        say = f"{where}: {said}" if field in OURS else f"{where}: as a service, {found.say}"
        raise Invalid(say, field=where) from None


def name_of(name: str) -> str:
    """A model's name as one of a service: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:NAME_LENGTH_MAX].strip("-") or "model"


def _health(check: Health | None, path: str) -> HealthCheck | None:
    if check is None or not check.enable:
        return None
    try:
        return HealthCheck(**check.model_dump(exclude={"enable"}))
    except ValidationError as error:
        found = explain(error, HealthCheck)
        raise Invalid(f"{path}.{found.say}", field=f"{path}.{found.field}") from None


def _command(service: Service, model_path: str, path: str) -> list[str] | None:
    given = service.start_command
    if not given:
        return None
    if isinstance(given, list):
        return [word.replace("{model_path}", model_path) for word in given]
    text = given.replace("{model_path}", model_path)
    if service.shell:
        return [service.shell, "-c", text]
    try:
        return shlex.split(text)
    except ValueError:
        raise Invalid(f"{path}: without a shell, every quote must be closed", field=path) from None


class _Variables(dict[str, str]):
    """What `{…}` in actions stands for; others stay as they are written."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"

    def fill(self, value: Any) -> str:
        text = str(value)
        try:
            return text.format_map(self)
        except (ValueError, IndexError, KeyError, AttributeError):
            return text


def _step(action: Action, known: _Variables, path: str) -> list[str]:
    """A command that does it, in the shell of the image."""
    args = _args(action, path)
    match action.action:
        case "run_command":
            return ["/bin/sh", "-c", GOES_ON, "sh", *(known.fill(word) for word in args["command"])]
        case "mkdir":
            return ["mkdir", "-p", "--", known.fill(args["path"])]
        case "log":
            return ["printf", "%s\\n", known.fill(args["message"])]
        case "write_file":
            script = WRITES.format(line="%s\\n", arrow=">>" if args.get("append") else ">")
            return ["/bin/sh", "-c", script, "sh", known.fill(args["filename"]), *_body(args, known)]
        case _:
            script = 'set -- "$(mktemp /tmp/XXXXXX.py)" "$@"; ' + WRITES.format(line="%s", arrow=">")
            return ["/bin/sh", "-c", script, "sh", *_body(args, known)]


NEEDED: Mapping[str, tuple[str, frozenset[str]]] = {
    "run_command": ("command", frozenset({"echo"})),
    "mkdir": ("path", frozenset()),
    "log": ("message", frozenset({"debug"})),
    "write_file": ("filename", frozenset({"body", "mode", "append"})),
    "write_tempfile": ("body", frozenset({"mode"})),
}
"""Action -> the argument it must have, and those it may."""


def _args(action: Action, path: str) -> dict[str, Any]:
    if action.action not in NEEDED:
        raise Invalid(f"{path}.action: {action.action[:40]!r} is none of {', '.join(NEEDED)}", field=f"{path}.action")
    needed, may = NEEDED[action.action]
    if needed not in action.args:
        raise Invalid(f"{path}.args.{needed}: this field is required", field=f"{path}.args.{needed}")
    for name in action.args:
        if name != needed and name not in may:
            raise Invalid(f"{path}.args.{name}: there is no such field", field=f"{path}.args.{name}")
    listed = action.args.get("command", [""])
    if not isinstance(listed, list) or not listed:
        raise Invalid(f"{path}.args.command: expected a list of words", field=f"{path}.args.command")
    return action.args


def _body(args: Mapping[str, Any], known: _Variables) -> list[str]:
    """The file's mode, then its lines."""
    body = args.get("body", [])
    lines = cast("list[Any]", body) if isinstance(body, list) else [str(body).removesuffix("\n")]
    return [str(args.get("mode", "644")), *(known.fill(line) for line in lines)]
