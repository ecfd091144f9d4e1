"""Skerry: a private cloud for AI work. The SDK's names are importable from here, each loaded only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AsyncSandbox", "Client", "Sandbox", "SkerryError", "__version__"]

if TYPE_CHECKING:
    from skerry.client import AsyncSandbox, Client, Sandbox
    from skerry.errors import SkerryError


def __getattr__(name: str) -> Any:
    if name == "SkerryError":
        from skerry.errors import SkerryError

        return SkerryError
    if name in __all__:
        import skerry.client

        return getattr(skerry.client, name)
    raise AttributeError(f"module 'skerry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
