"""The kinds of differences between our books and a processor's, each with its one action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kinds of differences."""

    NOT_RECORDED = "not_recorded"  # an object of ours that our books do not have
    NOT_THERE = "not_there"  # our books have an object or a paid leg that the processor does not have
    AMOUNT = "amount"
    CURRENCY = "currency"
    STATUS = "status"
    REFUNDED_TWICE = "refunded_twice"  # more than one live payment for one leg
    OUTSIDE_REFUND = "outside_refund"  # a refund that others made and that is not recorded
    DISPUTE = "dispute"
    PAYMENT = "payment"
    LEDGER = "ledger"  # our own sums disagree


class State(StrEnum):
    """The states of a difference. A person's decision is final."""

    OPEN = "open"
    APPLIED = "applied"
    ACKNOWLEDGED = "acknowledged"
    GONE = "gone"  # it had vanished when a person wanted to apply its action: nothing was changed


# The effect of `apply` on a difference of each kind. Our own sums have none: only a person can repair them.
ACTIONS: Final[Mapping[Kind, str | None]] = {
    Kind.NOT_RECORDED: "adopt it",
    Kind.NOT_THERE: "look again, then show it to a person",
    Kind.AMOUNT: "block the payment and show it to a person",
    Kind.CURRENCY: "block the payment and show it to a person",
    Kind.STATUS: "accept the processor's status",
    Kind.REFUNDED_TWICE: "show it to a person",
    Kind.OUTSIDE_REFUND: "record it",
    Kind.DISPUTE: "record it",
    Kind.PAYMENT: "record or close it",
    Kind.LEDGER: None,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between our records and the processor's, or within ours.

    `subject` is the id of the leg, or of the payment, object or customer if there is no leg. `ours` and `theirs` are
    minor units if they are integers; of a dispute, a status or a currency they are texts. `object_id` is the
    processor's id of the object, `detail` more facts in words.
    """

    kind: str
    subject: str
    ours: int | str
    theirs: int | str
    object_id: str = ""
    leg_id: str | None = None
    refund_id: str | None = None
    payment_id: str | None = None
    customer_id: str | None = None
    currency: str | None = None
    detail: str = ""
