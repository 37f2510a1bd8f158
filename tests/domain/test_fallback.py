"""Money that a payment refused for good: other payments, the balance, or a person, in the order of the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import POLICY, START, a_leg, answer, begun
from tests.domain.test_allocation import a_payment

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import Policy
from refund_worker.domain.fallback import NO_WAY_LEFT, PAY_MANUALLY
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import Action, apply_action
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus

REFUSED = Refused("declined", "no")
LATER = START + 5


def with_ways(*ways: str) -> Policy:
    return replace(POLICY, fallback=ways)


def refused(*, policy: Policy, others: list[RefundablePayment] | None = None, **changes: object) -> Refund:
    """Return a refund of 1,000 minor units after its payment refused, and after the next step."""
    failed = replace(answer(begun(), REFUSED).after, **changes)  # type: ignore[arg-type]
    after = next_step(failed, LATER, policy, payments=others or []).after
    return next_step(after, LATER, policy).after if after.status is RefundStatus.REVERSING else after


def test_other_payments_come_first_and_the_balance_gets_the_rest() -> None:
    small = a_payment(9, amount_minor=400, credits=40)
    after = refused(policy=POLICY, others=[small])
    first, second = after.legs
    assert (second.payment_id, second.amount_minor, second.credits) == (small.payment_id, 400, 40)
    assert first.reversed_credits == 60


def test_balance_before_payments_takes_everything() -> None:
    after = refused(policy=with_ways("balance", "payments"), others=[a_payment(9)])
    assert len(after.legs) == 1
    assert (after.status, after.reversed_credits) == (RefundStatus.FAILED, 100)


def test_way_that_is_not_in_the_list_is_not_tried() -> None:
    after = refused(policy=with_ways("balance"), others=[a_payment(9)])
    assert (len(after.legs), after.reversed_credits) == (1, 100)


@pytest.mark.parametrize(
    ("ways", "code"),
    [(("payments",), NO_WAY_LEFT), (("payments", "manual"), PAY_MANUALLY), (("manual",), PAY_MANUALLY)],
)
def test_list_without_the_balance_ends_with_a_person(ways: tuple[str, ...], code: str) -> None:
    policy = with_ways(*ways)
    stuck = refused(policy=policy)
    assert (stuck.status, stuck.reversed_credits) == (RefundStatus.NEEDS_ATTENTION, 0)
    assert stuck.legs[0].attention_code == code
    again = next_step(stuck, LATER + 100, policy, payments=[a_payment(9)])
    assert again.after.legs == stuck.legs
    assert again.calls == ()


def test_person_gives_the_credits_back() -> None:
    policy = with_ways("payments", "manual")
    done = apply_action(
        refused(policy=policy), Action.RESOLVE, LATER + 1, policy, actor="olga", reason="rather so"
    ).after
    ended = next_step(done, LATER + 2, policy).after
    assert (ended.status, ended.reversed_credits) == (RefundStatus.FAILED, 100)


def test_person_pays_manually() -> None:
    policy = with_ways("payments", "manual")
    stuck = refused(policy=policy)
    done = apply_action(stuck, Action.RESOLVE, LATER + 1, policy, actor="olga", reason="bank", reference="T-1").after
    assert (done.status, done.reversed_credits) == (RefundStatus.SUCCEEDED, 0)
    assert done.legs[0].manual_reference == "T-1"


def test_rest_that_a_person_pays_is_a_leg_of_its_own() -> None:
    """Else one manual payment would be counted for the money that another payment takes too."""
    policy = with_ways("payments", "manual")
    small, own = a_payment(9, amount_minor=400, credits=40), a_payment(1)
    stuck = refused(policy=policy, others=[small, own])
    first, second, third = stuck.legs
    assert (second.amount_minor, third.amount_minor) == (400, 600)
    assert (second.credits, third.credits, third.payment_credits) == (40, 60, 60)
    assert (third.processor, third.status, third.attention_code) == ("manual", LegStatus.BLOCKED, PAY_MANUALLY)
    assert first.reversed_credits == 0
    assert stuck.status is RefundStatus.NEEDS_ATTENTION


@pytest.mark.parametrize(
    ("ways", "code"),
    [
        (("payments",), NO_WAY_LEFT),
        (("payments", "manual"), PAY_MANUALLY),
        (("payments", "manual", "balance"), PAY_MANUALLY),
    ],
)
def test_rest_without_room_for_its_own_leg_keeps_the_money_together(ways: tuple[str, ...], code: str) -> None:
    """Others took some of the payment. Else the person's payment would be counted for all of the leg."""
    taken = a_payment(1).after_refunds_elsewhere(None, 500)
    stuck = refused(policy=with_ways(*ways), others=[a_payment(9, amount_minor=400, credits=40), taken])
    (leg,) = stuck.legs
    assert (leg.attention_code, leg.amount_minor, stuck.status) == (code, 1_000, RefundStatus.NEEDS_ATTENTION)


