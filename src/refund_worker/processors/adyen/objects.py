"""Adyen's requests and answers for refunds: checked, and converted to and from our types. Pure.

Sources: Adyen's published description CheckoutService v72 (called AD-SPEC here), and docs.adyen.com, read 2026-11.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeGuard

from refund_worker.domain.money import AMOUNT_MAX, decimal_places
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.processors.base import is_plain_id
from refund_worker.processors.wire import Unreadable, clean

# AD-SPEC, parameter Idempotency-Key: at most 64 characters.
KEY_LENGTH_MAX: Final = 64
# AD-SPEC, PaymentRefundRequest.reference: at most 80 characters.
REFERENCE_LENGTH_MAX: Final = 80
RECEIVED: Final = "received"

# docs.adyen.com/development-resources/currency-codes (read in part) and Currency.php of adyen-php-api-library, read
# 2026-11. Currencies that are in neither set have two decimals there. Adyen's own figures count, also where ISO 4217
# has others (CLP, CVE, IDR, ISK).
ZERO_DECIMAL: Final = frozenset(
    (*("CVE", "DJF", "GNF", "IDR", "JPY", "KMF", "KRW", "PYG"), *("RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"))
)
THREE_DECIMAL: Final = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
# Our books count these in whole units, and no page that we read says what Adyen does.
NOT_READ: Final = frozenset(("BIF", "MGA"))

# AD-SPEC: a reference of 16 characters; its examples have digits and capital letters. Other lengths are taken too, so
# that a change at Adyen stops no payment.
_PSP_REFERENCE = re.compile("[A-Z0-9]{10,40}")
_CURRENCY = re.compile("[A-Z]{3}")
_HEADER_VALUE = re.compile("[!-~]+")
_MARK: Final = "rw"
_OUR_REFERENCE = re.compile(r"rw\.([A-Za-z0-9_-]{1,60})\.([0-9]{1,9})(?:\.([A-Za-z0-9_-]{1,60}))?")


@dataclass(frozen=True, slots=True)
class OurMarks:
    """Our ids in a reference. All are None if the reference is not ours."""

    leg_id: str | None = None
    attempt: int | None = None
    installation: str | None = None


NOT_OURS: Final = OurMarks()


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, unless the id can be the pspReference of a payment."""
    if not is_psp_reference(processor_payment_id):
        raise ValueError("at adyen is the pspReference of the payment: 16 capital letters and digits")


def is_psp_reference(text: object) -> TypeGuard[str]:
    """Return True if the text can be a pspReference."""
    return isinstance(text, str) and _PSP_REFERENCE.fullmatch(text) is not None


# --- amounts ----------------------------------------------------------------------------------------------------------


def adyen_decimals(currency: str) -> int:
    """Return the decimals of Adyen's minor unit of a currency (upper case). Raises ValueError where none were read."""
    if currency in NOT_READ:
        raise ValueError(f"the decimals of {currency} at adyen are not known to this adapter")
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def to_adyen_value(amount_minor: int, currency: str) -> int:
    """Return an amount in our minor units in Adyen's. Raises ValueError for an amount that has more decimals."""
    shift = adyen_decimals(currency) - decimal_places(currency)
    if shift >= 0:
        return int(amount_minor * 10**shift)
    value, rest = divmod(amount_minor, 10**-shift)
    if rest:
        raise ValueError(f"{currency} has fewer decimals at adyen: the amount is no multiple of its minor unit there")
    return int(value)


def to_our_minor(amount: object) -> tuple[int, str]:
    """Return Adyen's `{"value": …, "currency": …}` as (our minor units, currency). Raises `Unreadable`."""
    fields = amount if isinstance(amount, dict) else {}
    value, currency = fields.get("value"), fields.get("currency")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency) or currency in NOT_READ:
        raise Unreadable("an amount without a usable currency")
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(value) is not int or not 0 <= value <= 1_000 * AMOUNT_MAX:
        raise Unreadable("an amount that is no whole number of minor units")
    shift = decimal_places(currency) - adyen_decimals(currency)
    minor, rest = (value * 10**shift, 0) if shift >= 0 else divmod(value, 10**-shift)
    if rest or minor > AMOUNT_MAX:
        raise Unreadable("an amount that our books cannot hold")
    return int(minor), currency


# --- our ids ----------------------------------------------------------------------------------------------------------


