"""The book of the sandbox: captures, refunds and idempotency keys, a clock that moves, and the faults to come."""

from __future__ import annotations

import itertools
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from refund_worker.processors.local_server.journal import Journal, Record
from refund_worker.processors.paypal.sandbox.payouts import Payouts
from refund_worker.processors.paypal.sandbox.records import (
    capture_record,
    change_record,
    key_record,
    read_capture,
    read_refund,
    refund_record,
)

DAY = 86_400.0
KEY_SECONDS = 45 * DAY
WINDOW_SECONDS = 180 * DAY
VOID = frozenset({"FAILED", "CANCELLED"})
NO_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
# Issue → HTTP status, where it is not 422.
STATUS_OF_ISSUE = {
    "INVALID_PARAMETER_SYNTAX": 400,
    "INVALID_STRING_LENGTH": 400,
    "MISSING_REQUIRED_PARAMETER": 400,
    "MALFORMED_REQUEST_JSON": 400,
    "INVALID_ACCOUNT_STATUS": 401,
    "PERMISSION_DENIED": 403,
    "INVALID_RESOURCE_ID": 404,
    "PREVIOUS_REQUEST_IN_PROGRESS": 409,
}


FAULTS = {
    "timeout": "the refund is made, and no answer comes",
    "reset": "the refund is made, and the connection breaks",
    "cut": "the refund is made, and the answer ends early",
    "slow": "the refund is made, and the answer comes late",
    "error500": "the refund is made, and the answer is a 500",
    "error503": "no refund is made, and the answer is a 503",
    "lost": "no refund is made, and the connection breaks",
    "409": "no refund is made: the same key is in progress",
    "429": "no refund is made: too many requests",
    "proxy": "the refund is made, and a proxy answers 403 with a page",
    "pending": "the refund is made, and is PENDING",
    "minimal": "the refund is made, and the answer has neither amount nor ids",
}
NO_FAULT = ""
# Places of faults beside the ids of captures: requests for payouts, and readings of their batches.
PAYOUTS, PAYOUT_READINGS = "payouts", "payout readings"


class Refusal(Exception):
    """An issue that PayPal answers with."""

    def __init__(self, issue: str, field_name: str = "") -> None:
        super().__init__(issue)
        self.issue = issue
        self.field = field_name

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return STATUS_OF_ISSUE.get(self.issue, 422)


@dataclass
class Capture:
    """A captured payment. `disputed` is "", "case" (an open case at PayPal) or "chargeback"."""

    capture_id: str
    order_id: str | None
    amount: Decimal
    currency: str
    captured_at: float
    custom_id: str | None = None
    disputed: str = ""
    state: str = ""  # PENDING, DECLINED or FAILED; otherwise what its refunds make of it
    reason: str | None = None


class LearnedCapture(NamedTuple):
    """A payment that is known elsewhere: its amount as a decimal text, and the epoch seconds of its capture."""

    amount: str
    currency: str
    captured_at: float


@dataclass
class Refund:
    """A refund. `total` is what was refunded of the capture with it, failed ones included."""

    refund_id: str
    capture: Capture
    amount: Decimal
    made_at: float
    changed_at: float
    custom_id: str | None
    invoice_id: str | None
    total: Decimal
    status: str = "COMPLETED"
    reason: str | None = None
    trace: str | None = None


@dataclass
class Stored:
    """A request under a key: when it came, and the refund or the issue that it led to."""

    at: float
    refund: Refund | None = None
    refusal: Refusal | None = None


