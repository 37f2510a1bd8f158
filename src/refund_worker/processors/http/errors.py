"""The error answers of the protocol: a closed list of codes, each with its HTTP status and its meaning. Pure.

The source of every code is docs/paying-systems/http.md, which is our own. An error answer proves something only if it
says `"executed": false` and has a known code under the code's own status. Any other error answer may come from a proxy,
a framework or a crash, for a request that was executed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
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
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean

RETRY_AFTER_SECONDS_MAX: Final = 3_600.0
REPLAYED: Final = "idempotent-replayed"

Failure = (
    Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal | KeyConflict | Busy | Unanswered | Denied
)
ListFailure = Misconfigured | Busy | NotSent | Unanswered | Denied


class Meaning(StrEnum):
    """The subject of an error answer, which decides what follows from it."""

    ENDS = "ends"  # this payment cannot take the money back: another way is sought
    MORE_THAN_LEFT = "more_than_left"  # less is left there than we recorded: check there, then decide
    ALREADY_REFUNDED = "already_refunded"  # nothing is left: check there, then decide
    BLOCKED = "blocked"  # refused for now; tried again later with a new key
    PERSON = "person"  # one record or one request can cause it
    OURS = "ours"  # the secret, the account or its rights: every refund would fail the same way
    KEY_CONFLICT = "key_conflict"  # the key was used with another body
    BUSY = "busy"  # not executed; sent again with the same key


@dataclass(frozen=True, slots=True)
class Code:
    """A code of the protocol: the HTTP statuses that it may have, its meaning, and a sentence for the page."""

    statuses: frozenset[int]
    meaning: Meaning
    says: str


def _code(status: int, meaning: Meaning, says: str, *more: int) -> Code:
    return Code(frozenset({status, *more}), meaning, says)


CODES: Final[dict[str, Code]] = {
    "not_refundable": _code(422, Meaning.ENDS, "this payment can never be refunded any more"),
    "too_late": _code(422, Meaning.ENDS, "the time in which this payment could be refunded is over"),
    "more_than_left": _code(422, Meaning.MORE_THAN_LEFT, "the payment has less left than was asked for"),
    "already_refunded": _code(422, Meaning.ALREADY_REFUNDED, "nothing is left of the payment"),
    "low_balance": _code(422, Meaning.BLOCKED, "the account has too little money for this refund now"),
    "disputed": _code(422, Meaning.BLOCKED, "a dispute over the payment is open"),
    "not_settled": _code(422, Meaning.BLOCKED, "the payment is not settled yet"),
    "bad_request": _code(400, Meaning.PERSON, "a field is missing or wrong: an amount, a currency, a time"),
    "not_found": _code(404, Meaning.PERSON, "there is no such payment or refund"),
    "not_cancelable": _code(409, Meaning.PERSON, "the refund is past the state in which it can be canceled"),
    "key_conflict": _code(409, Meaning.KEY_CONFLICT, "the key was used with another body"),
    "denied": _code(401, Meaning.OURS, "the signature is wrong or old (401), or this is not allowed (403)", 403),
    "busy": _code(429, Meaning.BUSY, "not now: send the same request with the same key later", 503),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """The fields of an error answer that are read. `code` is empty if the answer is no problem object."""

    code: str
    detail: str
    is_proof: bool  # it says "executed": false


def problem_of(answer: HttpAnswer) -> Problem:
    """Return the problem object of an answer, with empty fields if it has none."""
    try:
        body = answer.json()
    except Unreadable:
        body = None
    fields = body if isinstance(body, dict) else {}
    code, detail = fields.get("code"), fields.get("detail")
    return Problem(
        code=clean(code) if isinstance(code, str) else "",
        detail=clean(detail) if isinstance(detail, str) else "",
        is_proof=fields.get("executed") is False,
    )


def classify(answer: HttpAnswer) -> Failure:
    """Return the meaning of an answer outside 2xx. It is `Unanswered` unless the answer proves more."""
    problem = problem_of(answer)
    summary = " ".join(part for part in (f"HTTP {answer.status}", problem.code, problem.detail) if part)
    server_error = answer.status >= 500
    if not problem.is_proof or not problem.code or answer.status < 400:
        return Unanswered(summary, server_error=server_error)
    code, message = CODES.get(problem.code), problem.detail or summary
    replayed = is_replayed(answer)
    if code is None:
        if server_error:
            return Unanswered(summary, server_error=True)
        return UnknownRefusal(problem.code, message, replayed=replayed)
    if answer.status not in code.statuses:
        # The answer contradicts itself, so it proves nothing.
        return Unanswered(summary, server_error=server_error)
    return _reply(problem.code, code.meaning, message, answer)


def _reply(code: str, meaning: Meaning, message: str, answer: HttpAnswer) -> Failure:
    replayed = is_replayed(answer)
    match meaning:
        case Meaning.ENDS:
            return Refused(code, message, replayed=replayed)
        case Meaning.MORE_THAN_LEFT:
            return Refused(code, message, replayed=replayed, more_than_left=True)
        case Meaning.ALREADY_REFUNDED:
            return AlreadyRefunded(message, replayed=replayed)
        case Meaning.BLOCKED:
            return Blocked(code, message, replayed=replayed)
        case Meaning.PERSON:
            return Misconfigured(code, message, replayed=replayed)
        case Meaning.OURS:
            return Denied(code, message, replayed=replayed)
        case Meaning.KEY_CONFLICT:
            return KeyConflict(message)
        case Meaning.BUSY:
            return Busy(code, _retry_after_seconds(answer.headers.get("retry-after")))


def is_replayed(answer: HttpAnswer) -> bool:
    """Return True if the server says that this is the stored answer to an earlier call under the same key."""
    return answer.headers.get(REPLAYED, "").lower() == "true"


def as_list_failure(failure: Failure) -> ListFailure:
    """Return the meaning of a failed list. A list refuses nothing: such an error is a fault of the request here."""
    match failure:
        case Misconfigured() | Busy() | Unanswered() | Denied():
            return failure
        case Refused(code, message) | Blocked(code, message):
            return Misconfigured(code, message)
        case UnknownRefusal(code, message):
            return Misconfigured(UNKNOWN_REFUSAL, f"{code}: {message}")
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no list gives")


def _retry_after_seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_SECONDS_MAX) if math.isfinite(seconds) and seconds >= 0 else None
