"""The error table: what AcmePay's answers outside 2xx mean. Pure. Source: the made-up manual of AcmePay, "Problems"."""

from __future__ import annotations

from typing import Final

from refund_worker.processors.adapter_api import (
    UNKNOWN_REFUSAL,
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    HttpAnswer,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
    Unreadable,
    clean,
)

ENDS: Final = frozenset({"WINDOW_CLOSED"})  # this payment takes nothing back any more
MORE_THAN_LEFT: Final = "TOO_MUCH"
NOTHING_LEFT: Final = "NOTHING_LEFT"
BLOCKED: Final = frozenset({"CONTESTED", "NO_FUNDS"})  # not now
BUSY: Final = frozenset({"ID_BUSY", "SLOW_DOWN"})  # not executed
KEY_CONFLICT: Final = "ID_REUSED"
NOT_FOUND: Final = frozenset({"NO_SUCH_PAYMENT", "NO_SUCH_REFUND"})
ONE_RECORD: Final = frozenset({"BAD_AMOUNT", "NOT_VOIDABLE"})
OURS: Final = frozenset({"BAD_TOKEN", "SHOP_CLOSED", "BAD_FORM"})  # every refund would meet it
# Our codes whose texts explain AcmePay's to people: those above, and the cause of a refund that failed later.
EXPLAINED_BY: Final = {
    "WINDOW_CLOSED": "charge_not_refundable",
    "TOO_MUCH": "amount_exceeds_unrefunded",
    "CONTESTED": "charge_disputed",
    "NO_FUNDS": "balance_insufficient",
    "BAD_AMOUNT": "amount_too_large",
    "BAD_TOKEN": "http_401",
    "BAD_FORM": "parameter_unknown",
    "ACCOUNT_GONE": "account_closed",
}

Failure = (
    Refused
    | AlreadyRefunded
    | Blocked
    | Misconfigured
    | UnknownRefusal
    | KeyConflict
    | Busy
    | NotSent
    | Unanswered
    | Denied
)


def classify(answer: HttpAnswer) -> Failure:
    """Return what an answer outside 2xx means. Only AcmePay's own problem object proves anything."""
    if answer.status >= 500:
        return Unanswered(f"HTTP {answer.status}")  # not kept under the key, so it is no `server_error`
    try:
        body = answer.json()
    except Unreadable:
        body = None
    problem = body.get("problem") if isinstance(body, dict) else None
    if not isinstance(problem, dict) or not 400 <= answer.status < 500:
        return Unanswered(f"HTTP {answer.status}")  # a proxy may say so of a request that went through
    name, message, trace = (_text(problem.get(key)) for key in ("name", "text", "trace"))
    replayed = is_replayed(answer)
    if name in BUSY:
        return Busy(name, _seconds(answer.headers.get("retry-after", "")))
    if answer.status == 401 or name in OURS:
        # Who is not known stores nothing. Of the others, AcmePay's manual does not say that they are not kept.
        return Denied(name or "http_401", message, maybe_kept=answer.status != 401, replayed=replayed)
    return _refusal(name, (message, trace or None, replayed))


def _refusal(name: str, details: tuple[str, str | None, bool]) -> Failure:
    if name == KEY_CONFLICT:
        return KeyConflict(details[0])
    if name == NOTHING_LEFT:
        return AlreadyRefunded(*details)
    if name == MORE_THAN_LEFT:
        return Refused(name, *details, more_than_left=True)
    if name in ENDS:
        return Refused(name, *details)
    if name in BLOCKED:
        return Blocked(name, *details)
    if name in NOT_FOUND:
        return Misconfigured("not_found", *details)
    return Misconfigured(name, *details) if name in ONE_RECORD else UnknownRefusal(name, *details)


def of_a_reading(failure: Failure) -> Misconfigured | Busy | NotSent | Unanswered | Denied:
    """Return the meaning of a failed reading: it refuses nothing, so a refusal is a fault of this one request."""
    match failure:
        case Misconfigured() | Busy() | NotSent() | Unanswered() | Denied():
            return failure
        case UnknownRefusal(code, message):
            return Misconfigured(UNKNOWN_REFUSAL, f"{code}: {message}")
        case Refused(code, message) | Blocked(code, message):
            return Misconfigured(code, message)
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no reading gets")


def is_replayed(answer: HttpAnswer) -> bool:
    """Return True if AcmePay says that the answer was stored under the key."""
    return answer.headers.get("x-replayed") == "yes"


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _seconds(header: str) -> float | None:
    return float(header) if header.isascii() and header.isdigit() and len(header) < 6 else None
