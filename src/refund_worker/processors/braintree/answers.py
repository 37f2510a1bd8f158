"""Braintree's error answers, and the meaning of each. Pure.

HTTP statuses: http.py of braintree_python 4.45.0, read 2026-11. A 422 carries `api-error-response`, Braintree's own
error object; the other statuses carry none, so the status alone counts there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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
from refund_worker.processors.braintree.errors import Meaning, meaning_of
from refund_worker.processors.braintree.xml_documents import child, name_of, parse_xml, text_of
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean
from refund_worker.processors.xml_reading import Element

NOT_SETTLED_YET: Final = "not_settled_yet"
EARLIER_REQUEST_FAILED: Final = "earlier_request_failed"
_BLOCKED_CODES: Final = {Meaning.NOT_SETTLED: NOT_SETTLED_YET, Meaning.KEY_FAILED: EARLIER_REQUEST_FAILED}
CODES_MAX: Final = 20
RETRY_AFTER_SECONDS_MAX: Final = 86_400.0
_CODE = re.compile(r"[0-9]{4,7}")

Refusal = Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal
Failure = Refusal | KeyConflict | Busy | NotSent | Unanswered | Denied
ListFailure = Misconfigured | Busy | NotSent | Unanswered | Denied


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """Braintree's own error object: the codes of its validation errors, and its message.

    `transaction` is the declined transaction that some answers describe, None in all others.
    """

    codes: tuple[str, ...]
    message: str
    transaction: Element | None

    @property
    def meaning(self) -> Meaning:
        """Return the subject of the refusal."""
        return meaning_of(self.codes)

    @property
    def code(self) -> str:
        """Return the codes as one text."""
        return "_".join(self.codes) or "no_code"


def read_document(answer: HttpAnswer) -> Element:
    """Return the document of an answer with a 2xx status. Raises `Unreadable`."""
    return parse_xml(answer.body)


def is_success(answer: HttpAnswer) -> bool:
    """Return True for an answer that describes what was asked for."""
    return answer.status in (200, 201)


def error_object(answer: HttpAnswer) -> ErrorObject | None:
    """Return the error object in an answer with the status 422, or None: then something else may have answered."""
    if answer.status != 422:
        return None
    try:
        root = parse_xml(answer.body)
    except Unreadable:
        return None
    errors = child(root, "errors")
    if name_of(root) != "api_error_response" or errors is None:
        return None
    found = [text_of(error, "code") or "" for error in errors.iter() if name_of(error) == "error"][:CODES_MAX]
    codes = tuple(dict.fromkeys(code if _CODE.fullmatch(code) else "unreadable" for code in found))
    return ErrorObject(codes, clean(text_of(root, "message") or ""), child(root, "transaction"))


def failure_of(answer: HttpAnswer) -> Failure:
    """Return the meaning of an answer outside 2xx, from the most general proof to the most specific."""
    status, summary = answer.status, f"HTTP {answer.status}"
    if status >= 500:
        # It is not stored under its key: the repeat is what the key is for (reference of RefundTransactionInput, read
        # 2026-11). If it is stored after all, the repeat is answered with 915235.
        return Unanswered(summary)
    if status == 429:
        return Busy("rate_limit", _retry_after_seconds(answer.headers))
    if status in (401, 403, 426):
        # The credentials, the rights of their user, or a version of the API that Braintree has ended. Such a request
        # does not use its key up (reference of RefundTransactionInput, read 2026-11).
        return Denied(f"http_{status}", _DENIED[status])
    if status == 404:
        return Misconfigured("not_found", "Braintree does not know this transaction")
    error = error_object(answer)
    return Unanswered(summary) if error is None else refusal_of(error)


def refusal_of(error: ErrorObject) -> Failure:
    """Return the meaning of a refusal by its validation errors alone."""
    code, message, meaning = error.code, error.message or error.code, error.meaning
    match meaning:
        case Meaning.ENDS | Meaning.MORE_THAN_LEFT:
            return Refused(code, message, more_than_left=meaning is Meaning.MORE_THAN_LEFT)
        case Meaning.ALREADY_REFUNDED:
            return AlreadyRefunded(message)
        case Meaning.BLOCKED | Meaning.NOT_SETTLED | Meaning.KEY_FAILED:
            return Blocked(_BLOCKED_CODES.get(meaning, code), message)
        case Meaning.PERSON:
            return Misconfigured(code, message)
        case Meaning.OURS:
            return Denied(code, message, maybe_kept=True)
        case Meaning.KEY_CONFLICT | Meaning.KEY_IN_FLIGHT | Meaning.KEY_SERVER_ERROR:
            return _key_failure(meaning, code, message)
        case Meaning.CANNOT_BE_VOIDED | Meaning.UNKNOWN:
            return UnknownRefusal(code, message)


def _key_failure(meaning: Meaning, code: str, message: str) -> KeyConflict | Busy | Unanswered:
    if meaning is Meaning.KEY_CONFLICT:
        return KeyConflict(message)
    return Busy(code) if meaning is Meaning.KEY_IN_FLIGHT else Unanswered(code, server_error=True)


def as_list_failure(failure: Failure) -> ListFailure:
    """Return the meaning of a failed list. An error that would refuse a refund is a fault of the set-up here."""
    match failure:
        case Misconfigured() | Busy() | NotSent() | Unanswered() | Denied():
            return failure
        case Refused(code, message) | Blocked(code, message):
            return Misconfigured(code, message)
        case UnknownRefusal(code, message):
            return Misconfigured(UNKNOWN_REFUSAL, f"{code}: {message}")
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no list gives")


_DENIED: Final = {
    401: "Braintree does not accept these keys in this environment",
    403: "the user of these keys may not do this: its role lacks a right",
    426: "Braintree does not serve this version of the API any more",
}


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after", "nan"))
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_SECONDS_MAX) if math.isfinite(seconds) and seconds >= 0 else None
