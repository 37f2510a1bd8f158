"""The ledger postings of payouts: off the payee's balance, out to the payee, and back.

A two-step payout first moves money to the payee's account at the processor, which is a ledger account of its own. So
the ledger agrees with the processor's books of both accounts.
"""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.domain.account_names import CONNECTED, PAYOUT
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.ledger import (
    MANUAL,
    PAID_OUT,
    PAYOUT_CLEARING,
    PAYOUT_LOSSES,
    PAYOUTS,
    Entry,
    EntryKind,
    PayeeEffect,
    Posting,
    payee_account,
    processor_account,
    transfer,
)
from refund_worker.domain.money import as_text
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, PayoutSource
from refund_worker.domain.payouts.transfers import Step
from refund_worker.domain.refund import LegStatus


@dataclass(frozen=True, slots=True)
class Payment:
    """A posting in the making. `suffix` follows the payout's id; `effect_minor` is that on the payee's balance."""

    suffix: str
    kind: EntryKind
    effect_minor: int
    entries: tuple[Entry, ...]
    text: str
    refers_to: str | None = None

    def posting(self, payout: Payout, now: float, actor: str) -> Posting:
        """Return the ledger transaction, at `now` (epoch seconds)."""
        return Posting(
            transaction_id=f"{payout.payout_id}-{self.suffix}",
            customer_id=None,
            payee=PayeeEffect(payout.payee_id, payout.currency, self.effect_minor),
            kind=self.kind,
            credits=0,
            entries=self.entries,
            description=self.text,
            refers_to=self.refers_to or payout.payout_id,
            occurred_at=now,
            actor=actor,
        )


def take_off(payout: Payout, *, again: int = 0) -> Payment:
    """Return the posting that takes the amount off the balance. `again` is how often it was given back before."""
    entries = transfer(payee_account(payout.payee_id), PAYOUT_CLEARING, payout.currency, payout.amount_minor)
    suffix = f"withdrawal-{again}" if again else "withdrawal"
    text = f"Payout of {as_text(payout.amount_minor, payout.currency)}"
    return Payment(suffix, EntryKind.PAYEE_WITHDRAWAL, -payout.amount_minor, entries, text)


def give_back(payout: Payout, count: int) -> Payment:
    """Return the posting that gives the amount back to the balance, for the `count`th time."""
    entries = transfer(PAYOUT_CLEARING, payee_account(payout.payee_id), payout.currency, payout.amount_minor)
    text = f"{as_text(payout.amount_minor, payout.currency)} given back: the payout did not arrive"
    return Payment(f"return-{count}", EntryKind.PAYEE_RETURN, payout.amount_minor, entries, text)


def paid_by(leg: PayoutLeg) -> str | None:
    """Return the reference of the payment for this leg, or None if it has not paid."""
    return leg.object_id if leg.status is LegStatus.SUCCEEDED else None


def payment(payout: Payout, leg: PayoutLeg, by: str, sign: int, version: int) -> Payment:
    """Return the posting of what the leg paid (`sign` 1), or of its coming back (-1). `by` is its reference.

    The payout's `version` makes the id unique: the same object may pay again after it was reported failed.
    """
    kind, verb = (EntryKind.TRANSFER, "paid") if sign > 0 else (EntryKind.TRANSFER_REVERSAL, "came back")
    text = f"{as_text(leg.amount_minor, leg.currency)} {verb}: {by}"
    suffix = f"{kind}-{leg.number}-{by}-{version}"
    return Payment(suffix, kind, 0, _entries(payout, leg, by, sign * leg.amount_minor), text, leg.leg_id)


def loss(payout: Payout, leg: PayoutLeg, object_id: str, lost_minor: int) -> Payment:
    """Return the posting of money that did not come back with a returned payout: a loss of ours."""
    entries = transfer(_source(payout, leg), PAYOUT_LOSSES, leg.currency, lost_minor)
    text = f"{as_text(lost_minor, leg.currency)} did not come back: {object_id}"
    return Payment(f"loss-{leg.number}-{object_id}", EntryKind.TRANSFER, 0, entries, text, leg.leg_id)


def _entries(payout: Payout, leg: PayoutLeg, by: str, amount: int) -> tuple[Entry, ...]:
    platform, connected = processor_account(leg.processor), processor_account(_connected(payout, leg))
    manual = by.startswith(MANUAL_PREFIX)
    match leg.step:
        case Step.TRANSFER:
            return () if manual else transfer(platform, connected, leg.currency, amount)
        case Step.REVERSAL:
            return () if manual else transfer(connected, platform, leg.currency, amount)
        case Step.PAYOUT:
            source = MANUAL if manual else _source(payout, leg)
            if payout.source is PayoutSource.WITHDRAWAL:  # the refund's own posting takes it from there
                return transfer(source, processor_account(PAYOUT), leg.currency, amount)
            cleared = transfer(PAYOUT_CLEARING, PAID_OUT, leg.currency, amount)
            return (*transfer(source, PAYOUTS, leg.currency, amount), *cleared)


def _connected(payout: Payout, leg: PayoutLeg) -> str:
    return f"{leg.processor}{CONNECTED}{payout.connected_account}"


def _source(payout: Payout, leg: PayoutLeg) -> str:
    """Return the ledger account that the last step's money leaves: that of the payee's account, if there is one."""
    has_transfer = any(other.step is Step.TRANSFER for other in payout.legs)
    return processor_account(_connected(payout, leg) if has_transfer else leg.processor)
