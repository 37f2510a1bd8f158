"""Double entry: a posting that does not sum to zero in every unit cannot be built.

Units are "credits" and currency codes. A positive figure on `customer:ID` is what the customer can spend. House
accounts are sums over entries and have no column of their own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

CREDITS = "credits"
ISSUED = "house:issued"  # credits sold
USED = "house:used"  # credits spent
CORRECTIONS = "house:corrections"
EXPIRED = "house:expired"  # credits that expired unused
CLEARING = "house:clearing"  # off the balance, money not yet confirmed: zero if nothing is in flight
REDEEMED = "house:redeemed"  # credits whose money went back
SALES = "house:sales"
REFUNDS = "house:refunds"
DISPUTES = "house:disputes"  # money lost in disputes
MERGED = "house:merged"  # on its way from a merged customer to the surviving one: zero after each merge
MANUAL = "house:paid_by_hand"
SHARES = "house:shares"  # what payees earned of what customers spent
PAYOUT_CLEARING = "house:payout_clearing"  # off a payee's balance, money not yet confirmed
PAID_OUT = "house:paid_out"  # what payees were paid of their balances
PAYOUTS = "house:payouts"  # money that left for payees
PAYOUT_LOSSES = "house:payout_losses"  # of that, what did not come back when a payout was returned


class EntryKind(StrEnum):
    """The kind of a ledger transaction. `SHOWN_TO_CUSTOMERS` are those of a customer's Transactions list."""

    PURCHASE = "purchase"
    SPEND = "spend"
    CREDIT_REFUND = "credit_refund"
    CORRECTION = "correction"
    EXPIRY = "expiry"  # a correction for credits that expired
    WITHDRAWAL = "withdrawal"
    REVERSAL = "reversal"
    OUTSIDE_REFUND = "outside_refund"  # credits of money that others refunded
    CHARGEBACK = "chargeback"  # credits of money that was lost in a dispute
    MERGE = "merge"  # the balance of a customer who was merged into another
    CLOSE = "close"  # credits of a payment that was closed: its money never came, or it was recorded wrong
    ASSIGNMENT = "assignment"  # a correction's credits, reserved to be paid out
    PAYOUT = "payout"  # money left for the customer
    PAYOUT_REVERSAL = "payout_reversal"  # that money came back
    EARNING = "earning"  # a payee's share
    CLAWBACK = "clawback"  # taken back from it, because the customer's spend was refunded
    CLAWBACK_REVERSAL = "clawback_reversal"  # that refund was undone
    PAYEE_WITHDRAWAL = "payee_withdrawal"  # a payout takes its amount off the payee's balance
    PAYEE_RETURN = "payee_return"  # the balance gets it back
    TRANSFER = "transfer"  # money left for the payee
    TRANSFER_REVERSAL = "transfer_reversal"  # that money came back


class Purpose(StrEnum):
    """The reason for a correction that takes credits off. Only `PAYOUT` can be paid out."""

    PAYOUT = "payout"
    EXPIRY = "expiry"
    OTHER = "other"

    @classmethod
    def of(cls, credits: int, asked: Purpose | None = None) -> Purpose:
        """Return the purpose of a correction by `credits`; unless `asked` names another, credits are taken off for a
        payout.

        Raises `ValueError` if credits are to be added for a payout or an expiry.
        """
        if credits < 0:
            return asked or cls.PAYOUT
        if asked not in (None, cls.OTHER):
            raise ValueError(f"{asked} is for credits that are taken off: added credits have the purpose {cls.OTHER}")
        return cls.OTHER


