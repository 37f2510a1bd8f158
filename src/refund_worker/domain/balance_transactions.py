"""The processor's balance transactions: the movements of money on our account there, and how our ledger compares.

All amounts are in minor units. A sum of a refund or a dispute is the money that left the account for it, less what came
back. Times are aware.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Cause(StrEnum):
    """The object at the processor that moved the money."""

    REFUND = "refund"
    DISPUTE = "dispute"
    PAYMENT = "payment"  # a payment whose money never came: the processor took it back


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceTransaction:
    """One movement in the processor's own record. Untrusted.

    `object_id` is the refund, dispute or payment that caused it. `amount_minor` is without fees and below zero if money
    left the account, in `currency` (upper case), which is that of the account's balance: `is_converted` says that the
    object's own is another. `payment_refs` are the processor's names for the payment, and `installation` is our mark in
    the object, both as far as the answer gives them.
    """

    transaction_id: str
    cause: Cause
    object_id: str
    amount_minor: int
    currency: str
    created_at: datetime
    payment_refs: tuple[str, ...] = ()
    installation: str | None = None
    is_converted: bool = False


@dataclass(frozen=True, slots=True)
class TransactionsPage:
    """One page of the balance transactions of refunds and disputes. `after` continues it; the last page has none."""

    transactions: tuple[BalanceTransaction, ...]
    after: str | None


class Difference(StrEnum):
    """Why our ledger and the processor have different sums for one object in one month."""

    # They disagree.
    ONLY_HERE = "only_here"  # the processor moved nothing
    ONLY_THERE = "only_there"  # our ledger has nothing
    AMOUNT = "amount"
    # They do not disagree.
    OTHER_MONTH = "other_month"  # both have the same sum in all; one of them has it in another month
    IN_FLIGHT = "in_flight"  # its end is not known yet: the ledger follows at its end
    REFUNDED_BEFORE = "refunded_before"  # recorded with the payment as refunded before, or as paid manually
    NOT_RECORDED = "not_recorded"  # over a payment without a record here, or over a closed one
    OTHER_INSTALLATION = "other_installation"
    CONVERTED = "converted"  # the account's currency is not the payment's: the sums cannot be compared


DISAGREEMENTS = frozenset({Difference.ONLY_HERE, Difference.ONLY_THERE, Difference.AMOUNT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Our records of one object, besides its sum in the month.

    `posted_minor` is its sum in the ledger over all time. `open_minor` is the money of an object whose end is not
    known: it may have left without being posted yet. `explained_minor` was recorded as refunded before or as paid
    manually, so it is not posted. `is_recorded`: its payment is one of ours. `is_foreign`: another installation made
    it.
    """

    posted_minor: int = 0
    open_minor: int = 0
    explained_minor: int = 0
    is_recorded: bool = True
    is_foreign: bool = False


def kind_of(known: Known, theirs_minor: int, *, is_converted: bool) -> Difference:
    """Return why the sums of an object in a month differ. `theirs_minor` is the processor's sum over all time."""
    if is_converted:
        return Difference.CONVERTED
    if not known.is_recorded:
        return Difference.OTHER_INSTALLATION if known.is_foreign else Difference.NOT_RECORDED
    if theirs_minor == known.posted_minor:
        return Difference.OTHER_MONTH
    if theirs_minor == known.posted_minor + known.explained_minor:
        return Difference.REFUNDED_BEFORE
    if known.open_minor and theirs_minor in (
        known.posted_minor + known.open_minor,
        known.posted_minor + known.explained_minor + known.open_minor,
    ):
        return Difference.IN_FLIGHT
    if not known.posted_minor:
        return Difference.ONLY_THERE
    return Difference.AMOUNT if theirs_minor else Difference.ONLY_HERE
