"""Error answers of PayPal's Payouts API and their meaning. Pure.

An error is `{name, message, debug_id, details: [{field, location, issue, link}]}`: here the name is the code, and an
issue is a sentence. A repeated `sender_batch_id` is refused with a link to the first batch, in the entry of `details`
about it (payments_payouts_batch_v1.json 1.9 of github paypal/paypal-rest-api-specifications; the place of the link as
others published it from PayPal's sandbox; read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.paypal.answers import INDEFINITE_STATUSES, ISSUES_MAX, ErrorAnswer, Failure
from refund_worker.processors.paypal.payout_errors import (
    DUPLICATE_BATCH,
    DUPLICATE_FIELD,
    INVALID_RECEIVER,
    VALIDATION,
    Subject,
    subject_of,
)
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean

BATCH_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,30}")
_LINK = re.compile(r"(?:https?://[^/?#]+)?/v[0-9]+/payments/payouts/([A-Za-z0-9_-]{1,30})/?(?:[?#].*)?")
_PLACE = re.compile(r"\[[0-9]+\]")
# Parts of the name of a field whose values differ from record to record.
_RECORD_FIELDS = frozenset({"amount", "currency", "value", "note", "sender_item_id", "sender_batch_id"})

PayoutFailure = Refused | Blocked | Busy | NotSent | Unanswered | Denied | Misconfigured | UnknownRefusal


def classify_payout_answer(answer: HttpAnswer) -> Failure:
    """Return the meaning of an error answer, from the most general proof to the most specific.

    A refused account is never `maybe_kept`: PayPal keeps the `sender_batch_id` of batches that it made, and the same
    request sent again can make only one.
    """
    error = ErrorAnswer.of(answer)
    if error.status >= 500:
        return Unanswered(_summary(error))
    if error.status == 429:
        return Busy(error.name or "rate_limit", error.retry_after_seconds)
    details = _details(answer)
    name = _name_of(error, details)
    subject = subject_of(name)
    if error.status == 409 and subject is Subject.BUSY:
        return Busy(name, error.retry_after_seconds)
    if not 400 <= error.status < 500 or error.status in INDEFINITE_STATUSES or not error.name:
        # Without PayPal's error object, a proxy may have answered for a request that went through.
        return Unanswered(_summary(error))
    if duplicate_batch(answer) is not None:
        return Unanswered("a batch with this sender_batch_id exists")
    return _classify_refusal(error, name, subject, _message(error, details))


def _classify_refusal(error: ErrorAnswer, name: str, subject: Subject, message: str) -> Failure:
    is_unknown = subject in (Subject.UNKNOWN, Subject.ACCOUNT)
    if error.status == 401 or (error.status == 403 and is_unknown):
        return Denied(name, message)
    match subject:
        case Subject.PAYEE:
            return Refused(name, message, error.debug_id)
        case Subject.BLOCKED:
            return Blocked(name, message, error.debug_id)
        case Subject.ACCOUNT:
            return Denied(name, message)
        case Subject.RECORD:
            return Misconfigured(name, message, error.debug_id)
        case Subject.NOT_FOUND:
            return Misconfigured("not_found", message, error.debug_id)
        case Subject.BUSY | Subject.INDEFINITE:
            return Unanswered(_summary(error))
    if name == VALIDATION and error.status == 400:
        return _classify_form(message, error)
    return UnknownRefusal(name, message, error.debug_id)


def _classify_form(message: str, error: ErrorAnswer) -> Failure:
    """Return the meaning of a form that PayPal does not take: one unusual record must never stop all others."""
    fields = {part for issue in error.issues for part in _PLACE.sub("", issue.field).split(".")}
    if not fields:
        return UnknownRefusal(VALIDATION, message, error.debug_id)
    if not fields.isdisjoint(_RECORD_FIELDS):
        return Misconfigured(VALIDATION, message, error.debug_id)
    return Denied(VALIDATION, message)


def duplicate_batch(answer: HttpAnswer) -> str | None:
    """Return the id of the batch that had this `sender_batch_id` before, None if the answer does not say that.

    The id is empty if PayPal names no batch. A link is not followed: only the id is taken from it.
    """
    error = ErrorAnswer.of(answer)
    if error.name != DUPLICATE_BATCH or not 400 <= error.status < 500:
        return None
    about = [detail for detail in _details(answer) if _text(detail.get("field")).upper().endswith(DUPLICATE_FIELD)]
    if not about:
        return None
    links = [link for part in (*about, _object(answer)) for name in ("link", "links") for link in _list(part.get(name))]
    found = (_LINK.fullmatch(_text(link.get("href"))) for link in links if isinstance(link, dict))
    ids = {match[1] for match in found if match}
    return ids.pop() if len(ids) == 1 else ""


def _name_of(error: ErrorAnswer, details: Sequence[dict[str, Any]]) -> str:
    """Return the name, and for a form that is wrong in the receiver alone the name that we give to that."""
    fields = {_PLACE.sub("", _text(detail.get("field"))) for detail in details}
    is_receiver = error.name == VALIDATION and error.status == 400 and fields == {"items.receiver"}
    return INVALID_RECEIVER if is_receiver else error.name


def _message(error: ErrorAnswer, details: Sequence[dict[str, Any]]) -> str:
    """Return PayPal's texts. The value of a field is left out: it may be the receiver's address."""
    parts = [error.message]
    parts += [f"{_text(detail.get('field'))}: {_text(detail.get('issue'))}" for detail in details]
    return clean(" ".join(part for part in parts if part.strip(": "))) or _summary(error)


def _summary(error: ErrorAnswer) -> str:
    return f"HTTP {error.status} {error.name}".rstrip()


def _details(answer: HttpAnswer) -> Sequence[dict[str, Any]]:
    return tuple(entry for entry in _list(_object(answer).get("details")) if isinstance(entry, dict))


def _object(answer: HttpAnswer) -> dict[str, Any]:
    try:
        body = answer.json()
    except Unreadable:
        body = None
    return body if isinstance(body, dict) else {}


def _list(value: object) -> Iterator[Any]:
    return iter(value[:ISSUES_MAX] if isinstance(value, list) else ())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