SHOWN_TO_CUSTOMERS = frozenset(
    {
        EntryKind.PURCHASE,
        EntryKind.SPEND,
        EntryKind.CREDIT_REFUND,
        EntryKind.CORRECTION,
        EntryKind.EXPIRY,
        EntryKind.WITHDRAWAL,
        EntryKind.REVERSAL,
        EntryKind.OUTSIDE_REFUND,
        EntryKind.CHARGEBACK,
        EntryKind.CLOSE,
        EntryKind.MERGE,
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed `amount` of `unit` on `account`: credits, or minor units of a currency."""

    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class PayeeEffect:
    """The signed effect of a posting on a payee's balance, in minor units of `currency`. It can be 0."""

    payee_id: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One ledger transaction at `occurred_at` (epoch seconds). `credits` is its signed effect on the balance.

    It belongs to a customer, or to the payee that `payee` names. Raises `ValueError` if the entries do not sum to zero
    in every unit, or move another amount than `credits` or `payee` says.
    """

    transaction_id: str
    customer_id: str | None
    payee: PayeeEffect | None = None
    kind: EntryKind
    credits: int
    entries: tuple[Entry, ...]
    description: str = ""
    refers_to: str | None = None
    refund_id: str | None = None
    purpose: Purpose | None = None
    occurred_at: float
    actor: str = field(default="system")

    def __post_init__(self) -> None:
        sums: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            sums[entry.unit] += entry.amount
        if any(sums.values()):
            raise ValueError(f"the entries of {self.transaction_id} do not sum to zero")
        if (self.customer_id is None) == (self.payee is None):
            raise ValueError(f"{self.transaction_id} belongs to a customer or to a payee")
        account = payee_account(self.payee.payee_id) if self.payee else customer_account(str(self.customer_id))
        moved = sum(e.amount for e in self.entries if e.account == account)
        if moved != (self.payee.amount_minor if self.payee else self.credits):
            raise ValueError(f"{self.transaction_id}: its entries move another amount than it says")


def customer_account(customer_id: str) -> str:
    """Return the name of the customer's account in the ledger."""
    return f"customer:{customer_id}"


def payee_account(payee_id: str) -> str:
    """Return the name of the payee's account in the ledger. A positive figure is what we owe the payee."""
    return f"payee:{payee_id}"


def processor_account(processor: str) -> str:
    """Return the name of the processor's account in the ledger."""
    return f"processor:{processor}"


def transfer(source: str, target: str, unit: str, amount: int) -> tuple[Entry, ...]:
    """Return two entries that move `amount` from `source` to `target`, or none if the amount is 0."""
    return (Entry(source, unit, -amount), Entry(target, unit, amount)) if amount else ()


def purchase(
    *, payment_id: str, customer_id: str, processor: str, credits: int, amount_minor: int, currency: str, at: float
) -> Posting:
    """Return the posting of a captured payment: its credits are on the balance, its money is at the processor.

    `amount_minor` is in minor units, `at` in epoch seconds.
    """
    return Posting(
        transaction_id=f"{_PURCHASE}{payment_id}",
        customer_id=customer_id,
        kind=EntryKind.PURCHASE,
        credits=credits,
        entries=(
            *transfer(ISSUED, customer_account(customer_id), CREDITS, credits),
            *transfer(SALES, processor_account(processor), currency, amount_minor),
        ),
        description=f"Purchase of {credits} credits",
        refers_to=payment_id,
        occurred_at=at,
    )


def spend(*, transaction_id: str, customer_id: str, credits: int, description: str, at: float) -> Posting:
    """Return the posting of `credits` (a positive figure) that the customer spent at `at` (epoch seconds)."""
    return Posting(
        transaction_id=transaction_id,
        customer_id=customer_id,
        kind=EntryKind.SPEND,
        credits=-credits,
        entries=transfer(customer_account(customer_id), USED, CREDITS, credits),
        description=description,
        occurred_at=at,
    )


def correction(
    *,
    transaction_id: str,
    customer_id: str,
    credits: int,
    reason: str,
    actor: str,
    at: float,
    purpose: Purpose | None = None,
) -> Posting:
    """Return the posting of a correction by staff: credits put on a balance, or taken off it if negative.

    Credits that expired are an entry of their own kind. Raises `ValueError` if `purpose` does not fit `credits`.
    """
    purpose = Purpose.of(credits, purpose)
    kind, source = (EntryKind.EXPIRY, EXPIRED) if purpose is Purpose.EXPIRY else (EntryKind.CORRECTION, CORRECTIONS)
    return Posting(
        transaction_id=transaction_id,
        customer_id=customer_id,
        kind=kind,
        credits=credits,
        entries=transfer(source, customer_account(customer_id), CREDITS, credits),
        description=reason,
        purpose=purpose,
        occurred_at=at,
        actor=actor,
    )


def merge(
    *, ids: tuple[str, str], customer_id: str, into: str, credits: int, reason: str, actor: str, at: float
) -> tuple[Posting, Posting]:
    """Return the two linked postings that move the whole balance, `credits` (signed), from a customer to another.

    `ids` are those of the entry that takes it off and of the entry that adds it.
    """
    off, on = ids

    def posting(id: str, other: str, whose: str, change: int, what: str) -> Posting:
        return Posting(
            transaction_id=id,
            customer_id=whose,
            kind=EntryKind.MERGE,
            credits=change,
            entries=transfer(MERGED, customer_account(whose), CREDITS, change),
            description=f"{what}: {reason}",
            refers_to=other,
            occurred_at=at,
            actor=actor,
        )

    return (
        posting(off, on, customer_id, -credits, f"Merged into customer {into}"),
        posting(on, off, into, credits, f"Merged with customer {customer_id}"),
    )


# Prefixes of the ids that this program derives from another id.
_REVERSAL, _PURCHASE = "reversal-", "purchase-"
EARNING_ID, CLAWBACK_ID = "earning-", "clawback-"
MADE_HERE = (_REVERSAL, _PURCHASE, EARNING_ID, CLAWBACK_ID)


def reversal_id(of: str) -> str:
    """Return the id of the reversal (the console's "Delete") of a transaction. There is at most one."""
    return f"{_REVERSAL}{of}"


# The name of the reversed entry, and the account that its credits came from.
_REVERSED = {
    EntryKind.CORRECTION: ("correction", CORRECTIONS),
    EntryKind.EXPIRY: ("expiry", EXPIRED),
    EntryKind.CREDIT_REFUND: ("refund", USED),
}


def reversal(
    *,
    of: str,
    kind: EntryKind,
    customer_id: str,
    credits: int,
    refund_id: str | None,
    actor: str,
    at: float,
    reason: str | None = None,
) -> Posting:
    """Return the linked reversal of a correction, an expiry or a credit refund that moved `credits` (signed)."""
    what, other = _REVERSED[kind]
    return Posting(
        transaction_id=reversal_id(of),
        customer_id=customer_id,
        kind=EntryKind.REVERSAL,
        credits=-credits,
        entries=transfer(customer_account(customer_id), other, CREDITS, credits),
        description=f"Reversal of {what} {of}" + (f": {reason}" if reason else ""),
        refers_to=of,
        refund_id=refund_id,
        occurred_at=at,
        actor=actor,
    )
