"""The forms of /v1/responses: what it asks, in the words of a chat, and its answer whole or as named events."""

from __future__ import annotations

from typing import Any

from skerry.engines.http1 import Refused, event, items, members
from skerry.engines.simulator import asked as asking
from skerry.engines.simulator.asked import Asked
from skerry.engines.simulator.work import Work


def asked(body: dict[str, Any], model_tokens: int) -> Asked:
    """Raises Refused."""
    given = body.get("input")
    if isinstance(given, str):
        messages: list[Any] = [{"role": "user", "content": given}]
    else:
        messages = [_message(members(item)) for item in items(given)]
    if not messages:
        raise Refused(400, "input: give text, or a list of at least one message", param="input")
    if isinstance(told := body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": told})
    functions = [
        {"type": "function", "function": tool}
        for tool in map(members, items(body.get("tools")))
        if tool.get("type") == "function"
    ]
    choice = body.get("tool_choice", "auto")
    chat: dict[str, Any] = {
        "messages": messages,
        "tools": functions,
        "tool_choice": {"function": choice} if isinstance(choice, dict) else choice,
        "max_completion_tokens": body.get("max_output_tokens"),
        "stream": body.get("stream"),
        "priority": body.get("priority"),
    }
    form = members(members(body.get("text")).get("format"))
    if form.get("type") in ("json_schema", "json_object"):
        chat["response_format"] = {"type": form["type"], "json_schema": {"schema": form.get("schema")}}
    return asking.chat(chat, model_tokens)


def _message(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": str(item.get("output"))}
    if item.get("type") == "function_call":
        return {"role": "assistant", "content": str(item.get("arguments"))}
    return {"role": item.get("role", "user"), "content": item.get("content")}


class Response:
    """Of one answer."""

    def __init__(self, asked: Asked, id: str, model: str, created: int) -> None:
        self._asked = asked
        self._number = 0
        self._head = {"id": id, "object": "response", "created_at": created, "model": model, "error": None}
        self._item_id = f"{'msg' if asked.tool is None else 'fc'}_{id[-24:]}"
        self._at = {"item_id": self._item_id, "output_index": 0}
        self._kind = "output_text" if asked.tool is None else "function_call_arguments"

    def whole(self, work: Work, transfer: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._response("completed", [self._item("completed")], work)
        return answer if transfer is None else {**answer, "kv_transfer_params": transfer}

    def begin(self) -> bytes:
        found = self._event("response.created", response=self._response("in_progress", [], None))
        found += self._event("response.in_progress", response=self._response("in_progress", [], None))
        found += self._event("response.output_item.added", output_index=0, item=self._item("in_progress"))
        if self._asked.tool is None:
            found += self._event("response.content_part.added", **self._at, content_index=0, part=_text(""))
        return found

    def piece(self, at: int, work: Work) -> bytes:
        return self._event(f"response.{self._kind}.delta", **self._at, **self._content, delta=self._asked.pieces[at])

    def end(self, work: Work) -> list[bytes]:
        text = "".join(self._asked.pieces)
        said = {"text": text} if self._asked.tool is None else {"arguments": text}
        found = self._event(f"response.{self._kind}.done", **self._at, **self._content, **said)
        if self._asked.tool is None:
            found += self._event("response.content_part.done", **self._at, content_index=0, part=_text(text))
        item = self._item("completed")
        found += self._event("response.output_item.done", output_index=0, item=item)
        kind = "incomplete" if self._asked.reason == "length" else "completed"
        return [found, self._event(f"response.{kind}", response=self._response("completed", [item], work))]

    @property
    def _content(self) -> dict[str, Any]:
        return {"content_index": 0} if self._asked.tool is None else {}

    def _event(self, name: str, **told: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": name, "sequence_number": number, **told}, name)

    def _response(self, status: str, output: list[dict[str, Any]], work: Work | None) -> dict[str, Any]:
        cut_short = work is not None and self._asked.reason == "length"
        return {
            **self._head,
            "status": "incomplete" if cut_short else status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
            "output": output,
            "usage": None if work is None else self._usage(work),
        }

    def _usage(self, work: Work) -> dict[str, Any]:
        prompt = len(self._asked.prompt)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": work.cached},
            "output_tokens": work.made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + work.made,
        }

    def _item(self, status: str) -> dict[str, Any]:
        text = "".join(self._asked.pieces) if status == "completed" else ""
        item: dict[str, Any] = {"id": self._item_id, "status": status}
        if self._asked.tool is not None:
            name = {"call_id": f"call_{self._item_id[3:]}", "name": self._asked.tool}
            return {**item, "type": "function_call", **name, "arguments": text}
        content = [_text(text)] if status == "completed" else []
        return {**item, "type": "message", "role": "assistant", "content": content}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}
