"""The objects in the sandbox's book: payments with their refunds, disputes and fraud warnings, and balance
transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from refund_worker.processors.sandbox.answers import JsonObject

# A refund in one of these states moved no money: its amount can be refunded again.
VOID_STATUSES = frozenset({"failed", "canceled"})
CARD = "card"
# Stripe does not publish how long a customer has to give bank details for a refund.
ACTION_SECONDS = 45 * 86400
# The e-mail address that a customer gave at the checkout, unless a payment is registered with another.
CUSTOMER_EMAIL = "customer@example.com"


class Entry(Protocol):
    """An object in a list of the API: lists are sorted by `created`, then by `sequence`, the order of recording."""

    @property
    def id(self) -> str:
        """The object's id."""

    @property
    def created(self) -> int:
        """When it was created, in epoch seconds."""

    @property
    def sequence(self) -> int:
        """Its number in the order of recording."""


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def position(entry: Entry) -> tuple[int, int]:
    """Return the entry's place in a list."""
    return entry.created, entry.sequence


class Ordered(Generic[AnyEntry]):
    """Entries in the order of a list, oldest first. They may be added in any order."""

    def __init__(self) -> None:
        self._entries: list[AnyEntry] = []
        self._sorted = True

    def add(self, entry: AnyEntry) -> None:
        """Add an entry."""
        if self._entries and position(entry) < position(self._entries[-1]):
            self._sorted = False
        self._entries.append(entry)

    def oldest_first(self) -> list[AnyEntry]:
        """Return the entries, oldest first. The list must not be changed."""
        if not self._sorted:
            self._entries.sort(key=position)
            self._sorted = True
        return self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self.oldest_first())


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of others that a refund takes back, in minor units.

    `transfer` is taken from the destination of the payment, `fee` from the platform's application fee.
    """

    transfer: int = 0
    fee: int = 0


NO_SHARES = Shares()


@dataclass(slots=True)
class Refund:
    """A refund object as Stripe shows it, the key it was created with, and its place in the order of creation.

    `shares` is what it takes back from others.
    """

    object: JsonObject
    idempotency_key: str | None
    sequence: int
    shares: Shares = NO_SHARES

    @property
    def id(self) -> str:
        """The refund's id."""
        refund_id: str = self.object["id"]
        return refund_id

    @property
    def created(self) -> int:
        """When the refund was created, in epoch seconds."""
        second: int = self.object["created"]
        return second

    @property
    def void(self) -> bool:
        """True if the refund moved no money, so that its amount can be refunded again."""
        return self.object["status"] in VOID_STATUSES


@dataclass(slots=True)
class Dispute:
    """A dispute object as Stripe shows it. Its balance transactions are the money that it moved."""

    object: JsonObject
    sequence: int

    @property
    def id(self) -> str:
        """The dispute's id."""
        dispute_id: str = self.object["id"]
        return dispute_id

    @property
    def created(self) -> int:
        """When the dispute was opened, in epoch seconds."""
        second: int = self.object["created"]
        return second

    @property
    def status(self) -> str:
        """The dispute's status."""
        status: str = self.object["status"]
        return status

    @property
    def withdrawn(self) -> int:
        """The money that the dispute took from our account and did not give back, in minor units."""
        movements: list[int] = [transaction["amount"] for transaction in self.object["balance_transactions"]]
        return -sum(movements)


@dataclass(slots=True)
class FraudWarning:
    """An early fraud warning as Stripe shows it, without `actionable`, which depends on the payment."""

    object: JsonObject
    sequence: int

    @property
    def id(self) -> str:
        """The warning's id."""
        warning_id: str = self.object["id"]
        return warning_id

    @property
    def created(self) -> int:
        """When the warning was sent, in epoch seconds."""
        second: int = self.object["created"]
        return second


@dataclass(slots=True)
class Payment:
    """A payment: a charge, and the payment intent of that charge if there is one.

    `amount` and `captured` are in minor units of `currency` (lower case); `refunded` sums the refunds that are not
    void. `flagged` is True for a payment that was registered as disputed, without a dispute object. With
    `customer_must_act`, its refunds wait for the customer's bank details, for `action_seconds`. `refund_type` is the
    type of a card's refunds. Of a destination charge, `transfer` went to the account `destination`, and of a charge
    with `application_fee` this part went to the platform; `transfer_reversed` and `fee_refunded` came back.
    """

    id: str
    amount: int
    currency: str
    captured: int
    created: int = 0
    sequence: int = 0
    flagged: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    intent_metadata: dict[str, str] = field(default_factory=dict)
    customer: str | None = None
    email: str = CUSTOMER_EMAIL
    method: str = CARD
    status: str = "succeeded"
    failure_code: str | None = None
    fee: int = 0
    available_on: int | None = None
    livemode: bool = False
    refund_type: str = "refund"
    customer_must_act: bool = False
    action_seconds: int = ACTION_SECONDS
    destination: str | None = None
    transfer: int = 0
    application_fee: int = 0
    transaction_id: str | None = None
    refunded: int = 0
    transfer_reversed: int = 0
    fee_refunded: int = 0
    refunds: Ordered[Refund] = field(default_factory=Ordered)
    disputes: Ordered[Dispute] = field(default_factory=Ordered)
    warnings: Ordered[FraudWarning] = field(default_factory=Ordered)

    @classmethod
    def of_record(cls, record: JsonObject, sequence: int = 0) -> Payment:
        """Return the payment that the book's record describes."""
        terms = {"captured": record["amount"], "created": record.get("created", 0), **record.get("more", {})}
        flagged = record["disputed"]
        return cls(record["id"], record["amount"], record["currency"], **terms, sequence=sequence, flagged=flagged)

    @property
    def charge_id(self) -> str:
        """The charge's id: a payment intent `pi_X` has the charge `ch_X`."""
        return "ch_" + self.id.removeprefix("pi_") if self.id.startswith("pi_") else self.id

    @property
    def payment_intent_id(self) -> str | None:
        """The payment intent's id, or None for a payment that is only a charge."""
        return self.id if self.id.startswith("pi_") else None

    @property
    def refundable(self) -> int:
        """The amount that can still be refunded, in minor units."""
        return self.captured - self.refunded

    def take_back(self, shares: Shares, sign: int) -> None:
        """Count what a refund takes back from others (+1), or does not after all (-1)."""
        self.transfer_reversed += sign * shares.transfer
        self.fee_refunded += sign * shares.fee

    @property
    def earns(self) -> bool:
        """True if the charge brought money: it succeeded and is captured."""
        return self.status == "succeeded" and self.captured > 0

    @property
    def disputed(self) -> bool:
        """True once the payment was disputed, however the dispute ended."""
        return self.flagged or len(self.disputes) > 0

    @property
    def actionable(self) -> bool:
        """True until the payment is disputed or refunded in full: an early fraud warning can still be answered."""
        return not self.disputed and self.refundable > 0

    @property
    def closed_to_refunds(self) -> bool:
        """True while a dispute forbids refunds."""
        return self.flagged or any(not dispute.object["is_charge_refundable"] for dispute in self.disputes)
