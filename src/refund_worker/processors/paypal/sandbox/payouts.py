"""The sandbox's payouts: batches with their items, the sender's balance, and what each receiver got.

PayPal-Request-Id and `sender_batch_id` guard against duplicates for 30 days each. Reports disagree on the first: the
published description says that it is kept, and users of PayPal's own sandbox saw that a repeat is refused like any
other with the same `sender_batch_id`. `remembers_request_ids` chooses.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from refund_worker.processors.local_server.journal import Record

GUARD_SECONDS = 30 * 86_400.0
CLAIM_SECONDS = 30 * 86_400.0
ITEM_MAX = Decimal(20_000)  # published in US dollars; here of every currency with two decimals
FEE_SHARE, FEE_MAX = Decimal("0.02"), Decimal(20)
NO_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
STATUSES = ("SUCCESS", "FAILED", "PENDING", "UNCLAIMED", "RETURNED", "ONHOLD", "BLOCKED", "REFUNDED", "REVERSED")
BATCH_STATUSES = ("DENIED", "PENDING", "PROCESSING", "SUCCESS", "CANCELED")
WITH_THE_SENDER = frozenset({"FAILED", "RETURNED", "BLOCKED", "REFUNDED", "REVERSED"})
# The money of these was with the receiver before: PayPal keeps its fee.
FEE_IS_KEPT = frozenset({"REFUNDED", "REVERSED"})
WAITS_FOR_THE_RECEIVER = frozenset({"UNCLAIMED", "ONHOLD"})
_RECEIVERS = {
    "EMAIL": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "PAYPAL_ID": re.compile(r"[A-Z0-9]{13}"),
    "PHONE": re.compile(r"\+?[0-9-]{5,20}"),
}


class PayoutRefusal(Exception):
    """An error of the Payouts API. A detail is {field, location, issue}, with a link where there is one."""

    def __init__(self, status: int, name: str, message: str = "", details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(name)
        self.status = status
        self.name = name
        self.message = message or name.replace("_", " ").capitalize()
        self.details = details or []


def invalid(field_name: str, issue: str) -> PayoutRefusal:
    """Return the refusal of a request whose form is wrong."""
    detail = {"field": field_name, "location": "body", "issue": issue}
    return PayoutRefusal(400, "VALIDATION_ERROR", "Invalid request - see details", [detail])


@dataclass
class Item:
    """One payout to one receiver. `error` is the name of the reason that PayPal gives for its status."""

    item_id: str
    batch_id: str
    sender_item_id: str | None
    recipient_type: str
    receiver: str
    amount: Decimal
    currency: str
    note: str | None
    made_at: float
    processed_at: float | None = None
    status: str = "PENDING"
    error: str | None = None
    fee: Decimal = Decimal(0)
    transaction_id: str | None = None
    canceled: bool = False

    @property
    def with_receiver(self) -> bool:
        """Return True if the receiver has the money."""
        return self.status == "SUCCESS"


@dataclass
class Batch:
    """A request for payouts. `request` is its body as it came, `status` the batch's own status."""

    batch_id: str
    key: str
    sender_batch_id: str
    request: dict[str, Any]
    made_at: float
    status: str = "PENDING"
    completed_at: float | None = None
    items: list[Item] = field(default_factory=list)


Change = Batch | Item


