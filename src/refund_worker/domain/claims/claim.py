"""One claim on a payment: an outside refund, a dispute, or the closing of the payment.

Amounts of money are in minor units, times in epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from refund_worker.domain.ledger import DISPUTES, REFUNDS, SALES, EntryKind
from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import OBJECT_RANK, ObjectState


class ClaimKind(StrEnum):
    """The cause of a claim."""

    OUTSIDE_REFUND = "outside_refund"
    DISPUTE = "dispute"
    CLOSE = "close"
    EARLIER_REFUND = "earlier_refund"  # the `refunded_minor` that the payment was recorded with


class Phase(StrEnum):
    """The effect of a claim on the customer's credits and on the room of its payment."""

    SHOWN = "shown"  # nothing: an inquiry, or a status that we do not know
    HOLDING = "holding"  # the money may be gone: the credits are held
    TAKEN = "taken"  # the money is gone: the credits come off the balance
    RELEASED = "released"  # the money stayed or came back


class ShortfallRule(StrEnum):
    """The rule for credits that a claim would take and that the customer has spent already."""

    WRITE_OFF = "write_off"
    DEBT = "debt"
    PERSON = "person"


LIVE = frozenset({Phase.HOLDING, Phase.TAKEN})
# The house account that a claim's money goes to: an expense, or a sale that was none.
MONEY_ACCOUNT = {
    ClaimKind.OUTSIDE_REFUND: REFUNDS,
    ClaimKind.DISPUTE: DISPUTES,
    ClaimKind.CLOSE: SALES,
    ClaimKind.EARLIER_REFUND: REFUNDS,
}
ENTRY_KIND = {
    ClaimKind.OUTSIDE_REFUND: EntryKind.OUTSIDE_REFUND,
    ClaimKind.DISPUTE: EntryKind.CHARGEBACK,
    ClaimKind.CLOSE: EntryKind.CLOSE,
    ClaimKind.EARLIER_REFUND: EntryKind.OUTSIDE_REFUND,
}


# The kind of the event of a person's decision about missing credits.
SHORTFALL_DECIDED = "shortfall_decided"
# Persons decide about the missing credits of these as about those of an outside refund.
DECIDED_AS_OUTSIDE = (ClaimKind.OUTSIDE_REFUND, ClaimKind.CLOSE, ClaimKind.EARLIER_REFUND)


