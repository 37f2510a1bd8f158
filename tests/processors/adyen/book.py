"""The book of the local Adyen: payments, refunds, keys and events, as Adyen would have them. No network.

Amounts are in Adyen's minor units. The signature is made here from its description, apart from the adapter's code.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

MERCHANT = "RefundWorkerTest"
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
KEY_SECONDS = 7 * 86_400.0
BERLIN = timezone(timedelta(hours=1))
# Of a refund in the book. `received` waits for Adyen's check; `sent` is a success that may still be taken back.
RECEIVED, SENT, REFUSED, FAILED, REVERSED = "received", "sent", "refused", "failed", "reversed"
NOT_CAPTURED = "Transaction hasn't been captured, refund not possible"
TOO_MUCH = "Insufficient balance on payment"
NO_FUNDS = "Insufficient funds"

Answer = tuple[int, dict[str, Any]]


@dataclass
class Payment:
    """An authorised payment, captured or not."""

    psp: str
    value: int
    currency: str
    captured: bool = True
    method: str = "visa"


@dataclass
class Refund:
    """A refund in the book."""

    psp: str
    payment: Payment
    value: int
    reference: str
    made: float
    state: str = RECEIVED


class Refusal(Exception):
    """A request that Adyen does not take: the answer to it."""

    def __init__(self, status: int, code: str, message: str, kind: str = "validation") -> None:
        super().__init__(message)
        self.answer: Answer = (status, {"status": status, "errorCode": code, "message": message, "errorType": kind})


@dataclass
class Stored:
    """The first answer under a key."""

    at: float
    path: str
    body: bytes
    answer: Answer


def numbers() -> Iterator[str]:
    """Yield the ends of references: letters and digits, as Adyen has them."""
    return (f"{number:08X}" for number in itertools.count(0x1A2B3C4D, 7))


@dataclass
class Book:
    """What Adyen knows. `funds` is our balance there, None for enough; `hmac_key` signs the events."""

    merchant: str = MERCHANT
    hmac_key: str = HMAC_KEY
    live: bool = False
    funds: int | None = None
    key_seconds: float = KEY_SECONDS
    clock_offset: float = 0.0
    payments: dict[str, Payment] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    keys: dict[str, Stored] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)  # each a whole request with one item
    _numbers: Iterator[str] = field(default_factory=numbers)

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return time.time() + self.clock_offset

    def psp(self, prefix: str) -> str:
        """Return a new reference of 16 characters."""
        return f"{prefix:X<8}"[:8] + next(self._numbers)

    def capture(self, value: int, currency: str = "GBP", *, captured: bool = True) -> Payment:
        """Make a payment: AUTHORISATION, and CAPTURE unless it is not captured yet."""
        payment = Payment(self.psp("PAY"), value, currency, captured)
        self.payments[payment.psp] = payment
        return payment

    def refunds_of(self, payment: str) -> list[Refund]:
        """Return the payment's refunds in the book, those that came to nothing too."""
        return [each for each in self.refunds.values() if each.payment.psp == payment]

    def paid(self, payment: str) -> list[int]:
        """Return the amounts of the payment's refunds that paid or may still pay."""
        return [each.value for each in self.refunds_of(payment) if each.state in (RECEIVED, SENT)]

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, path: str, key: str | None, body: bytes, payment: str) -> Answer:
        """Return the answer to a request for a refund: the first one under its key, or that to a new refund.

        Only 201 and 422 are kept under a key. A key that was forgotten makes a new refund.
        """
        stored = self.keys.get(key or "")
        if stored is not None and self.now() - stored.at < self.key_seconds:
            return stored.answer
        try:
            answer = self._accepted(json.loads(body), payment)
        except json.JSONDecodeError:
            answer = Refusal(400, "702", "Unexpected input").answer
        except Refusal as refusal:
            answer = refusal.answer
        if key and answer[0] in (201, 422):
            self.keys[key] = Stored(self.now(), path, body, answer)
        return answer

    def _accepted(self, order: dict[str, Any], payment_id: str) -> Answer:
        if order.get("merchantAccount") != self.merchant:
            raise Refusal(403, "901", "Invalid Merchant Account", "security")
        payment = self.payments.get(payment_id)
        if payment is None:
            raise Refusal(422, "167", "Original pspReference required for this operation")
        value = order["amount"]["value"]
        if order["amount"]["currency"] != payment.currency or value <= 0:
            raise Refusal(422, "137", "Invalid amount specified")
        made = self.refund(payment_id, value, order.get("reference", ""))
        described = {
            "merchantAccount": self.merchant,
            "paymentPspReference": payment_id,
            "pspReference": made.psp,
            "reference": made.reference,
            "status": "received",
            "amount": {"value": value, "currency": payment.currency},
        }
        return 201, described

    def refund(self, payment: str, value: int, reference: str = "") -> Refund:
        """Receive a refund. Without a reference it is one that a person makes in the Customer Area."""
        made = Refund(self.psp("REF"), self.payments[payment], value, reference, self.now())
        self.refunds[made.psp] = made
        return made

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def process(self, psp: str, *, reason: str | None = None) -> dict[str, Any]:
        """Check a received refund, as Adyen does later, and return the REFUND event. `reason` refuses it."""
        made = self.refunds[psp]
        why = reason if reason is not None else self._objection(made)
        made.state = SENT if why is None else REFUSED
        if why is None and self.funds is not None:
            self.funds -= made.value
        return self.event("REFUND", made, success=why is None, reason=why or "")

    def settle(self) -> list[dict[str, Any]]:
        """Check all received refunds and return their events."""
        return [self.process(each.psp) for each in tuple(self.refunds.values()) if each.state == RECEIVED]

    def fail(self, psp: str, reason: str = "Refund Failed") -> dict[str, Any]:
        """Let the card scheme reject a refund that Adyen has passed on, and return the REFUND_FAILED event."""
        self.refunds[psp].state = FAILED
        return self.event("REFUND_FAILED", self.refunds[psp], reason=reason)

    def reverse(self, psp: str) -> dict[str, Any]:
        """Let the money of a refund come back, and return the REFUNDED_REVERSED event."""
        self.refunds[psp].state = REVERSED
        return self.event("REFUNDED_REVERSED", self.refunds[psp])

    def postpone(self, psp: str) -> dict[str, Any]:
        """Return the POSTPONED_REFUND event of a refund."""
        return self.event("POSTPONED_REFUND", self.refunds[psp])

    def _objection(self, made: Refund) -> str | None:
        payment = made.payment
        sent = sum(each.value for each in self.refunds_of(payment.psp) if each.state == SENT)
        if not payment.captured:
            return NOT_CAPTURED
        if sent + made.value > payment.value:
            return TOO_MUCH
        return NO_FUNDS if self.funds is not None and self.funds < made.value else None

    # --- events -------------------------------------------------------------------------------------------------------

    def event(
        self, code: str, made: Refund, *, success: bool = True, reason: str = "", **additional: str
    ) -> dict[str, Any]:
        """Return an event about a refund as Adyen sends it, signed. It is kept in `events` too."""
        item = {
            "amount": {"value": made.value, "currency": made.payment.currency},
            "eventCode": code,
            "eventDate": datetime.fromtimestamp(self.now(), UTC).astimezone(BERLIN).isoformat(timespec="seconds"),
            "merchantAccountCode": self.merchant,
            "merchantReference": made.reference,
            "originalReference": made.payment.psp,
            "paymentMethod": made.payment.method,
            "pspReference": made.psp,
            "reason": reason,
            "success": "true" if success else "false",
        }
        return self.sent(item, **additional)

    def authorisation(self, payment: str) -> dict[str, Any]:
        """Return the AUTHORISATION event of a payment, with what Adyen adds about the cardholder."""
        item = {
            "amount": {"value": self.payments[payment].value, "currency": self.payments[payment].currency},
            "eventCode": "AUTHORISATION",
            "eventDate": datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="seconds"),
            "merchantAccountCode": self.merchant,
            "merchantReference": "order:4711",
            "paymentMethod": "visa",
            "pspReference": payment,
            "reason": "033899:1111:03/2030",
            "success": "true",
        }
        return self.sent(item, shopperName="Ann Example", cardSummary="1111", shopperIP="192.0.2.7")

    def sent(self, item: dict[str, Any], **additional: str) -> dict[str, Any]:
        """Sign an item, keep it in `events`, and return the request with it."""
        signed = {**item, "additionalData": {**additional, "hmacSignature": signature(item, self.hmac_key)}}
        event = {"live": "true" if self.live else "false", "notificationItems": [{"NotificationRequestItem": signed}]}
        self.events.append(event)
        return event


def signature(item: dict[str, Any], key: str) -> str:
    """Return the signature of an item under a key in hexadecimal."""
    amount = item["amount"]
    values = (
        *(item.get(name, "") for name in ("pspReference", "originalReference")),
        *(item.get(name, "") for name in ("merchantAccountCode", "merchantReference")),
        *(amount["value"], amount["currency"], item["eventCode"], item["success"]),
    )
    text = ":".join(str(value) for value in values)
    return base64.b64encode(hmac.digest(binascii.unhexlify(key), text.encode("utf-8"), "sha256")).decode("ascii")


def as_body(event: dict[str, Any]) -> bytes:
    """Return the body of the request that sends an event."""
    return json.dumps(event).encode("utf-8")
