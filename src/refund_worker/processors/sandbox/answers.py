"""HTTP answers and error answers, in the form that Stripe's own client library can classify."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer: its status, its JSON body as bytes, and headers beyond the usual ones."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def answer_of(body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return `body` as a JSON answer."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers)


@dataclass(eq=False)
class StripeError(Exception):
    """An error answer in Stripe's wire format.

    `executed` is True if execution had begun. Only then is the answer stored under the idempotency key.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"
    executed: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def answer(self) -> Answer:
        """Return the error as an HTTP answer. Fields without a value are left out, as Stripe does."""
        error = {"type": self.type, "code": self.code, "message": self.message, "param": self.param, **self.more}
        shown = {name: value for name, value in error.items() if value is not None}
        return answer_of({"error": shown}, self.status, self.headers)


def missing(what: str, value: str, param: str) -> StripeError:
    """Return the 404 error resource_missing: this account has no such object in this mode."""
    return StripeError(404, f"No such {what}: '{value}'", "resource_missing", param, executed=True)
