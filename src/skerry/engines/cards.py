"""What a model's card says, template, system prompt and parameters, as engines take it.

A template is used where it is Jinja, which all of them read; ollama's own language none of them does, and the model's
files have theirs. A system prompt goes before it, for chats that have none: no engine but ours has an option for it. To
have the gateway write it into requests was refused: it passes bodies on untouched, and would have to know each engine's
idea of a system message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from skerry.errors import Invalid
from skerry.model.weights import ModelCard

VARIABLE = "SKERRY_CHAT_TEMPLATE"
TEXT_BYTES_MAX = 120_000
"""Of one variable or argument the kernel takes 128 KiB."""
WRITE = (
    f'flag=$1; shift; folder=$(mktemp -d); printf %s "${VARIABLE}" >"$folder/chat.jinja"; '
    'exec "$@" "$flag" "$folder/chat.jinja"'
)
"""SGLang takes a file, by the end of its name."""
_OTHER = re.compile(r"\{\{-?\s*(\.|\$|if |range |with |end\b|else\b|template |block |define )")


def template(card: ModelCard | None, *, system: bool = True) -> str | None:
    """In Jinja, or None. `system`: with the system prompt before it."""
    if card is None or card.template is None or _OTHER.search(card.template):
        return None
    text = card.template
    if system and card.system is not None:
        said = json.dumps(card.system, ensure_ascii=False)
        text = (
            "{%- if messages[0]['role'] != 'system' -%}{%- set messages = [{'role': 'system', 'content': "
            + said
            + "}] + messages -%}{%- endif -%}"
            + text
        )
    return short("template", text)


def short(field: str, text: str) -> str:
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise Invalid(f"model: the {field} of its card has more than {TEXT_BYTES_MAX} bytes", field="model")
    return text


def with_template(command: tuple[str, ...], flag: str, text: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command that has it in a file, and its environment."""
    if text is None:
        return command, {}
    return ("/bin/sh", "-c", WRITE, "sh", flag, *command), {VARIABLE: text}


def numbers(card: ModelCard | None, names: Mapping[str, str]) -> dict[str, int | float]:
    """Parameters by an engine's names for them. `names`: ollama's -> the engine's."""
    given = card.parameters if card is not None else {}
    found: dict[str, int | float] = {}
    for ours, theirs in names.items():
        value = given.get(ours)
        if isinstance(value, int | float) and not isinstance(value, bool) and not (ours in COUNTS and value < 1):
            found[theirs] = value
    return found


COUNTS = frozenset({"num_ctx", "num_predict"})
"""Below 1 they mean no limit, as engines have it anyway."""
