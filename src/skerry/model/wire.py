"""How an error travels: its HTTP status by its code. Both APIs use it."""

from __future__ import annotations

STATUS: dict[str, int] = {
    "invalid": 400,
    "unsupported": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "already_exists": 409,
    "in_use": 409,
    "protected": 409,
    "restart_needed": 409,
    "illegal_move": 409,
    "too_large": 413,
    "limit_reached": 429,
    "failed": 500,
    "error": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "no_room": 507,
}
