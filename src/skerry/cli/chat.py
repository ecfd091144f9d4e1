"""`skerry chat`: talk to a service in the terminal, through the gateway, word by word as it answers."""

from __future__ import annotations

import http.client
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.cli.service import service_argument
from skerry.client.calls import services as calls
from skerry.errors import Failed, Forbidden, Invalid, LimitReached, NotFound, SkerryError, Unauthenticated, Unavailable

SILENCE_S_MAX = 600.0
KINDS: dict[int, type[SkerryError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    429: LimitReached,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
HELP = "empty line or Ctrl-D ends; /clear forgets what was said"


@command("chat")
@service_argument()
@click.argument("message", nargs=-1)
@click.option("--model", metavar="NAME", help="One of its models or adapters [the service's name].")
@click.option("--system", metavar="TEXT", help="What it is told before anything is said.")
@click.option("--max-tokens", metavar="N", type=click.IntRange(1), help="Of each answer.")
@click.option("--temperature", metavar="X", type=click.FloatRange(0, 2), help="0: the likeliest word each time.")
def chat(
    invocation: Invocation,
    service: str,
    message: tuple[str, ...],
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
) -> None:
    """Talk to SERVICE: say MESSAGE and print the answer, or go on line by line.

    \b
      skerry chat tiny "What is a skerry?"
      skerry chat tiny --system "Answer in one line."
    """
    known = invocation.ask(calls.get(service))
    if not known.get("url"):
        raise Unavailable(f"service {known['name']} has no address: the gateway is not set up")
    extra = {"max_tokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in extra.items() if value is not None}
    talk = Talk(known["url"], invocation.target().key, {"model": model or known["name"], **given})
    if system:
        talk.said("system", system)
    if message or not invocation.is_interactive:
        _say(invocation, talk, " ".join(message) or sys.stdin.read().strip())
        return
    invocation.output.note(f"{known['name']}: {HELP}")
    while text := _line():
        if text == "/clear":
            talk.clear()
        else:
            _say(invocation, talk, text)


def _line() -> str:
    """Empty at the end."""
    importlib.import_module("readline")  # makes input() a line that can be edited
    try:
        return input("> ").strip()
    except EOFError:
        click.echo()
        return ""


def _say(invocation: Invocation, talk: Talk, text: str) -> None:
    if not text:
        raise click.UsageError("say something: skerry chat SERVICE MESSAGE")
    output = invocation.output
    if output.json:
        output.emit({"answer": "".join(talk.ask(text)), "replica": talk.replica})
        return
    for part in talk.ask(text):
        output.stream.write(part)
        output.stream.flush()
    output.line()


class Talk:
    """A conversation so far, and how the next answer is asked for."""

    def __init__(self, url: str, key: str | None, body: dict[str, Any]) -> None:
        self._url = urlsplit(url)
        self._key = key
        self._body = body
        self._messages: list[dict[str, str]] = []
        self.replica = ""
        """Which one answered last."""

    def said(self, role: str, text: str) -> None:
        self._messages.append({"role": role, "content": text})

    def clear(self) -> None:
        self._messages = [each for each in self._messages if each["role"] == "system"]

    def ask(self, text: str) -> Iterator[str]:
        """Parts of the answer as they come. What failed is not part of the conversation. Raises SkerryError."""
        asked = [*self._messages, {"role": "user", "content": text}]
        answer: list[str] = []
        for part in self._parts({**self._body, "messages": asked, "stream": True}):
            answer.append(part)
            yield part
        self._messages = [*asked, {"role": "assistant", "content": "".join(answer)}]

    def _parts(self, body: dict[str, Any]) -> Iterator[str]:
        connection = self._connect()
        headers = {"Host": self._url.netloc, "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _refused(response.status, response.read(65_536))
            self.replica = response.headers.get("X-Skerry-Replica", "")
            yield from _words(response)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self._url.netloc} does not answer", because=repr(error)) from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        """Names below localhost are this machine, whether or not its resolver knows."""
        host = self._url.hostname or ""
        if host.endswith(".localhost"):
            host = "127.0.0.1"
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, self._url.port, timeout=SILENCE_S_MAX)
        return http.client.HTTPConnection(host, self._url.port, timeout=SILENCE_S_MAX)


def _words(response: http.client.HTTPResponse) -> Iterator[str]:
    for line in response:
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or data == b"[DONE]":
            continue
        event: dict[str, Any] = json.loads(data)
        if event.get("error"):
            raise Failed(str(event["error"].get("message", event["error"])))
        for choice in event.get("choices", ()):
            if text := choice.get("delta", {}).get("content"):
                yield text


def _refused(status: int, body: bytes) -> SkerryError:
    try:
        say = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        say = f"the service answered with status {status}, and not as a model server does"
    return KINDS.get(status, Failed)(say)
