"""The request of one refund: its frozen body, our ids in `order_id`, and the key of a void. Pure.

Braintree keeps one text of ours with a refund: `order_id`, of at most 255 characters (validation error 91501). It holds
our four ids, so that every refund shows which leg of which installation it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.processors.wire import to_decimal_text

ORDER_ID_LENGTH_MAX: Final = 255
KEY_LENGTH_MAX: Final = 255  # 915230 ApiRequestKeyTooLong, in the SDK's integration tests, read 2026-11
# "10" and not "10.00" for currencies without decimals (validation errors, read 2026-11). Not read, known: these are the
# currencies of ISO 4217. Both texts name the same amount.
DECIMALS: Final = dict.fromkeys(
    (
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"),
        *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
    ),
    0,
)

_FORM: Final = "rw1"
_OURS = re.compile(r"[A-Za-z0-9_.-]{1,120}")
_ATTEMPT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Marks:
    """Our ids as a refund carries them, None where they are missing."""

    leg_id: str | None = None
    attempt: int | None = None
    installation: str | None = None


NO_MARKS: Final = Marks()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """A frozen body, read again. `amount` is Braintree's text of it, `amount_minor` the same in minor units."""

    transaction_id: str
    amount: str
    amount_minor: int
    currency: str
    order_id: str
    merchant_account_id: str | None

    @property
    def marks(self) -> Marks:
        """Return our ids in the request."""
        return read_order_id(self.order_id)

    @property
    def void_key(self) -> str:
        """Return the key of a void for this leg. It is the same for every attempt of the leg, see `adapter.py`."""
        who = json.dumps([self.marks.installation, self.marks.leg_id, self.transaction_id])
        return f"refund-worker-void-{hashlib.sha256(who.encode()).hexdigest()[:40]}"


def to_body(order: RefundInstruction, merchant_account_id: str | None) -> dict[str, Any]:
    """Return the body that is frozen for a refund. Raises ValueError for values that Braintree cannot take."""
    if type(order.amount_minor) is not int or order.amount_minor < 1:
        raise ValueError("a refund's amount must be a positive integer in minor units")
    body: dict[str, Any] = {
        "transaction_id": order.processor_payment_id,
        "amount": to_decimal_text(order.amount_minor, order.currency, DECIMALS),
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "order_id": to_order_id(order),
    }
    if merchant_account_id is not None:
        body["merchant_account_id"] = merchant_account_id
    return body


def read_body(body: str) -> RefundRequest:
    """Return the request in a frozen body. Raises ValueError if `to_body` did not make it."""
    fields = json.loads(body)
    try:
        return RefundRequest(**{"merchant_account_id": None, **fields})
    except TypeError:
        raise ValueError("the frozen body is not one of this adapter") from None


def to_order_id(order: RefundInstruction) -> str:
    """Return our ids as one text. Raises ValueError if one is no plain id, or if all together are too long."""
    ids = order.refund_id, order.leg_id
    if not all(_OURS.fullmatch(each) for each in ids) or not (
        order.installation == "" or _OURS.fullmatch(order.installation)
    ):
        raise ValueError("an id of ours is empty, too long, or has other characters than letters, digits, _ . and -")
    text = ":".join((_FORM, order.installation, *ids, str(order.attempt)))
    if len(text) > ORDER_ID_LENGTH_MAX:
        raise ValueError(f"our ids together have more than {ORDER_ID_LENGTH_MAX} characters")
    return text


def read_order_id(text: str | None) -> Marks:
    """Return our ids in an order id; none for an order id of others. Every user of the account can write it."""
    parts = (text or "").split(":")
    if len(parts) != 5 or parts[0] != _FORM:
        return NO_MARKS
    _, installation, _, leg_id, attempt = parts
    if not _OURS.fullmatch(leg_id) or not _ATTEMPT.fullmatch(attempt):
        return NO_MARKS
    return Marks(leg_id, int(attempt), installation if _OURS.fullmatch(installation) else None)
