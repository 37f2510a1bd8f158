"""Shares: all claims and our own refunds together take exactly all credits of a payment, never more."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.claims.shares import ClaimedPayment, shares
from refund_worker.domain.money import proportion

PARTS = st.lists(st.tuples(st.booleans(), st.integers(1, 5_000)), min_size=1, max_size=8)
CREDITS = st.integers(0, 3_000)


def claim(number: int, amount_minor: int, phase: Phase = Phase.TAKEN) -> Claim:
    """Return a refund of others over the payment."""
    return Claim(
        claim_id=f"cl_{number}",
        kind=ClaimKind.OUTSIDE_REFUND,
        processor="stripe",
        object_id=f"re_{number}",
        amount_minor=amount_minor,
        currency="USD",
        object_status="succeeded",
        phase=phase,
        object_created_at=float(number),
        recorded_at=0.0,
        updated_at=0.0,
        payment_id="pay1",
    )


def payment(amount_minor: int, credits: int) -> ClaimedPayment:
    """Return a payment of which nothing is taken."""
    return ClaimedPayment(
        payment_id="pay1",
        customer_id="c",
        processor="stripe",
        currency="USD",
        amount_minor=amount_minor,
        credits=credits,
        recorded_at=0.0,
    )


@given(PARTS, CREDITS)
def test_all_parts_take_exactly_all_credits(parts: list[tuple[bool, int]], credits: int) -> None:
    whole = payment(sum(minor for _, minor in parts), credits)
    claims: list[Claim] = []
    for number, (is_own, minor) in enumerate(parts):
        if is_own:
            gone = whole.leg_minor + sum(each.amount_minor for each in claims) + minor
            taken = whole.leg_credits + sum(each.credits for each in claims)
            more = max(0, proportion(credits, gone, whole.amount_minor) - taken)
            whole = replace(whole, leg_minor=whole.leg_minor + minor, leg_credits=whole.leg_credits + more)
        else:
            claims.append(claim(number, minor))
        found = shares(whole, claims)
        assert all(found[each.claim_id] >= each.credits for each in claims), "a share never shrinks"
        claims = [replace(each, credits=found[each.claim_id]) for each in claims]
        assert whole.leg_credits + sum(found.values()) <= credits
    assert whole.leg_credits + sum(each.credits for each in claims) == credits


@given(PARTS, CREDITS, st.data())
def test_share_of_less_money_is_as_if_it_had_been_the_first(
    parts: list[tuple[bool, int]], credits: int, data: st.DataObject
) -> None:
    whole = payment(sum(minor for _, minor in parts), credits)
    number = data.draw(st.integers(0, len(parts) - 1))
    less = data.draw(st.integers(0, parts[number][1]))
    ends = []
    for amounts in ([minor for _, minor in parts], [less if n == number else parts[n][1] for n in range(len(parts))]):
        claims = [claim(n, minor) for n, minor in enumerate(amounts)]
        found = shares(whole, claims)
        claims = [replace(each, credits=found[each.claim_id]) for each in claims]
        claims[number] = replace(claims[number], amount_minor=less)
        ends.append(shares(whole, claims, {f"cl_{number}"})[f"cl_{number}"])
    assert ends[0] == ends[1]


@given(PARTS, CREDITS, st.integers(1, 5_000), st.data())
def test_more_money_than_was_paid_never_takes_more_credits(
    parts: list[tuple[bool, int]], credits: int, amount_minor: int, data: st.DataObject
) -> None:
    whole = payment(amount_minor, credits)
    claims: list[Claim] = []
    for number, (ends, minor) in enumerate(parts):
        if ends and claims:
            gone = data.draw(st.integers(0, len(claims) - 1))
            claims[gone] = replace(claims[gone], phase=Phase.RELEASED, credits=0)
        claims.append(claim(number, minor))
        before = {each.claim_id: each.credits for each in claims}
        found = shares(whole, claims)
        assert sum(found.values()) <= credits
        assert all(share >= before[name] for name, share in found.items()), "a share never shrinks"
        claims = [replace(each, credits=found.get(each.claim_id, 0)) for each in claims]
