"""What an answer is, and the errors Stripe's own client library knows how to classify."""

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
    """`body` as a JSON answer."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers)


@dataclass(eq=False)
class StripeError(Exception):
    """An error answer in Stripe's wire format.

    `executed` says whether execution had begun: only then is the answer kept under the idempotency key.
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
        """The error as an HTTP answer; fields without a value are left out, as Stripe does."""
        error = {"type": self.type, "code": self.code, "message": self.message, "param": self.param, **self.more}
        shown = {name: value for name, value in error.items() if value is not None}
        return answer_of({"error": shown}, self.status, self.headers)


def missing(what: str, given: str, param: str) -> StripeError:
    """404 resource_missing: the object is not known to this account in this mode."""
    return StripeError(404, f"No such {what}: '{given}'", "resource_missing", param, executed=True)
