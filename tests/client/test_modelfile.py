"""A Modelfile as a request: every word of it, text over lines, and what is wrong with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.client.modelfile import parse, read_modelfile
from skerry.errors import Invalid

WHOLE = '''
# comment
FROM qwen2.5
ADAPTER hf://me/lora@v1
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}{{ end }}
"""
system "You say \\n little."
PARAMETER temperature 0.7
PARAMETER num_ctx 4096
PARAMETER stop "<|im_end|>"
PARAMETER stop <|im_start|>
PARAMETER use_mmap true
LICENSE """MIT
of ours"""
LICENSE Apache-2.0
'''


def test_every_word_of_it() -> None:
    assert parse(WHOLE, Path("/srv")) == {
        "source": "model://qwen2.5",
        "adapters": ["hf://me/lora@v1"],
        "template": "{{ if .System }}<|im_start|>system\n{{ .System }}{{ end }}\n",
        "system": "You say \\n little.",
        "parameters": {
            "temperature": 0.7,
            "num_ctx": 4096,
            "stop": ["<|im_end|>", "<|im_start|>"],
            "use_mmap": True,
        },
        "license": "MIT\nof ours\nApache-2.0",
    }


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("FROM ollama://llama3.2:1b", "ollama://llama3.2:1b"),
        ("from ./weights", "/srv/here/weights"),
        ("FROM ../weights/x", "/srv/weights/x"),
        ("FROM /models", "/models"),
        ("FROM data:/weights", "data:/weights"),
    ],
)
def test_where_it_is_from(text: str, source: str) -> None:
    assert parse(text, Path("/srv/here"))["source"] == source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("PARAMETER top_k 1", "made FROM"),
        ("FROM a\nFROM b", "Modelfile:2: FROM is given twice"),
        ("FROM a\n\nMESSAGE user hi", "Modelfile:3: 'MESSAGE' is not known"),
        ('FROM a\nSYSTEM """x', 'Modelfile:2: """ is not closed'),
        ('FROM a\nSYSTEM "x" y', "nothing may follow"),
        ("FROM a\nPARAMETER top_k", "expected PARAMETER NAME VALUE"),
        ("FROM", "a value is needed"),
        ("FROM llama3.2:1b", "give ollama://llama3.2:1b"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=r".") as caught:
        parse(text, Path("/srv"))
    assert said in caught.value.say


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        read_modelfile(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="UTF-8"):
        read_modelfile(tmp_path / "bytes")