def decided_as(kind: ClaimKind) -> tuple[ClaimKind, ...]:
    """Return the kinds of claims that are shown and decided at the places for `kind`."""
    return DECIDED_AS_OUTSIDE if kind is ClaimKind.OUTSIDE_REFUND else (kind,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as stored.

    `object_status` is the processor's own status of the object, None for a close. `explained_minor` of the amount is in
    our records already: it was recorded as refunded before, or a person linked it to a refund (`linked_minor`).
    `earlier_minor` of an outside refund is its part of the payment's `refunded_minor`; `returned_minor` of that is gone
    no longer, because the refund failed later, or pays the refund that it was linked to.
    `credits` is the claim's share of the payment's credits: `held` of them are held, `taken` are off the balance, and
    `debt` of those were not there. `posted_minor` is its money in the ledger, and `postings` counts its entries. `rule`
    says what was decided about the credits that were not there.
    """

    claim_id: str
    kind: ClaimKind
    processor: str
    object_id: str
    amount_minor: int
    currency: str
    object_status: str | None
    phase: Phase
    object_created_at: float
    recorded_at: float
    updated_at: float
    payment_id: str | None = None
    customer_id: str | None = None
    reason: str | None = None
    due_by: float | None = None
    explained_minor: int = 0
    earlier_minor: int = 0
    returned_minor: int = 0
    linked_minor: int = 0
    credits: int = 0
    held: int = 0
    taken: int = 0
    debt: int = 0
    posted_minor: int = 0
    rule: ShortfallRule | None = None
    decided_by: str | None = None  # the person who decided about the missing credits
    postings: int = 0
    refund_id: str | None = None  # the refund that a person linked it to
    transaction_id: str | None = None  # the spend that a person linked a lost dispute to
    alarmed_legs: tuple[str, ...] = ()  # legs of ours that paid the same money, and that a person was alerted of

    @property
    def is_live(self) -> bool:
        """Return True while the claim takes or holds something."""
        return self.phase in LIVE

    @property
    def takes_room(self) -> bool:
        """Return True if its money and credits come off the payment's room. `refunded_minor` is off it already."""
        return self.is_live and self.kind is not ClaimKind.EARLIER_REFUND

    @property
    def is_open_dispute(self) -> bool:
        """Return True for a dispute that is neither won nor lost: its payment is closed for sending."""
        return self.kind is ClaimKind.DISPUTE and self.phase is Phase.HOLDING

    @property
    def is_being_linked(self) -> bool:
        """Return True while a link has freed its money and no leg of ours has taken it yet."""
        return self.linked_minor > 0 and self.refund_id is None

    @property
    def money_minor(self) -> int:
        """Return the minor units that the claim takes of its payment now."""
        return max(0, self.amount_minor - self.explained_minor) if self.is_live else 0

    @property
    def missing(self) -> int:
        """Return the credits of the share that are neither held nor taken."""
        return max(0, self.credits - self.held - self.taken)

    @property
    def shortfall(self) -> int:
        """Return the credits of the share that the customer did not have."""
        return self.missing + self.debt

    @property
    def needs_decision(self) -> bool:
        """Return True if a person must decide about the missing credits."""
        return self.phase is Phase.TAKEN and self.rule is ShortfallRule.PERSON and self.missing > 0

    def posting_id(self, number: int) -> str:
        """Return the id of one of the claim's ledger transactions, counted from 1."""
        return f"{self.claim_id}-{number}"


def earlier_refund(payment: PaymentRecord, claim_id: str, now: float) -> Claim:
    """Return the claim for the money of a new payment that was returned before the payment was recorded.

    Its money is in no entry: it was gone before. It takes the money's share of the credits.
    """
    captured = payment.amount_minor if payment.captured_minor is None else payment.captured_minor
    refunded_minor = min(payment.refunded_minor, payment.amount_minor, captured)
    return Claim(
        claim_id=claim_id,
        kind=ClaimKind.EARLIER_REFUND,
        processor=payment.processor,
        object_id=payment.payment_id,
        amount_minor=refunded_minor,
        explained_minor=refunded_minor,
        currency=payment.currency,
        object_status=None,
        phase=Phase.TAKEN,
        object_created_at=payment.captured_at,
        recorded_at=now,
        updated_at=now,
        payment_id=payment.payment_id,
    )


def phase_of_refund(status: str | None) -> Phase:
    """Return the phase of an outside refund by the processor's status. An unknown status may still pay: it holds."""
    match status:
        case ObjectState.SUCCEEDED:
            return Phase.TAKEN
        case ObjectState.FAILED | ObjectState.CANCELED:
            return Phase.RELEASED
        case _:
            return Phase.HOLDING


def replaces_status(before: str | None, after: str | None) -> bool:
    """Return True if a report of an outside refund with status `after` says more than one with `before`.

    Reports come in any order: a status of lower rank is an old one.
    """
    if after is None or after == before:
        return False
    known = {str(state): rank for state, rank in OBJECT_RANK.items()}
    return known.get(after, 0) >= known.get(before or "", -1)


# The words for the status of a dispute that adapters report.
LOST = "lost"
WON_DISPUTES = frozenset({"won", "warning_closed", "prevented"})
INQUIRIES = frozenset({"warning_needs_response", "warning_under_review"})


def phase_of_dispute(status: str | None, *, money_returned: bool | None) -> Phase:
    """Return the phase of a dispute by the processor's status.

    Money that was reinstated after a loss undoes the loss. An unknown status may be an open dispute: it holds, and a
    person sees it.
    """
    if status == LOST:
        return Phase.RELEASED if money_returned else Phase.TAKEN
    if status in WON_DISPUTES:
        return Phase.RELEASED
    return Phase.SHOWN if status in INQUIRIES else Phase.HOLDING