@dataclass
class Book:
    """The sandbox's records. `balance` limits refunds by currency where it has one.

    `faults` are those that the next refunds of a capture meet, under "" those of any capture, under `PAYOUTS` and
    `PAYOUT_READINGS` those of payouts. The others meet one of `chances` (fault → probability). With a `journal`, the
    payments, refunds, payouts and keys survive the process. `learn` is asked about a capture that is in no record; what
    it returns becomes one.
    """

    captures: dict[str, Capture] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    keys: dict[str, Stored] = field(default_factory=dict)
    faults: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    chances: dict[str, float] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 -- a run can be repeated
    balance: dict[str, Decimal] = field(default_factory=dict)
    clock_offset: float = 0.0
    forgotten_orders: set[str] = field(default_factory=set)
    lag_seconds: float = 0.0  # an order lists a refund this late; a capture's status knows it at once
    journal: Journal | None = None
    learn: Callable[[str], LearnedCapture | None] | None = None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _captures_of_order: defaultdict[str, list[Capture]] = field(default_factory=lambda: defaultdict(list))
    _refunds_of_capture: defaultdict[str, list[Refund]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        """Read the journal."""
        self.payouts = Payouts(self.now, self.new_id, self._keep, lambda: self.balance)
        for records in self.journal.replay() if self.journal is not None else ():
            for record in records:
                self._repeat(record)
        transactions = (item.transaction_id or "" for item in self.payouts.items.values())
        own = (*self.captures, *self.refunds, *self._captures_of_order)
        ids = (*own, *self.payouts.batches, *self.payouts.items, *transactions)
        self._numbers = itertools.count(1 + max((int(name[3:]) for name in ids if name[3:].isdigit()), default=0))

    def _repeat(self, record: Record) -> None:
        match record["kind"]:
            case "capture":
                fields = read_capture(record["capture"])
                if known := self.captures.get(fields["capture_id"]):
                    vars(known).update(fields)
                else:
                    self._add_capture(Capture(**fields))
            case "refund":
                its = record["refund"]
                self._add_refund(Refund(**read_refund(its, self.captures[its["capture_id"]])))
            case "changed":
                vars(self.refunds[record["id"]]).update(record["set"])
            case "key":
                refund = self.refunds[record["refund"]] if record["refund"] else None
                refusal = Refusal(record["issue"], record["field"]) if record["issue"] else None
                self.keys[record["key"]] = Stored(record["at"], refund, refusal)
            case _:
                self.payouts.repeat(record)

    def _keep(self, *records: Record) -> None:
        if self.journal is not None:
            self.journal.append([*records])

    def close(self) -> None:
        """Close the journal."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def _add_capture(self, made: Capture) -> None:
        self.captures[made.capture_id] = made
        if made.order_id is not None:
            self._captures_of_order[made.order_id].append(made)

    def _add_refund(self, made: Refund) -> None:
        self.refunds[made.refund_id] = made
        self._refunds_of_capture[made.capture.capture_id].append(made)

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return time.time() + self.clock_offset

    def new_id(self, prefix: str) -> str:
        """Return an id of PayPal's form: 17 capital letters and digits."""
        return f"{prefix}{next(self._numbers):014d}"

    def new_capture(
        self,
        amount: str,
        currency: str = "GBP",
        *,
        order_id: str | None = "",
        disputed: str = "",
        state: str = "",
        reason: str | None = None,
        custom_id: str | None = "shop-4711",
    ) -> Capture:
        """Capture a payment: for a new order, for the one that is named, or with None for no order at all."""
        made = Capture(
            capture_id=self.new_id("CAP"),
            order_id=self.new_id("ORD") if order_id == "" else order_id,
            amount=Decimal(amount),
            currency=currency,
            captured_at=self.now(),
            custom_id=custom_id,
            disputed=disputed,
            state=state,
            reason=reason,
        )
        self._add_capture(made)
        self._keep(capture_record(made))
        return made

    def find_capture(self, capture_id: str) -> Capture | None:
        """Return a capture, or None if no record has it and it is not known elsewhere either."""
        found = self.captures.get(capture_id)
        known = self.learn(capture_id) if found is None and self.learn is not None else None
        if known is None:
            return found
        amount, currency, captured_at = known
        made = Capture(capture_id, self.new_id("ORD"), Decimal(amount), currency, captured_at)
        self._add_capture(made)
        self._keep(capture_record(made))
        return made

    def captures_of(self, order_id: str) -> list[Capture]:
        """Return the captures of an order; none if there is no such order."""
        return list(self._captures_of_order.get(order_id, ()))

    def next_fault(self, capture_id: str) -> str:
        """Return the fault that a refund of a capture meets now."""
        return self._next_fault(capture_id, "")

    def next_payout_fault(self) -> str:
        """Return the fault that a request for payouts meets now."""
        return self._next_fault(PAYOUTS)

    def _next_fault(self, *places: str) -> str:
        for place in places:
            if planned := self.faults.get(place):
                return planned.popleft()
        drawn = self.dice.random()
        for fault, chance in self.chances.items():
            drawn -= chance
            if drawn < 0:
                return fault
        return NO_FAULT

    def check_faults(self, names: Iterable[str]) -> None:
        """Raise `ValueError` unless each is one of `FAULTS`, or a refusal (`issue:NAME`)."""
        unknown = [name for name in names if name not in FAULTS and not name.startswith("issue:")]
        if unknown:
            raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)} and issue:NAME")

    def refunds_of(self, capture: Capture) -> list[Refund]:
        """Return the refunds of a capture, failed ones included."""
        return list(self._refunds_of_capture.get(capture.capture_id, ()))

    def refunded(self, capture: Capture) -> Decimal:
        """Return how much of a capture is refunded, or will be."""
        return sum((r.amount for r in self.refunds_of(capture) if r.status not in VOID), Decimal(0))

    def request(self, key: str, capture_id: str, order: dict[str, Any], status: str) -> tuple[Refund, bool]:
        """Return the refund of a request under a key, and whether it was made before. Raises `Refusal`.

        The body of a repeat is not compared: nothing that PayPal publishes says that it is. A refusal is kept too.
        """
        known = self.keys.get(key)
        if known is not None and self.now() - known.at < KEY_SECONDS:
            if known.refusal is not None:
                raise known.refusal
            assert known.refund is not None
            return known.refund, True
        stored = self.keys[key] = Stored(self.now())
        try:
            stored.refund = self._checked(capture_id, order, status)
        except Refusal as refusal:
            stored.refusal = refusal
            self._keep(key_record(key, stored))
            raise
        self._keep(refund_record(stored.refund), key_record(key, stored))
        return stored.refund, False

    def refund(
        self, capture: Capture, amount: Decimal, order: dict[str, Any] | None = None, status: str = "COMPLETED"
    ) -> Refund:
        """Make a refund without any check. Without an `order` it is made in the dashboard, and has the shop's text."""
        made = self._make(capture, amount, order, status)
        self._keep(refund_record(made))
        return made

    def _make(self, capture: Capture, amount: Decimal, order: dict[str, Any] | None, status: str) -> Refund:
        order = {"custom_id": capture.custom_id} if order is None else order
        earlier = sum((each.amount for each in self.refunds_of(capture)), Decimal(0))
        made = Refund(
            refund_id=self.new_id("RFD"),
            capture=capture,
            amount=amount,
            made_at=self.now(),
            changed_at=self.now(),
            custom_id=order.get("custom_id"),
            invoice_id=order.get("invoice_id"),
            total=earlier + amount,
            status=status,
        )
        self._add_refund(made)
        if capture.currency in self.balance:
            self.balance[capture.currency] -= amount
        return made

    def change(self, refund_id: str, status: str, reason: str | None = None) -> Refund:
        """Give a refund another status."""
        refund = self.refunds[refund_id]
        refund.status, refund.reason, refund.changed_at = status, reason, self.now()
        self._keep(change_record(refund))
        return refund

    def change_capture(self, capture_id: str, **fields: Any) -> Capture:
        """Change what is known of a payment: `disputed`, `state` or `reason`. Raises `KeyError` for an unknown one."""
        capture = self.captures[capture_id]
        vars(capture).update(fields)
        self._keep(capture_record(capture))
        return capture

    def _checked(self, capture_id: str, order: dict[str, Any], status: str) -> Refund:
        capture = self.find_capture(capture_id)
        if capture is None:
            raise Refusal("INVALID_RESOURCE_ID", "capture_id")
        left = capture.amount - self.refunded(capture)
        amount = self._amount(capture, order, left)
        is_part = amount < capture.amount
        checks = {
            "PENDING_CAPTURE": capture.state == "PENDING",
            "REFUND_NOT_ALLOWED": capture.state in ("DECLINED", "FAILED"),
            "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": capture.disputed == "chargeback",
            "TRANSACTION_DISPUTED": capture.disputed == "case" and is_part,
            "REFUND_TIME_LIMIT_EXCEEDED": self.now() - capture.captured_at > WINDOW_SECONDS,
            "CAPTURE_FULLY_REFUNDED": left == 0,
            "REFUND_AMOUNT_EXCEEDED": amount > left,
            "DUPLICATE_INVOICE_ID": self._knows_invoice(capture, order),
            "REFUND_FAILED_INSUFFICIENT_FUNDS": amount > self.balance.get(capture.currency, amount),
        }
        for issue, applies in checks.items():
            if applies:
                raise Refusal(issue)
        return self._make(capture, amount, order, status)

    def _knows_invoice(self, capture: Capture, order: dict[str, Any]) -> bool:
        """Nothing published says among which refunds an invoice number is unique: here, among those of the capture."""
        invoice_id = order.get("invoice_id")
        return invoice_id is not None and any(each.invoice_id == invoice_id for each in self.refunds_of(capture))

    def _amount(self, capture: Capture, order: dict[str, Any], left: Decimal) -> Decimal:
        money = order.get("amount")
        if money is None:
            return left
        if money["currency_code"] != capture.currency:
            raise Refusal("REFUND_CAPTURE_CURRENCY_MISMATCH", "/amount/currency_code")
        amount = Decimal(money["value"])
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)
        if capture.currency in NO_DECIMALS and exponent < 0:
            raise Refusal("DECIMALS_NOT_SUPPORTED", "/amount/value")
        if exponent < -2:
            raise Refusal("DECIMAL_PRECISION", "/amount/value")
        if amount <= 0:
            raise Refusal("CANNOT_BE_ZERO_OR_NEGATIVE", "/amount/value")
        return amount
