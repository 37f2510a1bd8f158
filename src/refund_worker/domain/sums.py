"""The sums that must hold after every commit: each with a name, its two figures, and the rows for which they differ.

Every row belongs to one customer, or to one that was merged into it. So the sums of all rows hold if they hold for each
customer, and any number of rows can be checked in parts of a few customers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from refund_worker.domain.ledger import CREDITS


class Sum(StrEnum):
    """The names of the sums, which stay the same in all versions: metrics and alarms carry them."""

    ENTRIES = "entries"
    BALANCE = "balance"
    HELD = "held"
    BOUGHT = "bought"
    NET_SPENT = "net_spent"
    WITHDRAWN = "withdrawn"
    CLEARING = "clearing"
    PAYMENT_CREDITS = "payment_credits"
    PAYMENT_MONEY = "payment_money"
    TRANSACTION_ROOM = "transaction_room"
    REVERSALS = "reversals"
    PAYOUTS = "payouts"
    CLAIM_ENTRIES = "claim_entries"
    CLAIM_MONEY = "claim_money"
    CLAIMED_CREDITS = "claimed_credits"
    CLAIMED_MONEY = "claimed_money"
    DEBTS = "debts"
    PAYEE_EARNED = "payee_earned"
    PAYEE_CLAWED_BACK = "payee_clawed_back"
    PAYEE_BALANCE = "payee_balance"
    PAYEE_ENTRIES = "payee_entries"


# The two figures of each sum: the stored one first, then the rows that its value comes from.
SAYS: Final[Mapping[Sum, str]] = MappingProxyType(
    {
        Sum.ENTRIES: "the entries of each ledger transaction sum to zero in each unit, and move the credits that it "
        "says on its customer's account and on no other customer's",
        Sum.BALANCE: "each balance equals the sum of the entries on the customer's account",
        Sum.HELD: "held credits equal the customer's withdrawals that are accepted and not yet in the ledger, and "
        "what claims hold",
        Sum.BOUGHT: "bought credits equal the credits of the customer's payments",
        Sum.NET_SPENT: "spent credits equal the entries on house:used",
        Sum.WITHDRAWN: "withdrawn credits equal the customer's refunds to source less what was given back, and what "
        "claims hold and have taken",
        Sum.CLEARING: "the clearing account equals the credits of refunds that are neither paid nor given back",
        Sum.PAYMENT_CREDITS: "the credits taken of each payment equal those of its legs, at most all of them",
        Sum.PAYMENT_MONEY: "the money taken of each payment equals that of its legs, at most all of it",
        Sum.TRANSACTION_ROOM: "the credits taken of each transaction equal its refunds that were not undone",
        Sum.REVERSALS: "the credits that each refund gave back equal its reversals in the ledger",
        Sum.PAYOUTS: "the ledger paid out exactly the money of each leg that succeeded",
        Sum.CLAIM_ENTRIES: "the credits that each claim has taken equal its entries in the ledger",
        Sum.CLAIM_MONEY: "the money that each claim has posted equals its entries in the ledger",
        Sum.CLAIMED_CREDITS: "the credits claimed of each payment equal its open claims",
        Sum.CLAIMED_MONEY: "the money claimed of each payment equals its open claims",
        Sum.DEBTS: "no balance is further below zero than the customer's debts",
        Sum.PAYEE_EARNED: "what each payee has earned equals the earnings",
        Sum.PAYEE_CLAWED_BACK: "what was clawed back of each payee equals what was clawed back of the earnings",
        Sum.PAYEE_BALANCE: "what each payee has earned less what was clawed back, is on its way or was paid equals the "
        "entries on the payee's account, less the payouts that are accepted and not posted",
        Sum.PAYEE_ENTRIES: "the entries of each payee's statement equal those on the payee's account",
    }
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One row for which a sum does not hold. `subject` is its id; `stored` and `expected` are in `unit`."""

    sum: Sum
    subject: str
    customer_id: str
    stored: int
    expected: int
    unit: str = CREDITS


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingFigures:
    """A ledger transaction: the sum of its entries in one unit, and what they move on customers' accounts."""

    transaction_id: str
    customer_id: str
    unit: str
    credits: int
    total: int
    own: int
    others: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFigures:
    """A customer's stored figures, and the sums of the rows that they come from, all in credits."""

    customer_id: str
    balance: int
    held: int
    bought: int
    net_spent: int
    withdrawn: int
    entries: int = 0
    used: int = 0
    clearing: int = 0
    paid_for: int = 0
    to_be_posted: int = 0
    refunded: int = 0
    in_flight: int = 0
    claims_hold: int = 0
    claims_took: int = 0
    owed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFigures:
    """A payment: what is stored as taken of it, and what its legs take.

    `returned_minor` of what was refunded before is gone no longer; `claims_minor` is less by that of its claims.
    """

    payment_id: str
    customer_id: str
    credits: int
    amount_minor: int
    currency: str
    credits_taken: int
    money_taken: int
    leg_credits: int
    leg_minor: int
    claimed_credits: int = 0
    claimed_minor: int = 0
    returned_minor: int = 0
    claims_credits: int = 0
    claims_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigures:
    """A stored figure of a refund, a leg or a transaction, and the sum of the rows that it comes from."""

    subject: str
    customer_id: str
    stored: int
    expected: int
    unit: str = CREDITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of some customers, read in one snapshot. `postings` are only those that may violate their sum."""

    owners: Mapping[str, str] = field(default_factory=dict)  # the surviving customer by id
    customers: tuple[CustomerFigures, ...] = ()
    postings: tuple[PostingFigures, ...] = ()
    payments: tuple[PaymentFigures, ...] = ()
    rooms: tuple[PairFigures, ...] = ()
    reversals: tuple[PairFigures, ...] = ()
    payouts: tuple[PairFigures, ...] = ()
    claim_entries: tuple[PairFigures, ...] = ()
    claim_money: tuple[PairFigures, ...] = ()


def violations(figures: Figures) -> Iterator[Violation]:
    """Yield every row for which a sum does not hold, with the surviving customer of a merged one."""
    for violation in _violations(figures):
        owner = figures.owners.get(violation.customer_id, violation.customer_id)
        yield replace(violation, customer_id=owner)


def _violations(figures: Figures) -> Iterator[Violation]:
    for posting in figures.postings:
        yield from _of_posting(posting)
    for customer in figures.customers:
        yield from _of_customer(customer)
    for payment in figures.payments:
        yield from _of_payment(payment)
    pairs = (
        (Sum.TRANSACTION_ROOM, figures.rooms),
        (Sum.REVERSALS, figures.reversals),
        (Sum.PAYOUTS, figures.payouts),
        (Sum.CLAIM_ENTRIES, figures.claim_entries),
        (Sum.CLAIM_MONEY, figures.claim_money),
    )
    for name, found in pairs:
        for pair in found:
            if pair.stored != pair.expected:
                yield Violation(name, pair.subject, pair.customer_id, pair.stored, pair.expected, pair.unit)


def _of_posting(posting: PostingFigures) -> Iterator[Violation]:
    said = posting.credits if posting.unit == CREDITS else 0
    for stored, expected in ((posting.total, 0), (posting.own, said), (posting.others, 0)):
        if stored != expected:
            yield Violation(Sum.ENTRIES, posting.transaction_id, posting.customer_id, stored, expected, posting.unit)
            return


def _of_customer(customer: CustomerFigures) -> Iterator[Violation]:
    compared = (
        (Sum.BALANCE, customer.balance, customer.entries),
        (Sum.HELD, customer.held, customer.to_be_posted + customer.claims_hold),
        (Sum.BOUGHT, customer.bought, customer.paid_for),
        (Sum.NET_SPENT, customer.net_spent, customer.used),
        (Sum.WITHDRAWN, customer.withdrawn, customer.refunded + customer.claims_hold + customer.claims_took),
        (Sum.CLEARING, customer.clearing, customer.in_flight),
    )
    for name, stored, expected in compared:
        if stored != expected:
            yield Violation(name, customer.customer_id, customer.customer_id, stored, expected)
    if customer.balance < -customer.owed:
        owner = customer.customer_id
        yield Violation(Sum.DEBTS, owner, owner, customer.balance, -customer.owed)


def _of_payment(payment: PaymentFigures) -> Iterator[Violation]:
    """Compare what is taken of a payment. Money that was paid after its reservation was released counts at most up to
    the full amount.
    """
    credits = min(payment.leg_credits, payment.credits)
    minor = min(payment.leg_minor, payment.amount_minor)
    money = payment.currency
    compared = (
        (Sum.PAYMENT_CREDITS, payment.credits_taken, credits, CREDITS),
        (Sum.PAYMENT_MONEY, payment.money_taken, minor, money),
        (Sum.CLAIMED_CREDITS, payment.claimed_credits, payment.claims_credits, CREDITS),
        (Sum.CLAIMED_MONEY, payment.claimed_minor - payment.returned_minor, payment.claims_minor, money),
    )
    for name, stored, expected, unit in compared:
        if stored != expected:
            yield Violation(name, payment.payment_id, payment.customer_id, stored, expected, unit)
