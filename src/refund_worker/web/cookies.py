"""Cookies, read here alone.

The framework parses the header before every route, with or without a key, and takes off quotes by Python's own
`http.cookies`. Before CVE-2024-7592 was mended there, that took seconds for one header of backslashes, and everybody
waited. So the header is taken away before the framework sees it; our own cookies are never quoted.
"""

from __future__ import annotations

from fastapi import Request
from starlette.types import Scope

from refund_worker.errors import Refusal

COOKIE_BYTES_MAX = 8 << 10
_HEADER, _TAKEN = b"cookie", "refund_worker.cookies"


class CookiesTooLarge(Refusal):
    """More than a browser that has ours and a few of the same host's sends."""

    code, status = "head_too_large", 431


def taken_apart(scope: Scope) -> Scope:
    """The request without its header Cookie, which only `cookie_of` reads. Raises `CookiesTooLarge`."""
    lines = [value for name, value in scope["headers"] if name.lower() == _HEADER]
    if sum(map(len, lines)) > COOKIE_BYTES_MAX:
        raise CookiesTooLarge(
            f"cookies have at most {COOKIE_BYTES_MAX} bytes: delete this host's cookies and try again"
        )
    others = [(name, value) for name, value in scope["headers"] if name.lower() != _HEADER]
    return {**scope, "headers": others, _TAKEN: b";".join(lines).decode("latin-1")}


def cookie_of(request: Request, name: str) -> str:
    """What the cookie of this name holds, as it was sent; "" without one. Of several the last counts."""
    pairs = (part.strip(" \t").partition("=") for part in request.scope.get(_TAKEN, "").split(";"))
    return next((value for found, _, value in reversed([*pairs]) if found == name), "")
