"""Earnings of payees, and what is clawed back of them when the customer's spend was refunded or charged back.

A claw-back is derived from the spend's position alone: the same position again changes nothing, and a position that
went back undoes it. Amounts are in minor units, times in epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from refund_worker.domain.ledger import (
    CLAWBACK_ID,
    EARNING_ID,
    SHARES,
    EntryKind,
    PayeeEffect,
    Posting,
    payee_account,
    transfer,
)
from refund_worker.domain.money import as_text, proportion
from refund_worker.domain.payouts.payee import BalanceDelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Earning:
    """A payee's share, as the admin backend reported it.

    `transaction_id` is the spend that it came from, None if from none. It can be paid out from `available_at` on;
    `asked_available_at` is that time as the caller asked, None if the setting decided. `clawbacks` counts the entries
    that moved `clawed_back_minor`.
    """

    earning_id: str
    payee_id: str
    amount_minor: int
    currency: str
    transaction_id: str | None
    description: str
    available_at: float
    asked_available_at: float | None = None
    clawed_back_minor: int = 0
    clawbacks: int = 0
    created_at: float = 0.0

    @property
    def record(self) -> EarningRecord:
        """Return the earning as it was sent."""
        return EarningRecord(
            earning_id=self.earning_id,
            payee_id=self.payee_id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            transaction_id=self.transaction_id,
            available_at=self.asked_available_at,
            description=self.description,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningRecord:
    """An earning as the admin backend sends it. Without `available_at` the setting says how long it is held."""

    earning_id: str
    payee_id: str
    amount_minor: int
    currency: str
    transaction_id: str | None = None
    available_at: float | None = None
    description: str = ""

    def earning(self, now: float, hold_seconds: float) -> Earning:
        """Return the earning as it is stored at `now` (epoch seconds)."""
        return Earning(
            earning_id=self.earning_id,
            payee_id=self.payee_id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            transaction_id=self.transaction_id,
            description=self.description,
            available_at=now + hold_seconds if self.available_at is None else self.available_at,
            asked_available_at=self.available_at,
            created_at=now,
        )


@dataclass(frozen=True, slots=True)
class SpendPosition:
    """The credits of a spend, and how many of them were refunded or lost in disputes that persons linked to it."""

    spent: int
    returned: int


@dataclass(frozen=True, slots=True)
class Clawback:
    """An earning after a claw-back, or after one was undone, and the ledger entry for it."""

    earning: Earning
    posting: Posting

    @property
    def amount_minor(self) -> int:
        """Return what was taken back, below zero if it was given again."""
        return -self.posting.payee.amount_minor if self.posting.payee else 0

    @property
    def delta(self) -> BalanceDelta:
        """Return the change of the payee's sums."""
        return BalanceDelta(clawed_back_minor=self.amount_minor)


def earning_posting_id(earning_id: str) -> str:
    """Return the id of the ledger entry of an earning."""
    return f"{EARNING_ID}{earning_id}"


def earned(earning: Earning, actor: str, at: float) -> Posting:
    """Return the entry of a new earning."""
    return Posting(
        transaction_id=earning_posting_id(earning.earning_id),
        customer_id=None,
        payee=PayeeEffect(earning.payee_id, earning.currency, earning.amount_minor),
        kind=EntryKind.EARNING,
        credits=0,
        entries=transfer(SHARES, payee_account(earning.payee_id), earning.currency, earning.amount_minor),
        description=earning.description or f"Earning of {as_text(earning.amount_minor, earning.currency)}",
        refers_to=earning.transaction_id,
        occurred_at=at,
        actor=actor,
    )


def to_claw_back(earning: Earning, position: SpendPosition) -> int:
    """Return how much of the earning is clawed back at this position, all claw-backs together, rounded half up.

    >>> one = Earning(earning_id="e", payee_id="p", amount_minor=5, currency="EUR", transaction_id="t",
    ...               description="", available_at=0)
    >>> [to_claw_back(one, SpendPosition(10, returned)) for returned in (0, 1, 5, 10)]
    [0, 1, 3, 5]
    """
    if position.spent <= 0:
        return 0
    returned = min(max(0, position.returned), position.spent)
    return proportion(earning.amount_minor, returned, position.spent)


def claw_back(earning: Earning, position: SpendPosition, actor: str, at: float) -> Clawback | None:
    """Return the claw-back that brings the earning to this position, or None if it is there."""
    target = to_claw_back(earning, position)
    more = target - earning.clawed_back_minor
    if not more:
        return None
    number = earning.clawbacks + 1
    after = replace(earning, clawed_back_minor=target, clawbacks=number)
    reason = f"{position.returned} of {position.spent} credits of {earning.transaction_id} were returned"
    posting = Posting(
        transaction_id=f"{CLAWBACK_ID}{number}-{earning.earning_id}",
        customer_id=None,
        payee=PayeeEffect(earning.payee_id, earning.currency, -more),
        kind=EntryKind.CLAWBACK if more > 0 else EntryKind.CLAWBACK_REVERSAL,
        credits=0,
        entries=transfer(payee_account(earning.payee_id), SHARES, earning.currency, more),
        description=f"{'Clawed back' if more > 0 else 'Claw-back undone'}: {reason}",
        refers_to=earning_posting_id(earning.earning_id),
        occurred_at=at,
        actor=actor,
    )
    return Clawback(after, posting)
