"""What routing has to know of a request's body: which model, how long, whether it streams. The body itself is passed on
as it came.

Read by pydantic's JSON parser, which takes a sixth of the standard library's time and is here anyway.
"""

from __future__ import annotations

import re
from typing import Any, cast

from pydantic_core import from_json

from skerry.errors import Invalid

_FIELD = re.compile(rb'name="?model"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n')
_PARTS = re.compile(rb"multipart/form-data;.*boundary=")


class Body:
    __slots__ = ("answer_tokens", "data", "fields", "model", "prompt_tokens", "stream", "user")

    def __init__(self, data: bytes, content_type: bytes) -> None:
        """Raises Invalid."""
        self.data = data
        if content_type.startswith(b"multipart/"):
            self._form(data, content_type)
            return
        try:
            read: Any = from_json(data, cache_strings="keys")
        except ValueError as error:
            raise Invalid("the body must be JSON", because=str(error)) from None
        if not isinstance(read, dict):
            raise Invalid("the body must be a JSON object")
        self.fields = fields = cast(dict[str, Any], read)
        model = fields.get("model", "")
        if not isinstance(model, str):
            raise Invalid("model: must be a string", field="model")
        self.model = model
        self.stream = fields.get("stream") is True
        user = fields.get("user")
        self.user = user if isinstance(user, str) else ""
        most = fields.get("max_tokens") or fields.get("max_completion_tokens") or fields.get("max_output_tokens")
        self.answer_tokens = most if type(most) is int and most > 0 else 0
        # Four bytes are about a token; exact numbers come with the answer.
        self.prompt_tokens = len(data) // 4

    def _form(self, data: bytes, content_type: bytes) -> None:
        if not _PARTS.match(content_type):
            raise Invalid("a body in parts must be multipart/form-data with a boundary")
        # Files may be large and stand anywhere: only the one short field is looked for.
        found = _FIELD.search(data)
        self.fields: dict[str, Any] = {}
        self.model = found[1].decode("utf-8", "replace") if found else ""
        self.stream = False
        self.user = ""
        self.answer_tokens = self.prompt_tokens = 0
