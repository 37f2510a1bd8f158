"""Decide if a payment of a processor's account records itself, and with which customer and credits. Pure functions.

Nothing is guessed: a payment whose metadata does not say clearly whose it is, and how many credits it bought, is
skipped with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from refund_worker.domain import ids
from refund_worker.domain.money import AMOUNT_MAX, credits_for
from refund_worker.domain.processor_replies import ChargedPayment
from refund_worker.domain.records import PaymentRecord

_DIGITS = re.compile("[0-9]{1,13}")


class Skip(StrEnum):
    """Why a payment does not record itself. `NOT_CAPTURED` is no fault: there is no money, or not yet."""

    NOT_CAPTURED = "not_captured"
    NO_CUSTOMER = "no_customer"
    NO_CREDITS = "no_credits"
    CONTRADICTORY = "contradictory"
    BAD_CUSTOMER = "bad_customer"
    BAD_CREDITS = "bad_credits"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A payment that does not record itself, and the reason for people."""

    skip: Skip
    message: str


@dataclass(frozen=True, slots=True)
class RecordingKeys:
    """Where a payment's metadata names the customer and the credits.

    The credits are in the metadata under `credits_key`, or else `credits_per_major` for each major unit of money.
    """

    customer_key: str
    credits_key: str | None = None
    credits_per_major: Decimal | None = None

    def are_in(self, payment: ChargedPayment) -> bool:
        """Return True if the metadata that was read has all keys."""
        wanted = [key for key in (self.customer_key, self.credits_key) if key]
        return all(payment.values(key) for key in wanted)


def record_of(
    payment: ChargedPayment, keys: RecordingKeys, processor: str, recorded_by: str
) -> PaymentRecord | Skipped:
    """Return the record that the payment makes of itself, or why it makes none."""
    if not payment.succeeded or payment.captured_minor <= 0:
        return Skipped(Skip.NOT_CAPTURED, "nothing was captured")
    customer_id = _customer(payment, keys)
    credits = _credits(payment, keys)
    if isinstance(customer_id, Skipped):
        return customer_id
    if isinstance(credits, Skipped):
        return credits
    return PaymentRecord(
        payment_id=payment.processor_payment_id,
        customer_id=customer_id,
        processor=processor,
        processor_payment_id=payment.processor_payment_id,
        amount_minor=payment.captured_minor,
        currency=payment.currency,
        credits=credits,
        captured_at=payment.created_at.timestamp(),
        refunded_minor=min(payment.refunded_minor, payment.captured_minor),
        recorded_by=recorded_by,
    )


def _one_value(payment: ChargedPayment, key: str, missing: Skip) -> str | Skipped:
    values = payment.values(key)
    if not values:
        return Skipped(missing, f"its metadata has no {key}")
    if len(values) > 1:
        return Skipped(Skip.CONTRADICTORY, f"the metadata of charge and payment intent differ in {key}")
    return next(iter(values))


def _customer(payment: ChargedPayment, keys: RecordingKeys) -> str | Skipped:
    value = _one_value(payment, keys.customer_key, Skip.NO_CUSTOMER)
    if isinstance(value, Skipped):
        return value
    try:
        return ids.checked_id(value)
    except ValueError as error:
        return Skipped(Skip.BAD_CUSTOMER, f"the customer's id in {keys.customer_key} {error}")


def _credits(payment: ChargedPayment, keys: RecordingKeys) -> int | Skipped:
    if keys.credits_key is None:
        credits = credits_for(payment.captured_minor, payment.currency, keys.credits_per_major or Decimal(0))
        if not 0 < credits <= AMOUNT_MAX:
            return Skipped(Skip.BAD_CREDITS, f"its money buys {credits} credits")
        return credits
    value = _one_value(payment, keys.credits_key, Skip.NO_CREDITS)
    if isinstance(value, Skipped):
        return value
    if not _DIGITS.fullmatch(value) or not 0 < int(value) <= AMOUNT_MAX:
        return Skipped(Skip.BAD_CREDITS, f"{keys.credits_key} is no positive number of credits in digits")
    return int(value)
