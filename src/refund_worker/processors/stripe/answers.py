"""Stripe's error answers and the meaning of a failed call. Pure: only attributes of the SDK's exceptions are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from refund_worker.domain.processor_replies import (
    UNKNOWN_REFUSAL,
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.stripe.errors import BLOCKED, BUSY, STRIPE_TYPES, Meaning, is_about_account, meaning_of
from refund_worker.processors.wire import clean

RETRY_AFTER_SECONDS_MAX: Final = 86_400.0

# 4xx statuses that do not judge the request itself: a time-out, a conflict, a failed dependency, too early.
INDEFINITE_STATUSES: Final = frozenset({408, 409, 424, 425, 429})

_REQUEST_ID = re.compile(r"req_[A-Za-z0-9_-]{1,100}")

Refusal = Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal
Failure = Refusal | KeyConflict | Busy | NotSent | Unanswered | Denied
# Return the subject of a refusal from its code, its parameter and its message.
Judge = Callable[[str, str, str], Meaning]
ListFailure = Misconfigured | Busy | NotSent | Unanswered | Denied


@dataclass(frozen=True, slots=True)
class Response:
    """The JSON and the headers of a 2xx answer."""

    data: object
    headers: Mapping[str, str]


class SdkError(Protocol):
    """The attributes that are read from an exception of the SDK."""

    http_status: int | None
    json_body: Any
    headers: Any


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP answer outside 2xx. `kind` is Stripe's error type; a text is empty if the answer has none."""

    status: int
    kind: str
    code: str
    message_code: str
    param: str
    message: str
    request_id: str | None
    should_retry: bool
    retry_after_seconds: float | None
    replayed: bool

    @property
    def is_stripes_own(self) -> bool:
        """True if the answer carries Stripe's error object: one of a type that we know, or with a request id."""
        return self.kind in STRIPE_TYPES or bool(self.kind and self.request_id)

    @classmethod
    def of(cls, error: SdkError) -> ErrorAnswer:
        """Return the answer from which the SDK made the exception."""
        # The SDK fills `code` only for some classes, and puts headers into `json_body` if the body was not JSON.
        body = error.json_body if isinstance(error.json_body, dict) else {}
        reported = body.get("error")
        fields = reported if isinstance(reported, dict) else {}
        headers: Mapping[str, str] = error.headers or {}

        def text(name: str) -> str:
            value = fields.get(name)
            return clean(value) if isinstance(value, str) else ""

        return cls(
            status=error.http_status or 0,
            kind=text("type"),
            code=text("code"),
            message_code=text("message_code"),
            param=text("param"),
            message=text("message"),
            request_id=request_id(headers),
            should_retry=headers.get("Stripe-Should-Retry", "").lower() == "true",
            retry_after_seconds=_retry_after_seconds(headers.get("Retry-After")),
            replayed=is_replayed(headers),
        )


def classify_answer(answer: ErrorAnswer, judge: Judge = meaning_of) -> Failure:
    """Return the meaning of an error answer, from the most general proof to the most specific."""
    if answer.status >= 500:
        return Unanswered(summary(answer), server_error=True)
    if _is_busy(answer):
        return Busy(answer.code or "rate_limit", answer.retry_after_seconds)
    if answer.status not in range(400, 500) or answer.status in INDEFINITE_STATUSES:
        return Unanswered(summary(answer))
    if not answer.is_stripes_own:
        # A proxy or a load balancer may have answered for a request that succeeded.
        return Unanswered(summary(answer))
    if answer.status == 401 or (answer.status == 403 and not _is_about_one_record(answer, judge)):
        return Denied(answer.code or f"http_{answer.status}", answer.message or summary(answer))
    if answer.kind == "idempotency_error":
        return KeyConflict(answer.message or summary(answer))
    return _classify_refusal(answer, judge)


def as_of_connected(failure: Failure, answer: ErrorAnswer, account: str) -> Failure:
    """Return the meaning of a failed call about a connected account.

    A refusal of that account is no fault of our set-up: a person must look at this account, and all others go on. The
    account is named where its balance is meant or its access.
    """
    if isinstance(failure, Blocked):
        return replace(failure, message=_named(account, failure.message))
    if isinstance(failure, Denied) and is_about_account(answer.status, answer.code, answer.message):
        return Misconfigured(failure.code, _named(account, failure.message), answer.request_id, answer.replayed)
    return failure


def _named(account: str, message: str) -> str:
    return f"connected account {account}: {message}"


def _is_about_one_record(answer: ErrorAnswer, judge: Judge) -> bool:
    """Return True if a known code concerns one record, whatever the status: one record must never pause all others."""
    return answer.code != "" and judge(answer.code, answer.param, answer.message) not in (
        Meaning.OURS,
        Meaning.BUSY,
        Meaning.UNKNOWN,
    )


def _is_busy(answer: ErrorAnswer) -> bool:
    if answer.status == 409:
        return answer.code in BUSY or answer.kind == "idempotency_error"
    return answer.status == 429 or (answer.is_stripes_own and answer.code in BUSY)


def _classify_refusal(answer: ErrorAnswer, judge: Judge) -> Failure:
    message = answer.message or summary(answer)
    details = message, answer.request_id, answer.replayed
    if answer.message_code in BLOCKED:
        return Blocked(answer.message_code, *details)
    match judge(answer.code, answer.param, answer.message):
        case Meaning.ENDS:
            return Refused(answer.code, *details)
        case Meaning.MORE_THAN_LEFT:
            return Refused("amount_exceeds_unrefunded", *details, more_than_left=True)
        case Meaning.ALREADY_REFUNDED:
            return AlreadyRefunded(*details)
        case Meaning.BLOCKED:
            return Blocked(answer.code, *details)
        case Meaning.PERSON:
            return Misconfigured(answer.code, *details)
        case Meaning.OURS:
            return Denied(answer.code or answer.kind, message, maybe_kept=True, replayed=answer.replayed)
        case _ if answer.should_retry:
            return Unanswered(summary(answer))
        case _ if answer.status == 404 and not answer.code:
            return Misconfigured("not_found", *details)
    return UnknownRefusal(answer.code or answer.kind, *details)


def as_list_failure(failure: Failure) -> ListFailure:
    """Return the meaning of a failed list. An error that would refuse a refund is a fault of the set-up here."""
    match failure:
        case Misconfigured() | Busy() | NotSent() | Unanswered() | Denied():
            return failure
        case Refused(code, message, request_id) | Blocked(code, message, request_id):
            return Misconfigured(code, message, request_id)
        case UnknownRefusal(code, message, request_id):
            return Misconfigured(UNKNOWN_REFUSAL, f"{code}: {message}", request_id)
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no list gives")


def summary(answer: ErrorAnswer) -> str:
    """Return status, type and code in one line."""
    return " ".join(part for part in (f"HTTP {answer.status}", answer.kind, answer.code) if part)


def _retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds to wait, or None if the header is absent or not a number (Stripe never sends the date
    form).
    """
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_SECONDS_MAX) if math.isfinite(seconds) and seconds >= 0 else None


def is_replayed(headers: Mapping[str, str]) -> bool:
    """Return True if Stripe says that this is the stored answer to an earlier call under the same key."""
    return headers.get("Idempotent-Replayed", "").lower() == "true"


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return Stripe's id of the request, or None if the header has another form."""
    value = headers.get("Request-Id", "")
    return value if _REQUEST_ID.fullmatch(value) else None
