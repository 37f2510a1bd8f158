"""The share of a payment's credits that each claim on it takes: the rule for refunds the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.money import proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPayment:
    """A payment, and what its own refunds take of it: legs that have paid or may still pay.

    `amount_minor` is what was captured, at most the amount recorded. `refunded_minor` was returned before the payment
    was recorded here. `named_minor` are the minor units, by object id, that persons named as what paid a leg.
    """

    payment_id: str
    customer_id: str
    processor: str
    currency: str
    amount_minor: int
    credits: int
    refunded_minor: int = 0
    leg_credits: int = 0
    leg_minor: int = 0
    named_minor: Mapping[str, int] = field(default_factory=dict)


def explain(payment: ClaimedPayment, claims: Iterable[Claim]) -> list[Claim]:
    """Return the claims in their order, each with what our records explain of it.

    `refunded_minor` explains the oldest refunds of others. An amount that a person linked to a refund of ours is
    explained too, and so is one that a person named as the manual payment of a leg.
    """
    left = payment.refunded_minor
    explained: dict[str, int] = {}
    found = list(claims)
    for claim in sorted(found, key=lambda claim: (claim.object_created_at, claim.object_id)):
        if claim.kind is ClaimKind.EARLIER_REFUND:
            explained[claim.claim_id] = claim.amount_minor
            continue
        named = payment.named_minor.get(claim.object_id, 0) if claim.kind is ClaimKind.OUTSIDE_REFUND else 0
        linked = min(claim.amount_minor, max(claim.linked_minor, named))
        earlier = 0
        if claim.kind is ClaimKind.OUTSIDE_REFUND and claim.is_live:
            earlier = min(left, claim.amount_minor - linked)
            left -= earlier
        explained[claim.claim_id] = linked + earlier
    found = [replace(claim, explained_minor=explained[claim.claim_id]) for claim in found]
    return [_with_what_came_back(payment, claim, found) for claim in found]


def _with_what_came_back(payment: ClaimedPayment, claim: Claim, claims: Sequence[Claim]) -> Claim:
    """Return the closing of a payment with the money of refunds and disputes that ended later without taking it.

    Money that is being linked did not come back: the linked leg takes it.
    """
    if claim.kind is not ClaimKind.CLOSE or any(other.is_being_linked for other in claims):
        return claim
    left = money_left(payment, [other for other in claims if other.claim_id != claim.claim_id])
    return replace(claim, amount_minor=max(claim.amount_minor, left))


def money_left(payment: ClaimedPayment, claims: Iterable[Claim]) -> int:
    """Return the minor units that neither our refunds nor these claims take; below zero if they take too much."""
    taken = payment.refunded_minor + payment.leg_minor + sum(claim.money_minor for claim in claims)
    return payment.amount_minor - taken


def shares(payment: ClaimedPayment, claims: Sequence[Claim]) -> dict[str, int]:
    """Return the credits that each live claim takes of the payment, by claim id, in the order of recording.

    The share is computed from all the money that is gone so far. So any number of parts, in any order with our own
    refunds, takes exactly all credits once all money is gone. A share never shrinks: what a later refund of ours may
    take of a claim's credits is decided by that refund's own rule.
    """
    live = [claim for claim in claims if claim.takes_room]
    amount = payment.amount_minor
    gone = min(amount, payment.refunded_minor) + payment.leg_minor
    earlier = proportion(payment.credits, min(amount, payment.refunded_minor), amount)
    taken = earlier + payment.leg_credits
    kept = sum(claim.credits for claim in live)
    found: dict[str, int] = {}
    for claim in live:
        kept -= claim.credits
        gone += claim.money_minor
        wanted = proportion(payment.credits, min(amount, gone), amount) - taken
        left = payment.credits - taken - kept
        found[claim.claim_id] = max(claim.credits, min(wanted, left), 0)
        taken += found[claim.claim_id]
    return found | {claim.claim_id: earlier for claim in claims if claim.kind is ClaimKind.EARLIER_REFUND}