@dataclass
class Payouts:
    """The payouts of one account.

    `balance` returns the sender's, by currency, where it has one: that of the book. `seconds` is how long a batch
    takes; until then it has no items. `outcomes` are the statuses and errors of the next items, by
    receiver. `keep` stores a record in the book's file.
    """

    now: Callable[[], float]
    new_id: Callable[[str], str]
    keep: Callable[[Record], None]
    balance: Callable[[], dict[str, Decimal]]
    batches: dict[str, Batch] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    outcomes: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    seconds: float = 0.0
    remembers_request_ids: bool = True
    _by_sender_id: dict[str, Batch] = field(default_factory=dict)
    _by_key: dict[str, Batch] = field(default_factory=dict)

    # -- the API ------------------------------------------------------------------------------------------------------

    def create(self, key: str, request: Any, base: str) -> Batch:
        """Return the batch of a request, a new one or the one that its key names. Raises `PayoutRefusal`."""
        known = self._by_key.get(key) if self.remembers_request_ids else None
        if known is not None and self.now() - known.made_at < GUARD_SECONDS:
            return known
        sender_batch_id, orders = _checked(request)
        self._refuse_duplicate(sender_batch_id, base)
        made = Batch(self.new_id("PYB"), key, sender_batch_id, request, self.now())
        made.items = [self._item(made.batch_id, order) for order in orders]
        self._pay(made.items)
        self._add(made)
        self.keep({"kind": "payout", "batch": _fields(made), "items": [_fields(item) for item in made.items]})
        return made

    def cancel(self, item_id: str) -> Item:
        """Return an unclaimed item to the sender. Raises `PayoutRefusal` for an item with another status."""
        item = self.item(item_id)
        if item.canceled:
            raise PayoutRefusal(400, "ITEM_ALREADY_CANCELLED", "The item is already cancelled.")
        if item.status != "UNCLAIMED":
            raise PayoutRefusal(400, "ITEM_INCORRECT_STATUS", "Only unclaimed items can be cancelled.")
        return self.change(item_id, "RETURNED", item.error, canceled=True)

    def batch(self, batch_id: str) -> Batch:
        """Return a batch. Raises `PayoutRefusal` for an unknown one."""
        if batch_id not in self.batches:
            raise PayoutRefusal(404, "INVALID_RESOURCE_ID", "Requested resource ID was not found.")
        return self.batches[batch_id]

    def item(self, item_id: str) -> Item:
        """Return an item that PayPal has listed. Raises `PayoutRefusal` for any other."""
        item = self.items.get(item_id)
        if item is None or not self.listed(self.batches[item.batch_id]):
            raise PayoutRefusal(404, "INVALID_RESOURCE_ID", "Requested resource ID was not found.")
        return item

    def listed(self, batch: Batch) -> list[Item]:
        """Return the items that a batch shows: none until PayPal has processed it."""
        return [] if batch.status in ("PENDING", "CANCELED") else batch.items

    # -- time and events ----------------------------------------------------------------------------------------------

    def settle(self) -> list[Change]:
        """Process the batches that are due, and return what was not claimed in 30 days. Return the changed ones."""
        return [*self._process(), *self._expire()]

    def change(self, item_id: str, status: str, error: str | None = None, *, canceled: bool = False) -> Item:
        """Give an item another status, and move the money. Raises `KeyError` for an unknown item or status."""
        item = self.items[item_id]
        if status not in STATUSES:
            raise KeyError(status)
        self._move(item, status)
        item.status, item.error, item.canceled = status, error, canceled
        item.processed_at = self.now()
        self.keep({"kind": "payout item", "item": _fields(item)})
        batch = self.batches[item.batch_id]
        if batch.status == "PROCESSING" and all(each.status != "PENDING" for each in batch.items):
            self._set_status(batch, "SUCCESS")
        return item

    def end(self, batch_id: str, status: str) -> Batch:
        """End a batch as a whole: DENIED fails its items, CANCELED leaves none. Raises `KeyError`."""
        batch = self.batches[batch_id]
        if status not in ("DENIED", "CANCELED"):
            raise KeyError(status)
        for item in batch.items:
            self.change(item.item_id, "FAILED", item.error)
        self._set_status(batch, status)
        return batch

    def received(self) -> dict[str, dict[str, Decimal]]:
        """Return what each receiver has, by currency."""
        found: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for item in self.items.values():
            if item.with_receiver:
                found[item.receiver][item.currency] += item.amount
        return {receiver: dict(amounts) for receiver, amounts in found.items()}

    def repeat(self, record: Record) -> None:
        """Repeat a record of the book's file."""
        if record["kind"] == "payout":
            self._add(Batch(**record["batch"], items=[_read_item(fields) for fields in record["items"]]))
        elif record["kind"] == "payout item":
            vars(self.items[record["item"]["item_id"]]).update(vars(_read_item(record["item"])))
        elif record["kind"] == "payout batch":
            vars(self.batches[record["batch"]["batch_id"]]).update(record["batch"])

    # -- inside -------------------------------------------------------------------------------------------------------

    def _refuse_duplicate(self, sender_batch_id: str, base: str) -> None:
        first = self._by_sender_id.get(sender_batch_id)
        if first is None or self.now() - first.made_at >= GUARD_SECONDS:
            return
        href = f"{base}/v1/payments/payouts/{first.batch_id}"
        detail = {
            "field": "SENDER_BATCH_ID",
            "location": "body",
            "issue": "Batch with given sender_batch_id already exists",
            "link": [{"href": href, "rel": "self", "method": "GET", "encType": "application/json"}],
        }
        raise PayoutRefusal(400, "USER_BUSINESS_ERROR", "User business error.", [detail])

    def _item(self, batch_id: str, order: dict[str, Any]) -> Item:
        amount, currency = Decimal(order["amount"]["value"]), order["amount"]["currency"]
        return Item(
            item_id=self.new_id("PYI"),
            batch_id=batch_id,
            sender_item_id=order.get("sender_item_id"),
            recipient_type=order["recipient_type"],
            receiver=order["receiver"],
            amount=amount,
            currency=currency,
            note=order.get("note"),
            made_at=self.now(),
            fee=_fee(amount, currency),
        )

    def _pay(self, items: list[Item]) -> None:
        """Take amounts and fees from the balance, or nothing. Raises `PayoutRefusal`."""
        needed: defaultdict[str, Decimal] = defaultdict(Decimal)
        for item in items:
            needed[item.currency] += item.amount + item.fee
        if any(amount > self.balance().get(currency, amount) for currency, amount in needed.items()):
            why = "Sender does not have sufficient funds. Please add funds and retry."
            raise PayoutRefusal(422, "INSUFFICIENT_FUNDS", why)
        for currency, amount in needed.items():
            self._add_to_balance(currency, -amount)

    def _move(self, item: Item, status: str) -> None:
        was_back, is_back = item.status in WITH_THE_SENDER, status in WITH_THE_SENDER
        if was_back != is_back:
            amount = item.amount if status in FEE_IS_KEPT else item.amount + item.fee
            self._add_to_balance(item.currency, amount if is_back else -amount)

    def _add_to_balance(self, currency: str, amount: Decimal) -> None:
        balance = self.balance()
        if currency in balance:
            balance[currency] += amount

    def _process(self) -> Iterator[Change]:
        for batch in self.batches.values():
            if batch.status == "PENDING" and self.now() - batch.made_at >= self.seconds:
                for item in batch.items:
                    status, error = self.outcomes.get(item.receiver, ("SUCCESS", None))
                    item.transaction_id = self.new_id("TXN")
                    yield self.change(item.item_id, status, error)
                statuses = {item.status for item in batch.items}
                is_over = "PENDING" not in statuses
                self._set_status(batch, "DENIED" if statuses == {"FAILED"} else "SUCCESS" if is_over else "PROCESSING")
                yield batch

    def _set_status(self, batch: Batch, status: str) -> None:
        batch.status, batch.completed_at = status, None if status == "PROCESSING" else self.now()
        self.keep({"kind": "payout batch", "batch": _fields(batch)})

    def _expire(self) -> Iterator[Item]:
        for item in self.items.values():
            since = item.processed_at
            if item.status in WAITS_FOR_THE_RECEIVER and since is not None and self.now() - since >= CLAIM_SECONDS:
                yield self.change(item.item_id, "RETURNED", item.error)

    def _add(self, batch: Batch) -> None:
        self.batches[batch.batch_id] = batch
        self.items.update({item.item_id: item for item in batch.items})
        self._by_sender_id[batch.sender_batch_id] = batch
        self._by_key[batch.key] = batch


