"""PayPal's error answers and their meaning. Pure.

An error is `{name, message, debug_id, details: [{issue, field, description}]}`; the token's address answers
`{error, error_description}` (payments_payment_v2.json and developer.paypal.com/api/rest/responses, read 2026-11).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

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
from refund_worker.processors.paypal.errors import NAMES_OF_THE_FORM, Meaning, meaning_of
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean

RETRY_AFTER_SECONDS_MAX: Final = 86_400.0
# 4xx statuses that do not judge the request itself: a time-out, a conflict, a failed dependency, too early.
INDEFINITE_STATUSES: Final = frozenset({408, 409, 424, 425})
ISSUES_MAX: Final = 10
_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,99}")
_OAUTH_NAME = re.compile(r"[a-z][a-z0-9_]{2,99}")
_DEBUG_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

Refusal = Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal
Failure = Refusal | KeyConflict | Busy | NotSent | Unanswered | Denied
ListFailure = Misconfigured | Busy | NotSent | Unanswered | Denied


@dataclass(frozen=True, slots=True)
class Issue:
    """One entry of an error's details: the code, and the field that it is about (may be empty)."""

    code: str
    field: str

    @property
    def meaning(self) -> Meaning:
        """Return the subject of the issue."""
        return meaning_of(self.code, self.field)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP answer outside 2xx. `name` is empty unless it carries PayPal's own error object."""

    status: int
    name: str
    message: str
    issues: tuple[Issue, ...]
    debug_id: str | None
    retry_after_seconds: float | None

    @property
    def code(self) -> str:
        """Return the issues, or the name if there are none."""
        return ",".join(dict.fromkeys(issue.code for issue in self.issues)) or self.name

    @property
    def summary(self) -> str:
        """Return status and code in one line."""
        return " ".join(part for part in (f"HTTP {self.status}", self.code) if part)

    @classmethod
    def of(cls, answer: HttpAnswer) -> ErrorAnswer:
        """Return the error that an HTTP answer describes."""
        try:
            body = answer.json()
        except Unreadable:
            body = None
        fields: dict[str, Any] = body if isinstance(body, dict) else {}
        issues = _issues(fields.get("details"))
        name = _name(fields)
        texts = [_text(fields.get("message")) or _text(fields.get("error_description"))]
        texts += [issue for issue in _descriptions(fields.get("details")) if name]
        return cls(
            status=answer.status,
            name=name,
            message=clean(" ".join(text for text in texts if text)) if name else "",
            issues=issues if name else (),
            debug_id=_debug_id(fields.get("debug_id")) or debug_id(answer),
            retry_after_seconds=_retry_after_seconds(answer.headers.get("retry-after")),
        )


def classify_answer(answer: ErrorAnswer) -> Failure:
    """Return the meaning of an error answer, from the most general proof to the most specific."""
    if answer.status >= 500:
        # Not kept under the key: a repeat answers with the first request's latest state, so the same key is sent again.
        return Unanswered(answer.summary)
    if answer.status == 429:
        return Busy(answer.name or "rate_limit", answer.retry_after_seconds)
    meanings = {issue.meaning for issue in answer.issues} or {_meaning_of_name(answer)}
    meaning = meanings.pop() if len(meanings) == 1 else Meaning.UNKNOWN
    if answer.status == 409 and meaning is Meaning.BUSY:
        return Busy(answer.code, answer.retry_after_seconds)
    is_refusal = 400 <= answer.status < 500 and answer.status not in INDEFINITE_STATUSES
    if not is_refusal or not answer.name:
        # Without PayPal's error object, a proxy may have answered for a request that went through.
        return Unanswered(answer.summary)
    return _classify_refusal(answer, meaning)


def _meaning_of_name(answer: ErrorAnswer) -> Meaning:
    if answer.status == 400 and answer.name in NAMES_OF_THE_FORM:
        return Meaning.OURS
    return meaning_of(answer.name, "")


def _classify_refusal(answer: ErrorAnswer, meaning: Meaning) -> Failure:
    message = answer.message or answer.summary
    details = message, answer.debug_id
    if answer.status == 401 or (answer.status == 403 and meaning in (Meaning.UNKNOWN, Meaning.OURS)):
        return _denied(answer, message)
    match meaning:
        case Meaning.ENDS:
            return Refused(answer.code, *details)
        case Meaning.MORE_THAN_LEFT:
            return Refused(answer.code, *details, more_than_left=True)
        case Meaning.LOOK_UP:
            return AlreadyRefunded(*details)
        case Meaning.BLOCKED:
            return Blocked(answer.code, *details)
        case Meaning.PERSON:
            return Misconfigured(answer.code, *details)
        case Meaning.NOT_FOUND:
            return Misconfigured("not_found", *details)
        case Meaning.KEY:
            return KeyConflict(message)
        case Meaning.OURS:
            return _denied(answer, message)
        case Meaning.BUSY:  # with another status than 409 nothing proves that the call was not executed
            return Unanswered(answer.summary)
    return UnknownRefusal(answer.code, *details)


def _denied(answer: ErrorAnswer, message: str) -> Denied:
    # Nothing says whether PayPal stores such an answer under the key. Only one who is not known stores nothing.
    return Denied(answer.code, message, maybe_kept=answer.status != 401)


def as_list_failure(failure: Failure) -> ListFailure:
    """Return the meaning of a failed list. An error that would refuse a refund is a fault of one record here."""
    match failure:
        case Misconfigured() | Busy() | NotSent() | Unanswered() | Denied():
            return failure
        case Refused(code, message, request_id) | Blocked(code, message, request_id):
            return Misconfigured(code, message, request_id)
        case UnknownRefusal(code, message, request_id):
            return Misconfigured(UNKNOWN_REFUSAL, f"{code}: {message}", request_id)
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no list gives")


def debug_id(answer: HttpAnswer) -> str | None:
    """Return PayPal's id of the request, by which its support finds it, or None if the header has another form."""
    return _debug_id(answer.headers.get("paypal-debug-id"))


def _name(fields: dict[str, Any]) -> str:
    for field, form in (("name", _NAME), ("error", _OAUTH_NAME)):
        value = fields.get(field)
        if isinstance(value, str) and form.fullmatch(value):
            return value
    return ""


def _issues(details: object) -> tuple[Issue, ...]:
    found = []
    for entry in details[:ISSUES_MAX] if isinstance(details, list) else ():
        code = entry.get("issue") if isinstance(entry, dict) else None
        # A detail that cannot be read may be the one that counts: it stays, as an unknown code.
        known = code if isinstance(code, str) and _NAME.fullmatch(code) else "UNREADABLE_ISSUE"
        found.append(Issue(known, _text(entry.get("field")) if isinstance(entry, dict) else ""))
    return tuple(found)


def _descriptions(details: object) -> list[str]:
    entries = details[:ISSUES_MAX] if isinstance(details, list) else []
    return [_text(entry.get("description")) for entry in entries if isinstance(entry, dict)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _debug_id(value: object) -> str | None:
    return value if isinstance(value, str) and _DEBUG_ID.fullmatch(value) else None


def _retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds to wait, or None if the header is absent or not a number."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_SECONDS_MAX) if math.isfinite(seconds) and seconds >= 0 else None
