"""PayPal's batches of payouts and their items: their JSON is checked and converted to our types. Pure.

One attempt of a payout is one batch with one item. The id of our transfer object is that of the **batch**: PayPal tells
it in its first answer, while the item comes later. The item's own id and its transaction are further ids of it.

Facts: payments_payouts_batch_v1.json 1.9 (github paypal/paypal-rest-api-specifications), read 2026-11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.money import decimal_places
from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import Fault, Method, Step, TransferInstruction, TransferObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES, ObjectState
from refund_worker.processors.paypal.objects import CURRENCY, CURRENCY_DECIMALS
from refund_worker.processors.paypal.payout_answers import BATCH_ID
from refund_worker.processors.paypal.payout_errors import DUPLICATE_ITEM, FAULT_OF_STATUS, FAULTS
from refund_worker.processors.wire import Unreadable, clean, to_decimal_text, to_minor_units

SENDER_ITEM_ID_LENGTH_MAX: Final = 63
NOTE_LENGTH_MAX: Final = 1_000  # of any letters; 4,000 if all are ASCII
CLAIM_SECONDS: Final = 30 * 86_400.0  # afterwards PayPal returns what was not claimed
# Published for a single item; in other currencies its equivalent, which PayPal itself must judge.
MAXIMUM_MINOR: Final[Mapping[str, int]] = {"USD": 2_000_000}
CURRENCY_STEPS: Final[Mapping[str, int]] = {
    currency: 10 ** (decimal_places(currency) - decimals)
    for currency, decimals in CURRENCY_DECIMALS.items()
    if decimal_places(currency) > decimals
}

ITEM_STATES: Final[Mapping[str, ObjectState]] = {
    "PENDING": ObjectState.PENDING,
    "ONHOLD": ObjectState.REQUIRES_ACTION,
    "UNCLAIMED": ObjectState.REQUIRES_ACTION,
    "SUCCESS": ObjectState.SUCCEEDED,
    "FAILED": ObjectState.FAILED,
    "BLOCKED": ObjectState.FAILED,
    "RETURNED": ObjectState.FAILED,
    "REFUNDED": ObjectState.FAILED,
    "REVERSED": ObjectState.FAILED,
}
# Of a batch that lists no item, or one that PayPal has not processed. A batch that is SUCCESS says nothing of its item.
BATCH_STATES: Final[Mapping[str, ObjectState]] = {
    "PENDING": ObjectState.PENDING,
    "PROCESSING": ObjectState.PENDING,
    "DENIED": ObjectState.FAILED,
    "CANCELED": ObjectState.CANCELED,
}
BATCH_DENIED: Final = "BATCH_DENIED"

_OUR_ID = re.compile(r"([A-Za-z0-9_.-]{1,60}):([0-9]{1,9})")
_ID = re.compile(r"[A-Za-z0-9_-]{1,30}")
_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,99}")
_COMPACT: Final = (",", ":")


def our_ids(sender_item_id: object) -> tuple[str | None, int | None]:
    """Return leg and attempt of an id of ours, such as `po_1-1:1`; both are None for any other text."""
    match = _OUR_ID.fullmatch(sender_item_id) if isinstance(sender_item_id, str) else None
    return (None, None) if match is None else (match[1], int(match[2]))


def frozen_payout(order: TransferInstruction) -> str:
    """Return the step and the request of a batch with one item, as canonical JSON.

    Both of PayPal's ids are `LEG:ATTEMPT`, the key: it is not in them which installation pays, so a copy of a database
    pays nothing twice. Raises ValueError, without the receiver in it, for what PayPal cannot take.
    """
    sender_id = f"{order.leg_id}:{order.attempt}"
    if not _OUR_ID.fullmatch(sender_id) or len(sender_id) > SENDER_ITEM_ID_LENGTH_MAX:
        raise ValueError(f"ids have letters, digits and -_. only, with the attempt {SENDER_ITEM_ID_LENGTH_MAX} of them")
    if order.step is not Step.PAYOUT or order.method is not Method.STANDARD:
        raise ValueError("at paypal a payout has one step and one method")
    if order.amount_minor < 1 or not CURRENCY.fullmatch(order.currency):
        raise ValueError("a payout has an amount of at least 1 minor unit and a currency")
    if order.amount_minor > MAXIMUM_MINOR.get(order.currency, order.amount_minor):
        raise ValueError("the amount is more than PayPal pays at once")
    kind, receiver = _receiver(order.destination)
    item = {
        "recipient_type": kind,
        "receiver": receiver,
        "amount": {
            "value": to_decimal_text(order.amount_minor, order.currency, CURRENCY_DECIMALS),
            "currency": order.currency,
        },
        "sender_item_id": sender_id,
    }
    if order.description:
        item["note"] = order.description[:NOTE_LENGTH_MAX]
    request = {"sender_batch_header": {"sender_batch_id": sender_id}, "items": [item]}
    return json.dumps({"request": request, "step": str(order.step)}, sort_keys=True, separators=_COMPACT)


def _receiver(destination: Destination) -> tuple[str, str]:
    if destination.kind is not DestinationKind.PAYPAL:
        raise ValueError("paypal pays to PayPal accounts only")
    if destination.payer_id is not None:
        return "PAYPAL_ID", destination.payer_id
    if destination.email is None:
        raise ValueError("the destination has neither an address nor a payer id")
    return "EMAIL", destination.email


@dataclass(frozen=True, slots=True)
class FrozenPayout:
    """The parts of a frozen request, and the values that PayPal's batch must repeat."""

    sender_id: str
    amount_minor: int
    currency: str
    receiver: str = field(repr=False)
    request: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> FrozenPayout:
        """Return the parts of a frozen body. Raises ValueError for a text that `frozen_payout` did not make."""
        try:
            request = json.loads(text)["request"]
            (item,) = request["items"]
            sender_id, receiver, currency = item["sender_item_id"], item["receiver"], item["amount"]["currency"]
            minor = to_minor_units(item["amount"]["value"], currency)
            if request["sender_batch_header"]["sender_batch_id"] != sender_id or our_ids(sender_id)[0] is None:
                raise ValueError
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ValueError("this is no frozen body of a payout at paypal") from None
        body = json.dumps(request, sort_keys=True, separators=_COMPACT).encode()
        return cls(sender_id, minor, currency, receiver, body)

    def fits(self, batch: Batch) -> bool:
        """Return False if the batch shows that it is the outcome of another request.

        A batch without an item shows only its own id: the item is compared as soon as it is there.
        """
        if batch.sender_batch_id not in (None, self.sender_id) or batch.item_count > 1:
            return False
        item = batch.item
        if item is None:
            return True
        same = item.sender_item_id, item.amount_minor, item.currency, item.receiver.casefold()
        return same == (self.sender_id, self.amount_minor, self.currency, self.receiver.casefold())


