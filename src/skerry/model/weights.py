"""A model: files of weights with what is known of them, fetched once to a machine and mounted by many, read-only."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from skerry.model.fields import Frozen, Labels, Name, matching
from skerry.model.identity import ID_PATTERN
from skerry.model.moves import Moves
from skerry.model.secret import SealedSecret

MODELS_FOLDER = "/models"
"""Where a sandbox has a model, by its name, unless its mount says otherwise."""
NAME_LENGTH_MAX = 100
TEXT_MAX = 256 * 1024
"""Characters of a template, a system prompt or a license."""
PARAMETERS_MAX = 64
ADAPTERS_MAX = 16
PATH_MAX = 512
MODELS_MAX = 2000


class ModelState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"  # `reason` says why; what was fetched waits for whoever pulls it again
    DELETING = "deleting"
    DELETED = "deleted"


_S = ModelState
MODEL_MOVES: Moves[ModelState] = {
    (_S.CREATING, _S.READY): "create",
    (_S.CREATING, _S.FAILED): "create",
    (_S.DELETING, _S.DELETED): "delete",
    **{(was, _S.DELETING): "api" for was in (_S.CREATING, _S.READY, _S.FAILED)},
}
UNDER_WAY = frozenset({_S.CREATING, _S.DELETING})


class SourceKind(StrEnum):
    HF = "hf"  # a repository of the Hugging Face hub
    S3 = "s3"  # objects below a prefix
    OCI = "oci"  # an artifact of a registry
    OLLAMA = "ollama"  # a model of ollama's registry
    HTTPS = "https"  # a file or an archive of a web server
    FOLDER = "folder"  # of the machine, below one that its operator shares
    VOLUME = "volume"  # or a folder in it
    MODEL = "model"  # one that is here


ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
"""Ends of names of files that are unpacked."""
_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_LOWER = r"[a-z0-9][a-z0-9._-]{0,95}"
_FORMS: dict[SourceKind, tuple[str, str]] = {
    SourceKind.HF: (
        rf"hf://{_PART}/{_PART}(@[A-Za-z0-9_][A-Za-z0-9_.%-]{{0,99}})?(/[^/\0].{{0,299}})?",
        "hf://OWNER/NAME[@REVISION][/FILE or PATTERN]",
    ),
    SourceKind.S3: (r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.{0,900})?", "s3://BUCKET/PREFIX"),
    SourceKind.OCI: (
        rf"oci://{_HOST}/{_LOWER}(/{_LOWER}){{0,7}}(:{_PART}|@sha256:[0-9a-f]{{64}})?",
        "oci://HOST/NAME[:TAG|@DIGEST]",
    ),
    SourceKind.OLLAMA: (
        rf"ollama://({_HOST}/)?({_PART}/)?{_PART}(:{_PART})?",
        "ollama://[HOST/OWNER/]NAME[:TAG]",
    ),
    SourceKind.HTTPS: (
        rf"(https://{_HOST}|http://(localhost|127(\.\d{{1,3}}){{3}})(:\d{{1,5}})?)/[^\s#]{{1,800}}#sha256=[0-9a-f]{{64}}",
        "https://HOST/FILE#sha256=DIGEST",
    ),
    SourceKind.FOLDER: (r"/.{1,1000}", "/FOLDER"),
    SourceKind.VOLUME: (r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:/(?!/).{0,900}", "VOLUME:/FOLDER"),
    SourceKind.MODEL: (r"model://[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?", "model://NAME"),
}
_SCHEMES = {f"{kind.value}://": kind for kind in SourceKind if kind not in (SourceKind.FOLDER, SourceKind.VOLUME)}
_SCHEMES["http://"] = SourceKind.HTTPS  # of this machine only


def kind_of(source: str) -> SourceKind:
    """Raises ValueError with the forms that there are."""
    kind = SourceKind.FOLDER if source.startswith("/") else SourceKind.VOLUME
    for scheme, found in _SCHEMES.items():
        if source.startswith(scheme):
            kind = found
    form, allowed = _FORMS[kind]
    if not re.fullmatch(form, source) or not source.isprintable() or ".." in source.split("/"):
        if kind is SourceKind.VOLUME:
            allowed = ", ".join(allowed for _, allowed in _FORMS.values())
        raise ValueError(f"expected {allowed}")
    return kind


def _source(source: str) -> str:
    kind_of(source)
    return source


def default_name(source: str) -> str:
    """What it is called when nobody says: `hf://Qwen/Qwen2.5-0.5B@v1` -> qwen2.5-0.5b-v1."""
    kind, rest = kind_of(source), source.split("://")[-1].rstrip("/*")
    match kind:
        case SourceKind.HF:
            owner_name, _, revision = rest.partition("@")
            _, name, *path = owner_name.split("/", 2)
            revision, _, more = revision.partition("/")
            parts = [name, "" if revision == "main" else revision, *path, more]
        case SourceKind.OCI | SourceKind.OLLAMA:
            name, _, tag = rest.rsplit("/", 1)[-1].partition("@")[0].partition(":")
            parts = [name, "" if tag == "latest" else tag]
        case SourceKind.HTTPS:
            last = re.sub("%[0-9A-Fa-f]{2}", "-", rest.partition("#")[0].partition("?")[0]).rsplit("/", 1)[-1].lower()
            end = max((each for each in ARCHIVES if last.endswith(each)), key=len, default="")
            parts = [last.removesuffix(end)]
        case _:
            parts = [rest.rstrip("/").rsplit("/", 1)[-1].rstrip(":")]
    text = re.sub(r"[^a-z0-9._-]+", "-", "-".join(part for part in parts if part).lower())
    text = re.sub(r"-{2,}", "-", text)
    return text[:NAME_LENGTH_MAX].strip("-._") or "model"


def _not_an_id(name: str) -> str:
    if ID_PATTERN.fullmatch(name):
        raise ValueError("a name that looks like an id would be taken for one; choose another")
    return name


if TYPE_CHECKING:
    ModelTitle = str
    Endpoint = str
else:
    ModelTitle = Annotated[
        matching(
            r"^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$",
            "1 to 100 lower-case letters, digits, '.', '_' and '-', beginning and ending with a letter or a digit",
        ),
        AfterValidator(_not_an_id),
    ]
    Endpoint = matching(
        r"^https?://[A-Za-z0-9.\[\]:_-]{1,253}(/[!-~]{0,200})?$", "a server's URL such as https://minio.example:9000"
    )
ModelSource = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_source)]
Text = Annotated[str, Field(max_length=TEXT_MAX)]
Parameter = str | int | float | bool | Annotated[list[str], Field(max_length=32)]
Parameters = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,63}$")], Parameter], Field(max_length=PARAMETERS_MAX)
]


class ModelFormat(StrEnum):
    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    OTHER = "other"


class GgufType(StrEnum):
    """How the numbers of a GGUF file are kept."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"


