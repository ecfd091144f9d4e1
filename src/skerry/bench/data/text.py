"""Text of exactly so many tokens, by a tokenizer or without one.

Without one a token is a short common word with the space before it, which is one token to every tokenizer trained on
English that we know of; what the server counts is in each record beside it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skerry.errors import Invalid

_COMMON = """the of and to in is you that it he was for on are as with his they at be this have from or one had by word
but not what all were we when your can said there use an each which she do how their if will up other about out many
then them these so some her would make like him into time has look two more write go see number no way could people my
than first water been call who oil its now find long down day did get come made may part"""
WORDS: tuple[str, ...] = tuple(_COMMON.split())
PIECES = (*(f" {word}" for word in WORDS), *WORDS, *" .,:;!?abcdefghijklmnopqrstuvwxyz0123456789")
TRIES_MAX = 12


def _drawn(words: Sequence[str], count: int, chance: np.random.Generator) -> list[str]:
    picks: list[int] = chance.integers(len(words), size=count).tolist()
    return [words[at] for at in picks]


class Writer(Protocol):
    def write(self, tokens: int, chance: np.random.Generator) -> str: ...
    def count(self, text: str) -> int: ...


class Words:
    """Without a tokenizer."""

    def write(self, tokens: int, chance: np.random.Generator) -> str:
        return " ".join(_drawn(WORDS, tokens, chance))

    def count(self, text: str) -> int:
        return len(text.split())


class Tokenized:
    """By a `tokenizer.json` of Hugging Face's `tokenizers`."""

    def __init__(self, where: str) -> None:
        """`where`: a file, a folder with one, or the name of a model on the hub. Raises Invalid."""
        try:
            library: Any = importlib.import_module("tokenizers")
        except ImportError:
            say = "tokenizer: needs the package tokenizers; install it with: pip install 'skerry[bench]'"
            raise Invalid(say, field="tokenizer") from None
        path = Path(where)
        try:
            if path.is_dir():
                path = path / "tokenizer.json"
            kind = library.Tokenizer
            self._tokenizer: Any = kind.from_file(str(path)) if path.exists() else kind.from_pretrained(where)
        except Exception as error:  # the library raises Exception itself
            raise Invalid(f"tokenizer: {where} cannot be read", field="tokenizer", because=str(error)) from None
        self._plain = self._one_token_words()

    def _one_token_words(self) -> list[str]:
        plain = [word for word in WORDS if self.count(f"a {word}") - self.count("a") == 1]
        return plain or list(WORDS)

    def write(self, tokens: int, chance: np.random.Generator) -> str:
        words = _drawn(self._plain, tokens, chance)
        for _ in range(TRIES_MAX):
            over = self.count(" ".join(words)) - tokens
            if not over:
                break
            if over > 0:
                del words[-over:]
            else:
                words += _drawn(self._plain, -over, chance)
        while self.count(" ".join(words)) > tokens:
            words.pop()
        return self._filled(" ".join(words), tokens)

    def _filled(self, text: str, tokens: int) -> str:
        """With as many small pieces as are missing: where every word is several tokens, words alone leave a rest."""
        for left in range(tokens - self.count(text), 0, -1):
            wanted = tokens - left + 1
            text = next((text + piece for piece in PIECES if self.count(text + piece) == wanted), text)
        return text

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def writer(tokenizer: str | None) -> Writer:
    return Words() if tokenizer is None else Tokenized(tokenizer)
