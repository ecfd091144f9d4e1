"""How programs talk to Skerry: the SDK. Names are loaded when first used, so that importing it costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skerry.client.client import Client
    from skerry.client.client_async import AsyncClient
    from skerry.client.commands import Command
    from skerry.client.commands_async import AsyncCommand
    from skerry.client.result import CommandFailed, CommandResult
    from skerry.client.sandbox import Sandbox
    from skerry.client.sandbox_async import AsyncSandbox

__all__ = [
    "AsyncClient",
    "AsyncCommand",
    "AsyncSandbox",
    "Client",
    "Command",
    "CommandFailed",
    "CommandResult",
    "Sandbox",
]

_HOMES = {
    "AsyncClient": "client_async",
    "AsyncCommand": "commands_async",
    "AsyncSandbox": "sandbox_async",
    "Client": "client",
    "Command": "commands",
    "CommandFailed": "result",
    "CommandResult": "result",
    "Sandbox": "sandbox",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'skerry.client' has no attribute {name!r}")
    return getattr(import_module(f"skerry.client.{_HOMES[name]}"), name)