class ModelCard(Frozen):
    """What engines read of a model besides its files."""

    format: ModelFormat = ModelFormat.OTHER
    main: str | None = None
    """The file to name to an engine that wants one, such as a GGUF; None: the folder."""
    architecture: str | None = None
    template: Text | None = None
    """Of a chat, where it is not in the files, in the language of whoever made the model."""
    system: Text | None = None
    """What a chat begins with."""
    parameters: Parameters = {}
    """Such as temperature, num_ctx, stop: ollama's names."""
    license: Text | None = None


class ModelRequest(Frozen):
    """One to fetch, or to make of one that is here (`model://NAME`)."""

    name: ModelTitle | None = None
    """None: after its source."""
    source: ModelSource
    endpoint: Endpoint | None = None
    """The server to ask. None: the source's own, or the one that the machine is set to (`model_endpoints`)."""
    secret: Name | None = None
    """What lets us in: of hf a token, of s3 ACCESS_KEY:SECRET_KEY, of others USER:PASSWORD or a token. None: the secret
    called model-hf, model-s3, model-oci, model-ollama or model-https, if there is one."""
    convert: GgufType | None = None
    """Make a GGUF file of its safetensors."""
    template: Text | None = None
    system: Text | None = None
    parameters: Parameters = {}
    license: Text | None = None
    adapters: Annotated[list[ModelTitle], Field(max_length=ADAPTERS_MAX)] = []
    """Names of models that are LoRA adapters of it."""
    labels: Labels = {}

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        kind = kind_of(self.source)
        if kind in (SourceKind.FOLDER, SourceKind.VOLUME, SourceKind.MODEL) and (self.endpoint or self.secret):
            raise ValueError("endpoint and secret are for sources that are fetched from a server")
        if kind is SourceKind.HTTPS and self.endpoint:
            raise ValueError("endpoint: an https:// source says itself which server to ask")
        return self

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.name is None and kind_of(self.source) is SourceKind.MODEL:
            raise ValueError("name: a model that is made of another one needs a name of its own")
        return self

    @property
    def card(self) -> dict[str, object]:
        """What is said of it here, above what its files say."""
        given = {"template": self.template, "system": self.system, "license": self.license}
        return {key: value for key, value in given.items() if value is not None}