def reference_of(order: RefundInstruction) -> str:
    """Return the reference that carries our ids: `rw.LEG.ATTEMPT.INSTALLATION`. Raises ValueError if it is too long.

    It has no colon, because Adyen joins the signed values of an event by colons.
    """
    parts = [_MARK, order.leg_id, str(order.attempt), *([order.installation] if order.installation else [])]
    reference = ".".join(parts)
    if len(reference) > REFERENCE_LENGTH_MAX or not _OUR_REFERENCE.fullmatch(reference):
        raise ValueError("an id of ours does not fit into Adyen's reference of 80 characters")
    return reference


def marks_of(reference: object) -> OurMarks:
    """Return our ids in a reference. Every user of the account can write one, so it is checked like other input."""
    found = _OUR_REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return NOT_OURS if found is None else OurMarks(found[1], int(found[2]), found[3])


def idempotency_key(key: str) -> str:
    """Return the key as the header can carry it: itself, or its hash if it is longer than Adyen takes."""
    if len(key) <= KEY_LENGTH_MAX and _HEADER_VALUE.fullmatch(key):
        return key
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


# --- requests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrozenRefund:
    """A stored request: the payment, which is part of the path, and the body that is sent to it."""

    payment: str
    request: Mapping[str, Any]

    @property
    def body(self) -> bytes:
        """Return the body, with the same bytes each time."""
        return canonical_json(self.request).encode("utf-8")


def frozen_text(order: RefundInstruction, merchant_account: str) -> str:
    """Return the text that is stored for a request. Raises ValueError for what Adyen cannot take.

    `merchantRefundReason` is left out: it is optional, and no page that we read says what follows from each value.
    """
    check_payment_id(order.processor_payment_id)
    if type(order.amount_minor) is not int or order.amount_minor < 1:
        raise ValueError("a refund's amount must be a positive integer in minor units")
    request = {
        "merchantAccount": merchant_account,
        "amount": {"value": to_adyen_value(order.amount_minor, order.currency), "currency": order.currency},
        "reference": reference_of(order),
    }
    return canonical_json({"paymentPspReference": order.processor_payment_id, "request": request})


def thawed(text: str) -> FrozenRefund:
    """Return the request in a stored text. Raises ValueError for another text."""
    stored = json.loads(text)
    payment = stored.get("paymentPspReference") if isinstance(stored, dict) else None
    if not is_psp_reference(payment) or not isinstance(stored.get("request"), dict):
        raise ValueError("the stored request is not one for adyen")
    return FrozenRefund(payment, stored["request"])


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and without blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# --- answers ----------------------------------------------------------------------------------------------------------


def to_refund_object(answer: object, sent: FrozenRefund, *, now: datetime, live: bool) -> RefundObject:
    """Return the refund that an answer to a request describes. Raises `Unreadable`.

    The answer has no time: `now` is taken. Any status but `received` is passed on under a name of its own, which is
    never one of our statuses.
    """
    if not isinstance(answer, dict):
        raise Unreadable("the answer is no JSON object")
    psp_reference, payment, status = (answer.get(name) for name in ("pspReference", "paymentPspReference", "status"))
    if not is_plain_id(psp_reference):
        raise Unreadable("an answer without a usable pspReference")
    if not is_plain_id(payment) or not isinstance(status, str):
        raise Unreadable("an answer without payment or status")
    amount_minor, currency = to_our_minor(answer.get("amount"))
    marks = marks_of(answer.get("reference", sent.request.get("reference")))
    return RefundObject(
        processor_refund_id=psp_reference,
        status="pending" if status == RECEIVED else clean(f"adyen_{status}"),
        amount_minor=amount_minor,
        currency=currency,
        payment_refs=(payment,),
        leg_id=marks.leg_id,
        attempt=marks.attempt,
        failure_code=None,
        created_at=now,
        live=live,
        installation=marks.installation,
    )


def is_about(answer: Mapping[str, Any], sent: FrozenRefund) -> bool:
    """Return True if the answer repeats what was sent: the payment, the amount and, if it has one, the reference.

    An answer about another refund is the stored one of another request under the same key.
    """
    return (
        answer.get("paymentPspReference") == sent.payment
        and answer.get("amount") == sent.request.get("amount")
        and answer.get("reference") in (None, sent.request.get("reference"))
    )
