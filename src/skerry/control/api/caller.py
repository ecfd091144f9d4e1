"""Who is calling: the key that the door has let in."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from skerry.model.key import Key


def _caller(request: Request) -> Key:
    return request.scope["skerry.key"]


Caller = Annotated[Key, Depends(_caller)]