class ModelUpdate(Frozen):
    """What is to be said of a model from now on. A field that is left out stays; null takes away what was said."""

    template: Text | None = None
    system: Text | None = None
    parameters: Parameters | None = None
    """All of them."""
    license: Text | None = None

    def said_after(self, said: ModelCard) -> ModelCard:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return said.model_copy(
            update=given | ({"parameters": given["parameters"] or {}} if "parameters" in given else {})
        )


class ModelFile(Frozen):
    path: str
    size_bytes: int
    sha256: str


class ModelOrder(Frozen):
    """What control tells an agent: have this model. Repeating it changes nothing, and goes on where one was cut off."""

    source: str
    endpoint: str | None = None
    secret: SealedSecret | None = None
    base: str | None = None
    """Id of the volume or the model that its source names."""
    convert: GgufType | None = None


class MadeModel(Frozen):
    """What the agent answers: what it is on this machine."""

    digest: str
    """sha256 of the list of its files: two models with one digest have the same content."""
    size_bytes: int
    revision: str | None = None
    """What the source calls it: a commit, a manifest's digest."""
    files: list[ModelFile]
    card: ModelCard = ModelCard()

    def told(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Model(Frozen):
    """The record, and what is filled in on reading."""

    id: str
    project: str
    name: str
    state: ModelState
    source: str
    endpoint: str | None = None
    secret: str | None = None
    base: str | None = None
    """Id of the volume or model that its source names."""
    convert: GgufType | None = None
    revision: str | None = None
    digest: str | None = None
    size_bytes: int | None = None
    files: int = 0
    said: ModelCard = ModelCard()
    """What was said of it by whoever made or changed it."""
    own: ModelCard | None = None
    """What its files say of it and, of one that was made of another, what had been said of that. None: it was not
    kept."""
    adapters: list[str] = []
    labels: Labels = {}
    card: ModelCard = ModelCard()
    """Its `own`, with what was `said` above that."""
    reason: str | None = None
    node: str | None = None
    operation: str | None = None
    used_by: list[str] = []
    """Names of the sandboxes that mount it, whatever their state; filled in on reading."""
    created_at: datetime
    updated_at: datetime

    @property
    def place(self) -> str:
        """Its path in a sandbox, as engines take it: a folder, or the one file that is the model."""
        folder = f"{MODELS_FOLDER}/{self.name}"
        return f"{folder}/{self.card.main}" if self.card.main else folder


def digest_of(files: list[ModelFile]) -> str:
    lines = sorted(f"{file.sha256} {file.size_bytes} {file.path}\n" for file in files)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def over(card: ModelCard, said: ModelCard) -> ModelCard:
    """`card`, with what was `said` in place of what it says."""
    given = said.model_dump(exclude_defaults=True, exclude={"parameters"})
    return card.model_copy(update={**given, "parameters": {**card.parameters, **said.parameters}})
