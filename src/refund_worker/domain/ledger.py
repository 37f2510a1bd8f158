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
CLEARING = "house:clearing"  # off the balance, money not yet confirmed: zero if nothing is in flight
REDEEMED = "house:redeemed"  # credits whose money went back
SALES = "house:sales"
REFUNDS = "house:refunds"
MANUAL = "house:paid_by_hand"


class EntryKind(StrEnum):
    """The kind of a ledger transaction. The first six appear in a customer's Transactions list."""

    PURCHASE = "purchase"
    SPEND = "spend"
    CREDIT_REFUND = "credit_refund"
    CORRECTION = "correction"
    WITHDRAWAL = "withdrawal"
    REVERSAL = "reversal"
    ASSIGNMENT = "assignment"  # a correction's credits, reserved to be paid out
    PAYOUT = "payout"  # money left for the customer
    PAYOUT_REVERSAL = "payout_reversal"  # that money came back


SHOWN_TO_CUSTOMERS = frozenset(
    {
        EntryKind.PURCHASE,
        EntryKind.SPEND,
        EntryKind.CREDIT_REFUND,
        EntryKind.CORRECTION,
        EntryKind.WITHDRAWAL,
        EntryKind.REVERSAL,
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed `amount` of `unit` on `account`: credits, or minor units of a currency."""

    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One ledger transaction at `occurred_at` (epoch seconds). `credits` is its signed effect on the balance.

    Raises `ValueError` if the entries do not sum to zero in every unit, or move other credits than `credits`.
    """

    transaction_id: str
    customer_id: str
    kind: EntryKind
    credits: int
    entries: tuple[Entry, ...]
    description: str = ""
    refers_to: str | None = None
    refund_id: str | None = None
    occurred_at: float
    actor: str = field(default="system")

    def __post_init__(self) -> None:
        sums: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            sums[entry.unit] += entry.amount
        if any(sums.values()):
            raise ValueError(f"the entries of {self.transaction_id} do not sum to zero")
        account = customer_account(self.customer_id)
        if sum(e.amount for e in self.entries if e.account == account) != self.credits:
            raise ValueError(f"{self.transaction_id}: its entries move another number of credits than it says")


def customer_account(customer_id: str) -> str:
    """Return the name of the customer's account in the ledger."""
    return f"customer:{customer_id}"


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


def correction(*, transaction_id: str, customer_id: str, credits: int, reason: str, actor: str, at: float) -> Posting:
    """Return the posting of a correction by staff: credits put on a balance, or taken off it if negative."""
    return Posting(
        transaction_id=transaction_id,
        customer_id=customer_id,
        kind=EntryKind.CORRECTION,
        credits=credits,
        entries=transfer(CORRECTIONS, customer_account(customer_id), CREDITS, credits),
        description=reason,
        occurred_at=at,
        actor=actor,
    )


# Prefixes of the ids that this program derives from another id.
_REVERSAL, _PURCHASE = "reversal-", "purchase-"
MADE_HERE = (_REVERSAL, _PURCHASE)


def reversal_id(of: str) -> str:
    """Return the id of the reversal (the console's "Delete") of a transaction. There is at most one."""
    return f"{_REVERSAL}{of}"


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
    """Return the linked reversal of a correction or a credit refund that moved `credits` (signed)."""
    what = "correction" if kind is EntryKind.CORRECTION else "refund"
    other = CORRECTIONS if kind is EntryKind.CORRECTION else USED
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
