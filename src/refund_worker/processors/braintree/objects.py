"""Braintree's transactions: their XML is checked and converted to our types. Pure.

Everything at Braintree is a transaction: a payment is one of type `sale`, and a refund one of type `credit` with the
payment's id in `refunded_transaction_id`. A void has no transaction of its own: it is described here as a refund
object whose id is `void-` and the payment's id. Fields: braintree_python 4.45.0, transaction.py, and the reference of
the transaction response at developer.paypal.com/braintree, read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from refund_worker.domain.processor_replies import PaymentReading, RefundDetails, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES
from refund_worker.processors.braintree.errors import SETTLEMENT_FOR_A_PERSON
from refund_worker.processors.braintree.orders import NO_MARKS, Marks, read_order_id
from refund_worker.processors.braintree.xml_documents import child, children, name_of, text_of, texts_of
from refund_worker.processors.wire import Unreadable, clean, to_minor_units
from refund_worker.processors.xml_reading import Element
from refund_worker.redaction import has_card_number

VOID_PREFIX: Final = "void-"
TRANSACTION_ID: Final = re.compile(r"[a-z0-9]{4,36}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CODE = re.compile(r"[0-9]{4}")
_WORD = re.compile(r"[a-z0-9_]{1,60}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")

VOIDED: Final = "voided"
SETTLED: Final = "settled"
# The money was asked for and is not collected yet. PayPal's `settlement_pending` can be voided too.
VOIDABLE: Final = frozenset({"submitted_for_settlement", "settlement_pending"})
SETTLING: Final = frozenset({"settling", "settlement_confirmed"})
# The payment was authorized, and its money was never asked for.
UNCAPTURED: Final = frozenset({"authorized", "authorizing"})
FAILED: Final = frozenset(
    {
        *("settlement_declined", "settlement_failed", "processor_declined", "failed"),
        *("gateway_rejected", "authorization_expired"),
    }
)
CAPTURED: Final = VOIDABLE | SETTLING | {SETTLED}
# A refund is paid only once it is settled: accepted is not paid.
STATUSES: Final = {
    **dict.fromkeys(VOIDABLE | SETTLING | UNCAPTURED, "pending"),
    **dict.fromkeys(FAILED, "failed"),
    SETTLED: "succeeded",
    VOIDED: "canceled",  # the refund was stopped before it was settled
}
# Disputes in these statuses are over. A retrieval is an inquiry, which a refund answers best.
_ENDED_DISPUTES: Final = frozenset({"won", "lost", "accepted", "auto_accepted", "expired"})
_INQUIRY: Final = "retrieval"


def check_payment_id(processor_payment_id: str) -> None:
    """Raise ValueError, without the id in it, unless the id can be one of a transaction."""
    if not TRANSACTION_ID.fullmatch(processor_payment_id):
        raise ValueError(
            "at braintree has small letters and digits only: the id of the transaction in the Control Panel"
        )


def void_id(transaction_id: str) -> str:
    """Return the id of the refund object that describes the void of a payment."""
    return VOID_PREFIX + transaction_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction as Braintree describes it. The amount is in minor units of `currency` (upper case).

    `status` is Braintree's own, or None. `refund_ids` are None if the answer has no such list. `voided_at` is when it
    was voided, as far as its history says. `was_submitted`: its money was asked for at some
    time; it is None without a history. `disputed`: an open dispute takes the money
    back; it is None without a list of disputes.
    """

    transaction_id: str
    kind: str
    status: str | None
    amount_minor: int
    currency: str
    created_at: datetime
    refunded_transaction_id: str | None
    refund_ids: tuple[str, ...] | None
    marks: Marks
    failure_code: str | None
    method: str | None
    trace: str | None
    disputed: bool | None
    voided_at: datetime | None
    was_submitted: bool | None

    @property
    def is_refund(self) -> bool:
        """Return True if the transaction gives money of another one back."""
        return self.kind == "credit" and self.refunded_transaction_id is not None


def to_transaction(root: Element) -> Transaction:
    """Return the transaction that a document describes.

    Raises `Unreadable` if it describes something else or lacks an id, a type, an amount, a currency or a time.
    """
    if name_of(root) != "transaction":
        raise Unreadable("not a transaction")
    identifier, kind, currency = (text_of(root, name) for name in ("id", "type", "currency_iso_code"))
    if identifier is None or not TRANSACTION_ID.fullmatch(identifier):
        raise Unreadable("a transaction without a usable id")
    if kind not in ("sale", "credit"):
        raise Unreadable("a transaction that is neither a sale nor a credit")
    if currency is None or not _CURRENCY.fullmatch(currency):
        raise Unreadable("a transaction without a currency")
    status = text_of(root, "status")
    history = _history(root)
    return Transaction(
        transaction_id=identifier,
        kind=kind,
        status=None if status is None else clean(status),
        amount_minor=to_minor_units(text_of(root, "amount"), currency),
        currency=currency,
        created_at=_time(text_of(root, "created_at")),
        refunded_transaction_id=_id(text_of(root, "refunded_transaction_id")),
        refund_ids=_refund_ids(root),
        marks=read_order_id(text_of(root, "order_id")),
        failure_code=_failure_code(root, status),
        method=_word(text_of(root, "payment_instrument_type")),
        trace=_reference(text_of(root, "acquirer_reference_number")),
        disputed=_is_disputed(root),
        voided_at=next((at for name, at in reversed(history) if name == VOIDED), None),
        was_submitted=any(name in CAPTURED for name, _ in history) if history else None,
    )


