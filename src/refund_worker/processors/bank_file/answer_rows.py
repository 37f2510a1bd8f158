"""The content of a bank's answer: what it says of each payment and of each file, whatever its format.

A rejection counts as failed only for a reason of the closed list. A bank that has the transfer already rejects a copy
of it, while the first one is paid: such rows have no state, and a person decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, Literal

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.bank_file.reasons import DUPLICATES, FAULT_OF
from refund_worker.processors.wire import clean

Form = Literal["csv", "pain.002", "camt.053", "camt.054"]
REASON_LENGTH_MAX: Final = 35
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class BadAnswer(ValueError):
    """A file that is no answer of a bank, or is damaged. The text names the line or element, never its content."""


class Word(StrEnum):
    """The words of our CSV form, and what the codes of the other formats mean."""

    SENT = "sent"
    PAID = "paid"
    REJECTED = "rejected"
    RETURNED = "returned"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of a status with its reasons. `state` is None where a person must decide."""

    state: ObjectState | None
    failure_code: str | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAnswerRow:
    """The bank's word on one payment. The same file gives the same rows, and a row equals a repeated one.

    - `end_to_end_id`: ours, in small letters.
    - `status`: the bank's own status; of an account statement, `booked`, `returned`, `credited` or `reversed`.
    - `state`: its meaning, as in a `TransferObject`, or None for an unknown or doubtful status.
    - `failure_code`, `fault`: the bank's reason, and whose fault it is, as far as it is known.
    - `amount_minor`, `currency`: the amount that the bank names, for comparison, or None.
    - `returned_minor`: how much came back, None if the file does not say. Then all of it did.
    - `day`: the day of the answer or of the booking. `trace`: the bank's reference of the booking.
    """

    end_to_end_id: str
    status: str
    state: ObjectState | None
    failure_code: str | None = None
    fault: Fault | None = None
    amount_minor: int | None = None
    currency: str | None = None
    returned_minor: int | None = None
    day: date | None = None
    trace: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankFileStatus:
    """The bank's word on a whole file, by its message id: it holds for each payment that no row names."""

    message_id: str
    status: str
    state: ObjectState | None
    failure_code: str | None = None
    fault: Fault | None = None
    day: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAnswer:
    """One file of the bank, read whole. `others` counts the payments in it that are none of ours, by their ids."""

    form: Form
    rows: tuple[BankAnswerRow, ...]
    files: tuple[BankFileStatus, ...] = ()
    others: int = 0


def judged(word: Word | None, reasons: Sequence[str]) -> Verdict:
    """Return the meaning of a status, None for an unknown one, with the bank's reasons for it."""
    if word not in (Word.SENT, Word.PAID) and (copy := next((each for each in reasons if each in DUPLICATES), None)):
        return Verdict(None, copy)
    first = next((each for each in reasons if each in FAULT_OF), reasons[0] if reasons else None)
    match word:
        case Word.SENT:
            return Verdict(ObjectState.PENDING)
        case Word.PAID:
            return Verdict(ObjectState.SUCCEEDED)
        case Word.CANCELED:
            return Verdict(ObjectState.CANCELED, first)
        case Word.RETURNED:
            return Verdict(ObjectState.FAILED, first, FAULT_OF.get(first or ""))
        case Word.REJECTED if first is not None and first in FAULT_OF:
            return Verdict(ObjectState.FAILED, first, FAULT_OF[first])
        case _:
            return Verdict(None, first)


def clean_reason(text: str) -> str:
    """Return a bank's reason in a form that can be stored and shown."""
    return clean(text.strip())[:REASON_LENGTH_MAX]


def read_day(text: str) -> date | None:
    """Return the day that an ISO 8601 date or time begins with, or None if it is no date."""
    if not _DATE.match(text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