def test_balance_takes_a_rest_that_has_no_room() -> None:
    taken = a_payment(1).after_refunds_elsewhere(None, 500)
    after = refused(policy=POLICY, others=[a_payment(9, amount_minor=400, credits=40), taken])
    assert [(leg.amount_minor, leg.reversed_credits) for leg in after.legs] == [(1_000, 60), (400, 0)]


def test_request_narrows_the_ways() -> None:
    after = refused(policy=POLICY, others=[a_payment(9)], destinations="balance")
    assert (len(after.legs), after.reversed_credits) == (1, 100)
    stuck = refused(policy=POLICY, destinations="payments")
    assert stuck.legs[0].attention_code == NO_WAY_LEFT


def test_request_allows_no_way_that_the_policy_lacks() -> None:
    stuck = refused(policy=with_ways("payments"), destinations="balance,payments")
    assert stuck.legs[0].attention_code == NO_WAY_LEFT
    assert stuck.reversed_credits == 0


@pytest.mark.parametrize("destinations", ["manual", "payout", "manual,payout"])
def test_request_that_leaves_no_way_ends_with_a_person(destinations: str) -> None:
    stuck = refused(policy=POLICY, others=[a_payment(9)], destinations=destinations)
    assert (len(stuck.legs), stuck.legs[0].attention_code, stuck.reversed_credits) == (1, NO_WAY_LEFT, 0)
    assert stuck.status is RefundStatus.NEEDS_ATTENTION


def test_unapproved_refund_gets_only_its_balance() -> None:
    after = refused(policy=with_ways("payments", "manual"), others=[a_payment(9)], unapproved=True)
    assert (len(after.legs), after.reversed_credits) == (1, 100)


def test_leg_that_is_worth_nothing_needs_no_person() -> None:
    """Its few credits are worth less than a minor unit: no payment can take that."""
    nothing = a_leg(2, amount_minor=0, credits=1, payment_credits=1, status=LegStatus.FAILED)
    failed = answer(begun(), REFUSED).after
    after = next_step(replace(failed, legs=(*failed.legs, nothing)), LATER, with_ways("payments")).after
    assert [leg.attention_code for leg in after.legs] == [NO_WAY_LEFT, None]
    assert [leg.reversed_credits for leg in after.legs] == [0, 1]


@pytest.mark.parametrize(("ways", "code"), [(("payments",), NO_WAY_LEFT), (("payments", "manual"), PAY_MANUALLY)])
@pytest.mark.parametrize("others", [[], [a_payment(9, amount_minor=400, credits=40), a_payment(1)]])
def test_money_that_waits_for_a_person_alerts_one(
    ways: tuple[str, ...], code: str, others: list[RefundablePayment]
) -> None:
    decision = next_step(answer(begun(), REFUSED).after, LATER, with_ways(*ways), payments=others)
    told = [event for event in decision.events if event.alarm]
    assert [code in (event.kind, event.reason) for event in told] == [True]
