"""Currencies whose amounts Stripe accepts only in steps: every leg keeps the step, and a violation is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.domain.test_allocation import a_payment
from tests.support.engine_world import World, withdrawal

from refund_worker.domain.allocation import allocate, replace_share
from refund_worker.domain.money import smallest_step
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.iso_codes import CURRENCIES
from refund_worker.processors.stripe.adapter import StripeProcessor

REFUSED = Refused("expired_or_canceled_card", "no")
ISK: dict[str, Any] = {"currency": "ISK", "amount_minor": 4_010, "credits": 401}
KWD: dict[str, Any] = {"currency": "KWD", "amount_minor": 5_124, "credits": 5_124}


def sent_amounts(world: World) -> list[int]:
    """Return the amounts of all sends in minor units, in order."""
    return [json.loads(body)["amount_minor"] for _, body in world.processor.sends]


@pytest.mark.parametrize(("payment", "returned", "rest"), [(ISK, 4_000, 10), (KWD, 5_120, 4)], ids=["ISK", "KWD"])
def test_full_refund_of_off_step_charge_shows_unreturnable_rest(
    world: World, payment: dict[str, Any], returned: int, rest: int
) -> None:
    world.pay(**payment)
    told = preview(world.context, withdrawal(payment["credits"], "look"))
    assert [(leg["amount_minor"], leg["unreturnable_minor"]) for leg in told["legs"]] == [(returned, rest)]
    refund_id = world.withdraw(payment["credits"])
    world.work()
    assert sent_amounts(world) == [returned]
    refund = world.refund(refund_id)
    assert refund.status is RefundStatus.SUCCEEDED
    view = refund_view(refund)
    assert [(leg["amount_minor"], leg["unreturnable_minor"]) for leg in view["legs"]] == [(returned, rest)]
    assert [line["requested_minor"] for line in view["amounts"]] == [returned]
    assert world.account.balance == 0


@pytest.mark.parametrize(("payment", "returned", "rest"), [(ISK, 4_000, 10), (KWD, 5_120, 4)], ids=["ISK", "KWD"])
def test_only_the_last_partial_refund_shows_unreturnable_rest(
    world: World, payment: dict[str, Any], returned: int, rest: int
) -> None:
    world.pay(**payment)
    part = payment["credits"] // 3
    refunds = [world.withdraw(part, "a"), world.withdraw(part, "b"), world.withdraw(None, "c")]
    world.work()
    step = smallest_step(payment["currency"])
    assert [amount % step for amount in sent_amounts(world)] == [0, 0, 0]
    assert sum(sent_amounts(world)) == returned
    assert [world.refund(each).legs[0].unreturnable_minor for each in refunds] == [0, 0, rest]


@pytest.mark.parametrize(
    ("paid", "before", "returned", "rest"),
    [(4_010, 1_010, 3_000, 0), (5_000, 1_050, 3_900, 50), (5_000, 1_000, 4_000, 0), (4_010, 1_000, 3_000, 10)],
)
def test_unreturnable_rest_accounts_for_earlier_refunds(
    world: World, paid: int, before: int, returned: int, rest: int
) -> None:
    world.pay(currency="ISK", amount_minor=paid, credits=paid // 10, refunded_minor=before)
    refund_id = world.withdraw(None)
    world.work()
    assert sent_amounts(world) == [returned]
    assert world.refund(refund_id).legs[0].unreturnable_minor == rest


def test_replacement_leg_keeps_the_currency_step_and_pays(world: World) -> None:
    """faults 10: 4010 moved to a good payment of 1,000.00 ISK, and Stripe refused that amount too."""
    world.pay(1, currency="ISK", amount_minor=100_000, credits=10_000, captured_at=1.0)
    world.pay(2, **ISK, captured_at=2.0)
    world.processor.script("ch_2", REFUSED)
    refund_id = world.withdraw(401)
    world.work()
    assert sent_amounts(world) == [4_000, 4_000]
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 4_000


def test_replacement_leg_that_takes_the_last_credits_shows_the_rest(world: World) -> None:
    world.pay(1, currency="ISK", amount_minor=4_010, credits=10, captured_at=1.0)
    world.pay(2, **ISK, captured_at=2.0)
    world.processor.script("ch_2", REFUSED)
    refund_id = world.withdraw(401)
    world.work()
    _, other = world.refund(refund_id).legs
    assert (other.amount_minor, other.unreturnable_minor) == (4_000, 10)


def test_less_than_a_step_is_too_small_to_ask_for(world: World) -> None:
    world.pay(currency="ISK", amount_minor=40, credits=40)
    assert world.request_or_code(40, "k") == "amount_too_small"


# Source: docs.stripe.com/currencies, "special cases".
STEPS = {"ISK": 100, "UGX": 100, **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)}


@pytest.mark.parametrize("allocation", ["newest_first", "oldest_first", "pro_rata"])
def test_amounts_frozen_for_stripe_keep_every_currencys_step(allocation: str) -> None:
    """No other check of the amount follows before the send: Stripe would refuse it."""
    adapter = StripeProcessor("sk_test_steps")
    for currency in sorted(CURRENCIES):
        payments = [a_payment(1, 98_765, 777, currency=currency), a_payment(2, 54_321, 333, currency=currency)]
        for credits in (1, 100, 333, 776, 777, 1_110):
            shares = allocate(credits, payments, allocation)
            others = [a_payment(3, 44_444, 500, currency=currency)]
            instead, _ = replace_share(shares[0].amount_minor, shares[0].credits, others, allocation)
            for share in (*shares, *instead):
                if share.amount_minor:
                    order = RefundInstruction("rf_1", "rf_1-1", 1, "ch_1", share.amount_minor, currency, "asked")
                    assert json.loads(adapter.freeze(order))["amount"] % STEPS.get(currency, 1) == 0, currency