def to_refund_object(refund: Transaction) -> RefundObject:
    """Return a refund transaction as a refund object. Raises `Unreadable` for any other transaction."""
    if not refund.is_refund or refund.refunded_transaction_id is None:
        raise Unreadable("a transaction that is no refund of another one")
    status = None if refund.status is None else STATUSES.get(refund.status, refund.status)
    if status == "failed" and refund.failure_code in SETTLEMENT_FOR_A_PERSON:
        # The money may be with the customer already, or our account is at fault: an unknown status is shown to a
        # person, and a failed one would return the credits.
        status = f"{refund.status}_{refund.failure_code}"
    return RefundObject(
        processor_refund_id=refund.transaction_id,
        status=status,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        payment_refs=(refund.refunded_transaction_id,),
        leg_id=refund.marks.leg_id,
        attempt=refund.marks.attempt,
        installation=refund.marks.installation,
        failure_code=(refund.failure_code or refund.status) if status in UNPAID_OBJECT_STATES else None,
        created_at=refund.created_at,
        details=RefundDetails(
            method=refund.method,
            statement="credit",
            trace_kind="acquirer_reference_number" if refund.trace else None,
            trace_value=refund.trace,
        ),
    )


def to_void_object(payment: Transaction, marks: Marks = NO_MARKS) -> RefundObject:
    """Return the void of a payment as a refund object over its whole amount.

    `marks` are our ids, if it is proved that the void is ours. Raises `Unreadable` if the payment is not voided.
    """
    if payment.status != VOIDED:
        raise Unreadable("a payment that is not voided")
    return RefundObject(
        processor_refund_id=void_id(payment.transaction_id),
        status="succeeded",  # a void is final, and nothing was collected
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        payment_refs=(payment.transaction_id,),
        leg_id=marks.leg_id,
        attempt=marks.attempt,
        installation=marks.installation,
        failure_code=None,
        created_at=payment.voided_at or payment.created_at,
        details=RefundDetails(method=payment.method, statement="vanishes"),
    )


def to_reading(payment: Transaction, refunds: Iterable[RefundObject]) -> PaymentReading:
    """Return what was captured and refunded of a payment, whose refunds these are.

    A payment that was voided after its money was asked for counts as captured and refunded as a whole: `find` lists
    the void with this amount.
    """
    given_back = sum(refund.amount_minor for refund in refunds if refund.status not in UNPAID_OBJECT_STATES)
    return PaymentReading(
        captured_minor=_captured_minor(payment),
        currency=payment.currency,
        disputed=payment.disputed,
        refunded_minor=given_back,
    )


def _captured_minor(payment: Transaction) -> int | None:
    if payment.status in CAPTURED:
        return payment.amount_minor
    if payment.status == VOIDED:
        return None if payment.was_submitted is None else payment.amount_minor * payment.was_submitted
    return 0 if payment.status in UNCAPTURED | FAILED else None


def _failure_code(root: Element, status: str | None) -> str | None:
    """Return why the transaction failed: the code of the settlement or of the bank, or the gateway's own reason."""
    if status not in FAILED:
        return None
    names = ("processor_settlement_response_code", "processor_response_code", "gateway_rejection_reason")
    settlement, response, rejection = (text_of(root, name) for name in names)
    if status.startswith("settlement_") and settlement is not None and _CODE.fullmatch(settlement):
        return settlement
    # Codes below 2000 are approvals, which the refund had before it failed.
    if response is not None and _CODE.fullmatch(response) and response >= "2000":
        return response
    if settlement is not None and _CODE.fullmatch(settlement) and settlement not in ("4000", "4002"):
        return settlement
    return _word(rejection) or status


def _refund_ids(root: Element) -> tuple[str, ...] | None:
    """Return the ids of a payment's refunds. Raises `Unreadable` for an entry of another form."""
    listed = texts_of(root, "refund_ids")
    if listed is None:
        return None
    one = text_of(root, "refund_id")  # the older field, for the last refund
    found = tuple(dict.fromkeys((*listed, *((one,) if one else ()))))
    if not all(TRANSACTION_ID.fullmatch(each) for each in found):
        raise Unreadable("a list of refunds with an entry that is no id")
    return found


def _history(root: Element) -> list[tuple[str, datetime]]:
    events = child(root, "status_history")
    found = []
    for event in children(events, "status_event") if events is not None else ():
        status, at = text_of(event, "status"), text_of(event, "timestamp")
        if status is not None and at is not None:
            found.append((status, _time(at)))
    return found


def _is_disputed(root: Element) -> bool | None:
    listed = child(root, "disputes")
    if listed is None:
        return None
    return any(
        text_of(each, "kind") != _INQUIRY and text_of(each, "status") not in _ENDED_DISPUTES
        for each in children(listed, "dispute")
    )


def _time(text: str | None) -> datetime:
    try:
        made = datetime.fromisoformat(text) if text else None
    except ValueError:
        made = None
    if made is None:
        raise Unreadable("a transaction without a usable time")
    return made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)


def _id(text: str | None) -> str | None:
    return text if text is not None and TRANSACTION_ID.fullmatch(text) else None


def _word(text: str | None) -> str | None:
    return text if text is not None and _WORD.fullmatch(text) else None


def _reference(text: str | None) -> str | None:
    """Return a bank's reference: it is shown and searched for, so it is plain, short and no card number."""
    usable = text is not None and _REFERENCE.fullmatch(text) and not has_card_number(text)
    return text if usable else None
