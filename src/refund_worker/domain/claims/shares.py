"""The share of a payment's credits that each claim on it takes: the rule for refunds the other way round."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.money import proportion
from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPayment:
    """A payment, and what its own refunds take of it: legs that have paid or may still pay.

    `amount_minor` is what was captured, at most the amount recorded. `refunded_minor` was returned before the payment
    was recorded here, at `recorded_at` (epoch seconds). `named_minor` are the minor units, by object id, that persons
    named as what paid a leg.
    """

    payment_id: str
    customer_id: str
    processor: str
    currency: str
    amount_minor: int
    credits: int
    recorded_at: float
    refunded_minor: int = 0
    leg_credits: int = 0
    leg_minor: int = 0
    named_minor: Mapping[str, int] = field(default_factory=dict)


def by_age(claim: Claim) -> tuple[float, str]:
    """Return the key that sorts claims by the age of their objects, the oldest first."""
    return claim.object_created_at, claim.object_id


def explain(payment: ClaimedPayment, claims: Iterable[Claim]) -> list[Claim]:
    """Return the claims in their order, each with what our records explain of it.

    `refunded_minor` explains the oldest refunds of others from before the payment was recorded. An amount that a person
    linked to a refund of ours is explained too, and so is one that a person named as the manual payment of a leg. The
    part that `refunded_minor` had of a refund stays known when the refund fails or is linked: that money came back, or
    is the money of our refund now.
    """
    found = [_outside(payment, claim) if claim.kind is ClaimKind.OUTSIDE_REFUND else claim for claim in claims]
    left = payment.refunded_minor - sum(claim.earlier_minor for claim in found)
    parts: dict[str, int] = {}
    for claim in sorted(found, key=by_age):
        if _may_be_earlier(payment, claim) and not claim.earlier_minor:
            parts[claim.claim_id] = min(left, claim.amount_minor - claim.explained_minor)
            left -= parts[claim.claim_id]
    found = [_with_part(claim, parts.get(claim.claim_id, 0)) for claim in found]
    return [_with_what_came_back(payment, _still_refunded(payment, claim, found), found) for claim in found]


def explains_whole(payment: ClaimedPayment, claims: Sequence[Claim], old: Claim, since: float) -> bool:
    """Return True if `refunded_minor` explains all of one more refund that others made before `since`.

    Such a refund takes nothing until a person applies it. So it may take no part from another one that is as old.
    """
    parts = {claim.claim_id: claim.explained_minor for claim in explain(payment, claims)}
    return all(
        claim.explained_minor >= parts.get(claim.claim_id, claim.amount_minor)
        for claim in explain(payment, [*claims, old])
        if claim.kind is ClaimKind.OUTSIDE_REFUND and claim.object_created_at < since
    )


def _may_be_earlier(payment: ClaimedPayment, claim: Claim) -> bool:
    is_older = claim.object_created_at <= payment.recorded_at + CLOCK_DIFFERENCE_SECONDS
    return claim.kind is ClaimKind.OUTSIDE_REFUND and claim.is_live and is_older


def _outside(payment: ClaimedPayment, claim: Claim) -> Claim:
    """Return the outside refund with its linked part explained, and with what is settled about `refunded_minor`.

    Only a refund that is live and not linked still has to find its part of `refunded_minor`. While one is being linked,
    its part stays: no other claim may take what the linked leg will count for.
    """
    linked = min(claim.amount_minor, max(claim.linked_minor, payment.named_minor.get(claim.object_id, 0)))
    if claim.is_live and not linked:
        return replace(claim, explained_minor=0, earlier_minor=0, returned_minor=0)
    left = claim.amount_minor - linked if claim.is_live else 0
    still = claim.earlier_minor if claim.is_being_linked else min(claim.earlier_minor, left)
    return replace(claim, explained_minor=linked + min(still, left), returned_minor=claim.earlier_minor - still)


def _with_part(claim: Claim, minor: int) -> Claim:
    return replace(claim, earlier_minor=claim.earlier_minor + minor, explained_minor=claim.explained_minor + minor)


def _still_refunded(payment: ClaimedPayment, claim: Claim, claims: Iterable[Claim]) -> Claim:
    """Return the claim for `refunded_minor` with the money that is still gone."""
    if claim.kind is not ClaimKind.EARLIER_REFUND:
        return claim
    left = min(payment.amount_minor, refunded_before(payment, claims))
    return replace(claim, amount_minor=left, explained_minor=left, phase=Phase.TAKEN if left else Phase.RELEASED)


def refunded_before(payment: ClaimedPayment, claims: Iterable[Claim]) -> int:
    """Return the minor units of `refunded_minor` that are still gone for refunds of others."""
    return payment.refunded_minor - sum(claim.returned_minor for claim in claims)


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
    claims = list(claims)
    taken = refunded_before(payment, claims) + payment.leg_minor + sum(claim.money_minor for claim in claims)
    return payment.amount_minor - taken


def shares(payment: ClaimedPayment, claims: Sequence[Claim], lessened: Collection[str] = ()) -> dict[str, int]:
    """Return the credits that each live claim takes of the payment, by claim id, in the order of recording.

    The share is computed from all the money that is gone so far. So any number of parts, in any order with our own
    refunds, takes exactly all credits once all money is gone. A share does not shrink because of others: what a later
    refund of ours may take of a claim's credits is decided by that refund's own rule. It shrinks if the claim's own
    money became less: `lessened` are the ids of such claims.
    """
    live = [replace(claim, credits=0) if claim.claim_id in lessened else claim for claim in claims if claim.takes_room]
    amount = payment.amount_minor
    before = min(amount, refunded_before(payment, claims))
    gone = before + payment.leg_minor
    earlier = proportion(payment.credits, before, amount)
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
