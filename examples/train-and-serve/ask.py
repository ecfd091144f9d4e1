"""Ask the service as any program written for OpenAI's API would; only who answered is ours to know, by a header.

    python3 ask.py hbadfe jihgfa

Where it is and what lets us in are OPENAI_BASE_URL and OPENAI_API_KEY, as that client has it."""

from __future__ import annotations

import sys
from typing import Any

from openai import OpenAI

MODEL = "sorter"


def question(word: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": word}], "temperature": 0}


def ask(client: OpenAI, word: str) -> str:
    answer = client.chat.completions.with_raw_response.create(**question(word))
    said = answer.parse().choices[0].message.content
    return f"{word} -> {said}, by {answer.headers['x-skerry-replica']}"


def ask_for_a_stream(client: OpenAI, word: str) -> str:
    answer = client.chat.completions.with_raw_response.create(**question(word), stream=True)
    parts = [chunk.choices[0].delta.content for chunk in answer.parse() if chunk.choices]
    return f"{word} -> {' '.join(filter(None, parts))}, by {answer.headers['x-skerry-replica']}"


def main() -> None:
    # No tries of its own: that a replica was lost is the gateway's to mend.
    client = OpenAI(max_retries=0)
    print("models:", *(model.id for model in client.models.list()))
    asked = sys.argv[1:] or ["hbadfe"]
    for word in asked:
        print(ask(client, word), flush=True)
    print("as a stream:", ask_for_a_stream(client, asked[0]))


if __name__ == "__main__":
    main()
