"""The only place that reads cookies.

The framework parses the header before every route, with or without a key, and removes quotes with Python's own
`http.cookies`. Before CVE-2024-7592 was fixed there, a header of backslashes took seconds, and all requests waited.
So this module removes the header before the framework sees it; our own cookies are never quoted.
"""

from __future__ import annotations

from fastapi import Request
from starlette.types import Scope

from refund_worker.errors import Refusal

COOKIE_BYTES_MAX = 8 << 10
_HEADER, _TAKEN = b"cookie", "refund_worker.cookies"


class CookiesTooLarge(Refusal):
    """The cookies are larger than a browser sends that has ours and a few others of the same host."""

    code, status = "head_too_large", 431


def taken_apart(scope: Scope) -> Scope:
    """Return the request without its Cookie header, which only `cookie_of` reads. Raises `CookiesTooLarge`."""
    lines = [value for name, value in scope["headers"] if name.lower() == _HEADER]
    if sum(map(len, lines)) > COOKIE_BYTES_MAX:
        raise CookiesTooLarge(
            f"cookies have at most {COOKIE_BYTES_MAX} bytes: delete this host's cookies and try again"
        )
    others = [(name, value) for name, value in scope["headers"] if name.lower() != _HEADER]
    return {**scope, "headers": others, _TAKEN: b";".join(lines).decode("latin-1")}


def cookie_of(request: Request, name: str) -> str:
    """Return the value of the cookie of this name as it was sent, or "" without one. Of several the last counts."""
    pairs = (part.strip(" \t").partition("=") for part in request.scope.get(_TAKEN, "").split(";"))
    return next((value for found, _, value in reversed([*pairs]) if found == name), "")