@dataclass(frozen=True, slots=True)
class Item:
    """One item as PayPal describes it. `error` is the name of the reason for its status."""

    item_id: str
    status: str | None
    sender_item_id: str | None
    receiver: str = field(repr=False)
    amount_minor: int
    currency: str
    fee_minor: int | None
    error: str | None
    transaction_id: str | None
    processed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as PayPal describes it. `item` is the first that it lists, or None."""

    batch_id: str
    status: str | None
    sender_batch_id: str | None
    created_at: datetime | None
    item: Item | None = None
    item_count: int = 0


def created_batch(data: object) -> Batch:
    """Return the batch that the answer to a new request describes. Raises `Unreadable`."""
    return _batch(_mapping(_mapping(data).get("batch_header")))


def to_batch(data: object, batch_id: str) -> Batch:
    """Return the batch that PayPal's JSON describes, with its item. Raises `Unreadable`, also if it is another one."""
    fields = _mapping(data)
    header = _batch(_mapping(fields.get("batch_header")))
    items = fields.get("items", [])
    if header.batch_id != batch_id or not isinstance(items, list):
        raise Unreadable("another batch than the one that was asked for")
    item = to_item(items[0], batch_id) if items else None
    return Batch(header.batch_id, header.status, header.sender_batch_id, header.created_at, item, len(items))


def to_item(data: object, batch_id: str) -> Item:
    """Return the item that PayPal's JSON describes. Raises `Unreadable`, also if it belongs to another batch."""
    fields = _mapping(data)
    sent = _mapping(fields.get("payout_item"))
    item_id, status, receiver = fields.get("payout_item_id"), fields.get("transaction_status"), sent.get("receiver")
    if fields.get("payout_batch_id") != batch_id or not isinstance(item_id, str) or not _ID.fullmatch(item_id):
        raise Unreadable("an item without its ids")
    if not isinstance(status, str | None) or not isinstance(receiver, str):
        raise Unreadable("an item whose status or receiver is no text")
    amount_minor, currency = _money(sent.get("amount"))
    sender_item_id, transaction_id = sent.get("sender_item_id"), fields.get("transaction_id")
    return Item(
        item_id=item_id,
        status=status,
        sender_item_id=sender_item_id if isinstance(sender_item_id, str) else None,
        receiver=receiver,
        amount_minor=amount_minor,
        currency=currency,
        fee_minor=_fee(fields.get("payout_item_fee"), currency),
        error=_error_name(fields.get("errors")),
        transaction_id=transaction_id if isinstance(transaction_id, str) and _ID.fullmatch(transaction_id) else None,
        processed_at=_time(fields.get("time_processed")),
    )