def _checked(request: Any) -> tuple[str, list[dict[str, Any]]]:
    """Return the batch's own id and the items, each with its type of receiver. Raises `PayoutRefusal`."""
    header = request.get("sender_batch_header") if isinstance(request, dict) else None
    if not isinstance(header, dict):
        raise invalid("sender_batch_header", "Required field is missing")
    items = request.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= 15_000:
        raise invalid("items", "Number of items should be between 1 and 15000")
    sender_batch_id = header.get("sender_batch_id")
    if not isinstance(sender_batch_id, str) or not 1 <= len(sender_batch_id) <= 256:
        raise invalid("sender_batch_header.sender_batch_id", "Length should be between 1 and 256")
    default = header.get("recipient_type")
    return sender_batch_id, [_checked_item(item, place, default) for place, item in enumerate(items)]


def _checked_item(item: Any, place: int, default: str | None) -> dict[str, Any]:
    name = f"items[{place}]"
    amount = item.get("amount") if isinstance(item, dict) else None
    if not isinstance(amount, dict) or not isinstance(item.get("receiver"), str):
        raise invalid(name, "Required field is missing")
    kind = item.get("recipient_type", default)
    form = _RECEIVERS.get(kind)
    if form is None or len(item["receiver"]) > 127 or not form.fullmatch(item["receiver"]):
        raise invalid(f"{name}.receiver", "Receiver is invalid or does not match with type")
    if len(item.get("sender_item_id", "")) > 63:
        raise invalid(f"{name}.sender_item_id", "Length should be at most 63")
    if len(item.get("note", "")) > 4_000:
        raise invalid(f"{name}.note", "Length should be at most 4000")
    try:
        value = Decimal(amount["value"])
        decimals = max(0, -int(value.as_tuple().exponent))
    except (InvalidOperation, KeyError, TypeError, ValueError):
        raise invalid(f"{name}.amount.value", "Currency value is invalid") from None
    if decimals > (0 if amount.get("currency") in NO_DECIMALS else 2) or not 0 < value <= _item_max(amount["currency"]):
        raise invalid(f"{name}.amount.value", "Currency value is invalid or outside of the limits")
    return {**item, "recipient_type": kind}


def _item_max(currency: str) -> Decimal:
    return ITEM_MAX if currency not in NO_DECIMALS else ITEM_MAX * 100


def _fee(amount: Decimal, currency: str) -> Decimal:
    step = Decimal(1) if currency in NO_DECIMALS else Decimal("0.01")
    return min((amount * FEE_SHARE).quantize(step, ROUND_HALF_UP), FEE_MAX)


def _fields(made: Batch | Item) -> Record:
    """Return the fields of a batch without its items, or of an item, for the book's file."""
    fields = {each.name: getattr(made, each.name) for each in dataclasses.fields(made) if each.name != "items"}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in fields.items()}


def _read_item(fields: Record) -> Item:
    return Item(**fields | {"amount": Decimal(fields["amount"]), "fee": Decimal(fields["fee"])})
