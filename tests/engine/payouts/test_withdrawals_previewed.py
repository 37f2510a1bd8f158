"""The preview of a refund says what the request then does, for each target, and what a payee gets of a withdrawal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from tests.support.engine_world import POLICY, STRIPE, credit_refund, withdrawal
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.refund import RefundRequest, To
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views.api_objects import customer
from refund_worker.errors import NoRefundablePayment, Refusal
from refund_worker.store.tables import payments

TOO_OLD = "too_old"


@pytest.fixture
def world(migrated_sqlite_url: str) -> Iterator[PayoutWorld]:
    """Return a world whose customer has 300 credits that can be refunded and 1,000 past their refund window.

    The payees "p" and "e" are the customer's, and "e" is paid in another currency. The payee "q" has no customer.
    """
    rules = {"stripe": STRIPE, TOO_OLD: replace(STRIPE, window_seconds=60.0)}
    made = PayoutWorld(migrated_sqlite_url, policy=replace(POLICY, processors=rules))
    made.pay(1, processor=TOO_OLD, amount_minor=1_000, credits=1_000)
    made.pay(2, amount_minor=300, credits=300)
    made.spend("t", 200)
    made.pay(3, amount_minor=200, credits=200)
    made.add_payee("q")
    made.add_payee("e", "EUR")
    for payee_id in ("p", "e"):
        made.change_payee(payee_id, customer_id="c")
    yield made
    made.close()


def asked(world: PayoutWorld, request: RefundRequest) -> dict[str, Any]:
    """Make the request, and return what it did in the words of a preview."""
    before = world.account
    (answer,) = request_refunds(world.context, [request])
    if isinstance(answer, Refusal):
        return {"would_be": answer.code, "legs": []}
    assert isinstance(answer, Accepted)
    refund = world.refund(answer.refund_id)
    return {
        "would_be": "accepted",
        "credits": refund.credits,
        "legs": [(leg.payment_id, leg.processor, leg.amount_minor, leg.credits) for leg in refund.legs],
        "reserved": world.account.held - before.held,
    }


def previewed(world: PayoutWorld, request: RefundRequest) -> dict[str, Any]:
    """Return the same of the preview."""
    shown = preview(world.context, request)
    outcome = shown["would_be"]
    legs = [(leg["payment_id"], leg["processor_account"], leg["amount_minor"], leg["credits"]) for leg in shown["legs"]]
    if outcome != "accepted":
        assert shown["balance_after"] == shown["balance_before"]
        return {"would_be": outcome["code"], "legs": legs}
    before, after = shown["balance_before"], shown["balance_after"]
    assert before is not None
    assert after is not None
    reserved = before - after if request.kind == "withdrawal" else 0
    return {"would_be": outcome, "credits": shown["credits"], "legs": legs, "reserved": reserved}


CASES: dict[str, RefundRequest] = {
    "payout: all": withdrawal(None, payee_id="p"),
    "payout: less than the payments take": withdrawal(100, payee_id="p"),
    "payout: more than the payments take": withdrawal(600, payee_id="p"),
    "payout: more than is payable": withdrawal(1_301, payee_id="p"),
    "payout: unknown payee": withdrawal(100, payee_id="nope"),
    "payout: another's payee": withdrawal(100, payee_id="q"),
    "payout: another currency": withdrawal(600, payee_id="e"),
    "payout: another currency, over payments": withdrawal(100, payee_id="e"),
    "payout: a currency that nothing was paid in": withdrawal(100, payee_id="p", currency="EUR"),
    "payout: unknown customer and payee": withdrawal(100, payee_id="nope", customer_id="nobody"),
    "source: all": withdrawal(None),
    "source: some": withdrawal(100),
    "source: too much": withdrawal(501),
    "source: of a spend": credit_refund(None, transaction_id="t"),
    "source: of no spend": credit_refund(None, transaction_id="none"),
    "balance: of a spend": replace(credit_refund(None, transaction_id="t"), to=To.BALANCE),
    "balance: too much": replace(credit_refund(201, transaction_id="t"), to=To.BALANCE),
}


@pytest.mark.parametrize("case", CASES)
def test_request_does_what_its_preview_says(world: PayoutWorld, case: str) -> None:
    expected = previewed(world, CASES[case])
    assert asked(world, CASES[case]) == expected


@pytest.mark.parametrize("case", CASES)
def test_maximum_of_a_preview_is_accepted_and_no_more(world: PayoutWorld, case: str) -> None:
    most = preview(world.context, CASES[case])["maximum_credits"]
    if most:
        assert preview(world.context, replace(CASES[case], credits=most))["would_be"] == "accepted"
    assert preview(world.context, replace(CASES[case], credits=most + 1))["would_be"] != "accepted"


LIMITED: dict[str, tuple[dict[str, int], int | None, object]] = {
    "all that one payout may pay": ({"maximum_minor": 600}, None, 1_100),
    "exactly the largest payout": ({"maximum_minor": 600}, 1_100, 1_100),
    "one credit above the largest payout": ({"maximum_minor": 600}, 1_101, "above_maximum"),
    "exactly the smallest payout": ({"minimum_minor": 400}, 900, 900),
    "one credit below the smallest payout": ({"minimum_minor": 400}, 899, "below_minimum"),
    "nothing for the payee": ({"minimum_minor": 400}, 500, 500),
    "all, of which no payout can be made": ({"minimum_minor": 801}, None, 500),
    "all, between both limits": ({"minimum_minor": 400, "maximum_minor": 600}, None, 1_100),
}


@pytest.mark.parametrize("case", LIMITED)
def test_limits_on_payouts_count_for_the_payees_part(world: PayoutWorld, case: str) -> None:
    """The payments take 500 credits, worth 1 minor unit each, and the payee up to 800."""
    limits, credits, expected = LIMITED[case]
    policy = replace(world.context.payout_policy, **{name: {"USD": minor} for name, minor in limits.items()})
    world.context = replace(world.context, payout_policy=policy)
    request = withdrawal(credits, payee_id="p")
    shown = previewed(world, request)
    assert shown.get("credits", shown["would_be"]) == expected
    most = preview(world.context, request)["maximum_credits"]
    assert preview(world.context, withdrawal(most, payee_id="p"))["would_be"] == "accepted"
    assert preview(world.context, withdrawal(most + 1, payee_id="p"))["would_be"] != "accepted"
    assert asked(world, request) == shown


def test_payee_gets_what_the_payments_cannot_take_back(world: PayoutWorld) -> None:
    shown = preview(world.context, withdrawal(None, payee_id="p"))
    legs = [(leg["payment_id"], leg["processor"], leg["amount_minor"]) for leg in shown["legs"]]
    assert legs == [("pay3", "stripe", 200), ("pay2", "stripe", 300), ("pay1", PAYOUT, 800)]
    assert (shown["credits"], shown["maximum_credits"]) == (1_300, 1_300)
    assert (shown["balance_before"], shown["balance_after"]) == (1_300, 0)
    assert shown["amounts"] == [{"currency": "USD", "requested_minor": 1_300, "succeeded_minor": 0}]


def test_batch_pays_the_payee_no_payment_twice(world: PayoutWorld) -> None:
    """Credits are payable for which no payment has room: money went back for what was spent."""
    world.database.run(
        lambda c: c.execute(update(payments).where(payments.c.payment_id == "pay2").values(closed_at=world.now))
    )
    first, second = withdrawal(1_100, "k1", payee_id="p"), withdrawal(200, "k2", payee_id="p")
    answers = request_refunds(world.context, [first, second])
    assert [type(answer) for answer in answers] == [Accepted, NoRefundablePayment]


def test_money_that_went_back_for_spent_credits_is_not_paid_again(world: PayoutWorld) -> None:
    """A shortfall that was written off changes no payable credits; the payments say how much money there is."""
    world.context = replace(world.context, policy=replace(world.context.policy, outside_since=0.0))
    world.pay(9, customer_id="w", amount_minor=1_000, credits=1_000)
    world.spend("w", 900, customer_id="w")
    assert record_outside_refunds(world.context, "stripe", [world.refund_in_the_dashboard(700, 9)]) == 1
    world.request(credit_refund(800, "back", transaction_id="w", customer_id="w"))
    world.work()
    world.change_payee("q", customer_id="w")
    everything = withdrawal(None, "all", customer_id="w", payee_id="q")
    assert payable_of(world, "w") == (800, [300])
    shown = preview(world.context, everything)
    assert (shown["credits"], shown["maximum_credits"]) == (300, 300)
    refund = world.refund(world.request(everything).refund_id)
    assert [(leg.processor, leg.amount_minor) for leg in refund.legs] == [("stripe", 300)]
    assert payable_of(world, "w") == (500, [])
    with pytest.raises(NoRefundablePayment, match=r"of 500 credits they can take 0\. Money that went back already"):
        world.request(replace(everything, idempotency_key="again"))


def payable_of(world: PayoutWorld, customer_id: str) -> tuple[int, list[int]]:
    with world.database.read() as connection:
        shown = customer(connection, customer_id, world.context.policy)
    return shown["payable"], [part["credits"] for part in shown["payable_by_currency"]]