def to_transfer(batch: Batch, frozen: FrozenPayout, *, live: bool, read_at: datetime) -> TransferObject:
    """Return the transfer object of a batch. `read_at` is the time of reading, for a batch without a time of its own.

    Without an item PayPal names no amount: then it is that of the request. Raises `Unreadable` for a batch that PayPal
    has processed and that lists no item, or several.
    """
    if batch.item_count > 1:
        raise Unreadable("a batch of several items is not ours")
    if batch.item is None and batch.status == "SUCCESS":
        raise Unreadable("a batch that was processed lists no item")
    item = batch.item
    status = batch.status if item is None or item.status is None else item.status
    state, code, fault = _meaning(batch)
    leg_id, attempt = our_ids(batch.sender_batch_id if item is None else item.sender_item_id)
    since = item.processed_at if item is not None else None
    created = batch.created_at or since or read_at
    waits = state is ObjectState.REQUIRES_ACTION
    return TransferObject(
        object_id=batch.batch_id,
        step=Step.PAYOUT,
        status=None if status is None else clean(status),
        state=state,
        amount_minor=frozen.amount_minor if item is None else item.amount_minor,
        currency=frozen.currency if item is None else item.currency,
        leg_id=leg_id,
        attempt=attempt,
        created_at=created,
        refs=() if item is None else tuple(filter(None, (item.item_id, item.transaction_id))),
        failure_code=code,
        fault=fault,
        live=live,
        act_by=(since or created).timestamp() + CLAIM_SECONDS if waits else None,
        fee_minor=None if item is None else item.fee_minor,
        trace=None if item is None else item.transaction_id,
    )


def _meaning(batch: Batch) -> tuple[ObjectState | None, str | None, Fault | None]:
    """Return the state of a batch and its item, with the failure's code and fault. The item's own status counts first.

    The state is None for a status that is not known.
    """
    item = batch.item
    status, error = (None, None) if item is None else (item.status, item.error)
    of_batch, state = BATCH_STATES.get(batch.status or ""), ITEM_STATES.get(status or "")
    if state is ObjectState.SUCCEEDED:
        return state, None, None
    if error == DUPLICATE_ITEM:
        return None, error, None
    if status is None or (state is ObjectState.PENDING and of_batch in UNPAID_OBJECT_STATES):
        # The batch speaks for its item: PayPal has not processed it, or never will.
        return of_batch, error or (BATCH_DENIED if of_batch is ObjectState.FAILED else None), FAULTS.get(error or "")
    fault = FAULTS.get(error) if error else FAULT_OF_STATUS.get(status)
    if state is ObjectState.REQUIRES_ACTION and fault not in (Fault.PAYEE, None):
        # PayPal holds it for a reason that the payee cannot change, or must not learn.
        state = ObjectState.PENDING
    return state, error or (None if state is ObjectState.PENDING else clean(status)), fault


def _batch(header: Mapping[str, Any]) -> Batch:
    batch_id, status = header.get("payout_batch_id"), header.get("batch_status")
    if not isinstance(batch_id, str) or not BATCH_ID.fullmatch(batch_id):
        raise Unreadable("a batch without a usable id")
    if not isinstance(status, str | None):
        raise Unreadable("a batch with a status that is no text")
    sender_batch_id = _mapping(header.get("sender_batch_header")).get("sender_batch_id")
    ours = sender_batch_id if isinstance(sender_batch_id, str) else None
    return Batch(batch_id, status, ours, _time(header.get("time_created")))


def _money(value: object) -> tuple[int, str]:
    money = _mapping(value)
    currency = money.get("currency")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable("an amount without a currency")
    return to_minor_units(money.get("value"), currency), currency


def _fee(value: object, currency: str) -> int | None:
    """Return the fee, or None if it is absent or in another currency than the payout."""
    try:
        minor, of = _money(value)
    except Unreadable:
        return None
    return minor if of == currency else None


def _error_name(errors: object) -> str | None:
    name = _mapping(errors).get("name")
    if not isinstance(name, str) or not name:
        return None
    return name if _NAME.fullmatch(name) else clean(name)


def _time(text: object) -> datetime | None:
    try:
        made = datetime.fromisoformat(text) if isinstance(text, str) else None
        return made.astimezone(UTC) if made is not None and made.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
