"""Texts of exactly so many tokens, by real tokenizers made here: whole words, and byte pairs that split them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.bench.data.text import WORDS, writer
from skerry.errors import Invalid
from tests.bench.test_data import plan, prompt, sent

tokenizers: Any = pytest.importorskip("tokenizers")


def words(folder: Path) -> Path:
    vocabulary = {word: at for at, word in enumerate(["[UNK]", *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    return folder


def pairs(folder: Path, size: int) -> Path:
    """Few merges: most words are several tokens."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="Ġ $A", special_tokens=[("Ġ", 0)])
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("kind", ["words", "pairs of 290", "pairs of 500"])
@pytest.mark.parametrize("tokens", [1, 2, 7, 64, 1000])
def test_a_text_has_just_as_many(kind: str, tokens: int, tmp_path: Path) -> None:
    where = words(tmp_path) if kind == "words" else pairs(tmp_path, int(kind.split()[-1]))
    write = writer(str(where))
    for seed in range(3):
        text = write.write(tokens, np.random.default_rng(seed))
        assert write.count(text) == tokens
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(again.encode(text, add_special_tokens=False).ids) == tokens


def test_what_is_sent_has_the_length_that_was_asked(tmp_path: Path) -> None:
    where = pairs(tmp_path, 300)
    found = sent(plan([{"input_tokens": "U(5,90)"}], {"concurrency": 20, "requests": 20}, tokenizer=str(where)))
    count = writer(str(where)).count
    assert [count(prompt(body)) for _, body in found] == [request.input_tokens for request, _ in found]


def test_a_tokenizer_that_is_none_or_whose_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Invalid, match=r"^tokenizer: .* cannot be read"):
        writer(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Invalid, match=r"install it with: pip install 'skerry\[bench\]'"):
        writer(str(tmp_path))
