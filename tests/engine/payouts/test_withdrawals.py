"""Withdrawals that no payment takes back: paid to the customer's payee, after the customer's own payments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import withdrawal
from tests.support.payees import CONNECTED, a_payee
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.payouts.payee import BalanceDelta
from refund_worker.domain.processor_replies import Refused, Unanswered
from refund_worker.domain.refund import ObjectState, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.payouts.as_processor import PayoutsAsProcessor
from refund_worker.engine.payouts.destination_changes import change_payee
from refund_worker.engine.processor_sync.refund_waits import wait_view, waits_of
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import InvalidRequest, Refusal, UnknownPayee
from refund_worker.setting_values import check_client_names
from refund_worker.store.payouts import payees

Make = Callable[..., PayoutWorld]


def world_of_customer(make_world: Make, *fallback: str, refusing: bool = True) -> PayoutWorld:
    """Return a world whose customer "c" has a payment of 1,000 and is the payee "p"; the payment refuses refunds."""
    world = make_world()
    context = world.context
    world.context = replace(
        context,
        policy=replace(context.policy, fallback=fallback or ("payments", "balance")),
        processors={**context.processors, PAYOUT: PayoutsAsProcessor(lambda: world.context)},
    )
    world.pay()
    world.change_payee(customer_id="c")
    if refusing:
        world.processor.script("ch_1", *[Refused("expired_or_canceled_card", "the card is gone")] * 9)
    return world


def run(world: PayoutWorld, seconds: float = 0.0) -> None:
    """Process refunds, payouts and events until nothing is due, while the clock runs."""
    end = world.now + seconds
    while True:
        for _ in range(20):
            worked = process_due(world.context)
            world.settle()
            if not worked + process_inbox(world.context):
                break
        if world.now >= end:
            return
        world.now = min(end, world.now + 600)


def ask(world: PayoutWorld, **values: Any) -> str:
    return world.request(withdrawal(**values)).refund_id


def behind_a_payout_of_earnings(world: PayoutWorld) -> tuple[str, str, str]:
    """Return the payee's payout of earnings that is on its way, a refund, and the refund's payout that waits for it."""
    world.earn("e1", 700)
    first = world.ask(300)
    world.settle()
    refund_id = ask(world, credits=100)
    run(world)
    return first, refund_id, world.refund(refund_id).legs[1].processor_refund_id or ""


def test_refused_money_goes_to_the_customers_payee(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    refund_id = ask(world, credits=100)
    run(world, DAY)
    refund = world.refund(refund_id)
    first, second = refund.legs
    assert (first.status, second.processor, second.processor_payment_id) == ("failed", PAYOUT, "p")
    assert (refund.status, second.status) == ("pending", "pending")
    payout_id = second.processor_refund_id or ""
    payout = world.payout(payout_id)
    assert (payout.source, payout.amount_minor, payout.refund_id) == ("withdrawal", second.amount_minor, refund_id)
    assert world.balance().in_flight_minor == 0
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    run(world, 2 * DAY)
    assert world.refund(refund_id).status == "succeeded"
    accounts = world.accounts()
    assert accounts["house:refunds"] == second.amount_minor
    assert "processor:payout" not in accounts
    assert "house:payout_clearing" not in accounts


def test_debt_of_earnings_takes_nothing_from_a_withdrawal(make_world: Make) -> None:
    """The credits are the customer's own. The payee owes for another reason."""
    world = world_of_customer(make_world, "payments", "payout", "balance")
    debt = {("p", "USD"): BalanceDelta(earned_minor=300, clawed_back_minor=300, paid_minor=300)}
    world.database.run(lambda c: payees.change_balances(c, debt))
    refund_id = ask(world, credits=100)
    run(world, DAY)
    leg = world.refund(refund_id).legs[1]
    payout = world.payout(leg.processor_refund_id or "")
    assert (payout.status, payout.amount_minor) == ("pending", leg.amount_minor)


def test_returned_payout_gives_the_credits_back_once(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    before = world.account.balance
    refund_id = ask(world, credits=100)
    run(world, DAY)
    payout_id = world.refund(refund_id).legs[1].processor_refund_id or ""
    key = f"{payout_id}-1:1"
    world.route.set(key, ObjectState.SUCCEEDED)
    run(world, 2 * DAY)
    assert world.refund(refund_id).status == "succeeded"
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, failure_code="account_closed"))
    run(world, DAY)
    assert world.payout(payout_id).status == "returned"
    assert world.refund(refund_id).status == "failed"
    assert world.account.balance == before
    assert {name for name in world.accounts() if name.startswith(("house:payout", "processor:payout"))} == set()


def test_no_caller_can_take_a_withdrawals_key(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    refund_id = ask(world, credits=100)
    run(world, DAY)
    payout = world.payout(world.refund(refund_id).legs[1].processor_refund_id or "")
    with pytest.raises(ValueError, match="client names"):
        check_client_names(payout.client)


def test_payout_that_lands_late_takes_the_credits_again(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    before = world.account.balance
    refund_id = ask(world, credits=100)
    run(world, DAY)
    payout_id = world.refund(refund_id).legs[1].processor_refund_id or ""
    key = f"{payout_id}-1:1"
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, failure_code="account_closed"))
    run(world, DAY)
    assert world.refund(refund_id).status == "failed"
    assert world.account.balance == before
    item = replace(world.route.book[key], object_id="po_at_processor_2", state=ObjectState.SUCCEEDED, status="paid")
    world.report(payout_id, item)
    run(world, DAY)
    assert world.payout(payout_id).status == "paid"
    assert world.account.balance == before - 100
    assert world.refund(refund_id).status == "succeeded"
    world.report(payout_id, replace(item, state=ObjectState.FAILED, status="failed"))
    run(world, DAY)
    assert (world.payout(payout_id).status, world.refund(refund_id).status) == ("returned", "failed")
    assert world.account.balance == before
    assert {name for name in world.accounts() if name.startswith(("house:payout", "processor:payout"))} == set()


def test_payout_whose_answer_was_lost_is_found(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    whole = world.context.processors[PAYOUT]

    class Deaf(PayoutsAsProcessor):
        async def send(self, key: str, body: str) -> Any:
            await super().send(key, body)
            return Unanswered("the worker died", server_error=True)

    world.context = replace(world.context, processors={**world.context.processors, PAYOUT: Deaf(lambda: world.context)})
    refund_id = ask(world, credits=100)
    run(world, 600)
    world.context = replace(world.context, processors={**world.context.processors, PAYOUT: whole})
    run(world, DAY)
    leg = world.refund(refund_id).legs[1]
    assert (leg.status, leg.attempt, leg.attention_code) == ("pending", 1, None)
    assert sum(world.route.paid_minor().values()) == leg.amount_minor


def test_without_a_payee_the_credits_go_back(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    world.change_payee(customer_id=None)
    refund_id = ask(world, credits=100)
    run(world, DAY)
    assert world.refund(refund_id).status == "failed"
    assert world.route.book == {}


def test_fallback_without_payout_pays_no_payee(make_world: Make) -> None:
    world = world_of_customer(make_world)
    refund_id = ask(world, credits=100)
    run(world, DAY)
    assert world.refund(refund_id).status == "failed"
    assert world.route.book == {}


def test_withdrawal_to_a_payee_uses_the_payments_first(make_world: Make) -> None:
    world = world_of_customer(make_world, refusing=False)
    refund_id = ask(world, credits=100, payee_id="p")
    run(world, DAY)
    assert [leg.processor for leg in world.refund(refund_id).legs] == ["stripe"]
    assert world.route.book == {}


def test_withdrawal_to_a_payee_pays_what_payments_refuse(make_world: Make) -> None:
    world = world_of_customer(make_world)
    refund_id = ask(world, credits=100, payee_id="p")
    run(world, DAY)
    assert [leg.processor for leg in world.refund(refund_id).legs] == ["stripe", PAYOUT]
    assert len(world.route.book) == 1


def closed_payments(world: PayoutWorld) -> PayoutWorld:
    """Return the world after its account takes no refunds any more."""
    policy = world.context.policy
    closed = {**policy.processors, "stripe": replace(policy.rules_of("stripe"), refunds_on=False)}
    world.context = replace(world.context, policy=replace(policy, processors=closed))
    return world


def test_closed_payments_are_paid_to_the_payee(make_world: Make) -> None:
    world = closed_payments(world_of_customer(make_world, refusing=False))
    refund_id = ask(world, credits=100, payee_id="p")
    run(world, DAY)
    assert [leg.processor for leg in world.refund(refund_id).legs] == [PAYOUT]
    assert len(world.route.book) == 1


@pytest.mark.parametrize(
    ("payee_id", "closed", "expected"),
    [
        ("p", False, ("accepted", ["stripe"])),
        ("p", True, ("accepted", [PAYOUT])),
        (None, True, ("no_refundable_payment", [])),
        ("nobody", False, ("unknown_payee", [])),
        ("q", True, ("unknown_payee", [])),
    ],
)
def test_preview_to_a_payee_is_as_the_acceptance(
    make_world: Make, payee_id: str | None, closed: bool, expected: tuple[str, list[str]]
) -> None:
    world = world_of_customer(make_world, refusing=False)
    world.add_payee("q")
    world = closed_payments(world) if closed else world
    request = withdrawal(credits=100, payee_id=payee_id)
    shown = preview(world.context, request)
    would_be = shown["would_be"] if isinstance(shown["would_be"], str) else shown["would_be"]["code"]
    assert (would_be, [leg["processor"] for leg in shown["legs"]]) == expected
    assert bool(shown["maximum_credits"]) == (would_be == "accepted")
    try:
        answer = "accepted" if world.request(request) else ""
    except Refusal as refusal:
        answer = refusal.code
    assert answer == would_be


def test_request_to_payout_needs_its_schema(make_world: Make) -> None:
    """The engine knows `source` with a payee only. Otherwise nothing would be paid, and the credits would be gone."""
    world = world_of_customer(make_world)
    with pytest.raises(InvalidRequest, match="schema"):
        ask(world, credits=100, payee_id="p", to=To.PAYOUT)


@pytest.mark.parametrize("payee_id", ["nobody", "q"])
def test_payee_of_another_customer_is_refused(make_world: Make, payee_id: str) -> None:
    world = world_of_customer(make_world)
    world.add_payee("q")
    with pytest.raises(UnknownPayee):
        ask(world, credits=100, payee_id=payee_id)


def give_payee_to(world: PayoutWorld, customer_id: str | None) -> None:
    """Record the payee with this customer, or without one, and the same destination, as the admin backend does."""
    change_payee(world.context, a_payee("p", destination=CONNECTED, customer_id=customer_id), actor="shop")


def world_of_two_customers(make_world: Make) -> PayoutWorld:
    """Return a world in which the payee "p" of the customer "c" can be given to the customer "d"."""
    world = world_of_customer(make_world, "payments", "payout", "balance")
    world.pay(2, customer_id="d", processor_payment_id="ch_d")
    give_payee_to(world, "c")
    return world


def before_the_send(world: PayoutWorld, act: Callable[[], object]) -> None:
    """Let `act` happen once, just before the leg over the payee is sent for the first time."""
    acts = [act]

    class Late(PayoutsAsProcessor):
        async def send(self, key: str, body: str) -> Any:
            while acts:
                acts.pop()()
            return await super().send(key, body)

    late = Late(lambda: world.context)
    world.context = replace(world.context, processors={**world.context.processors, PAYOUT: late})


@pytest.mark.parametrize("payee_id", ["p", None])
@pytest.mark.parametrize("owner", ["d", None])
def test_payee_of_another_customer_by_now_is_not_paid(
    make_world: Make, payee_id: str | None, owner: str | None
) -> None:
    world = world_of_two_customers(make_world)
    before = world.account.balance
    before_the_send(world, lambda: give_payee_to(world, owner))
    refund_id = ask(world, credits=100, payee_id=payee_id)
    run(world, DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == ("needs_attention", "payee_of_another_customer")
    assert world.route.book == {}
    assert (world.account.balance, world.account.held) == (before - 100, 0)
    give_payee_to(world, "c")
    world.command(refund_id, Action.RETRY)
    run(world, DAY)
    assert len(world.route.book) == 1
    assert world.refund(refund_id).status == "pending"


def test_unsent_credits_are_not_paid_to_another_customer(make_world: Make) -> None:
    """The payout is made, and waits behind another one, when its payee is given to another customer."""
    world = world_of_two_customers(make_world)
    before = world.account.balance
    first, refund_id, payout_id = behind_a_payout_of_earnings(world)
    assert world.payout(payout_id).status == "held"
    earned = world.ask(200, key="k2")
    run(world)
    give_payee_to(world, "d")
    run(world, DAY)
    assert [world.payout(each).status for each in (first, payout_id, earned)] == ["pending", "canceled", "held"]
    assert world.refund(refund_id).status == "failed"
    assert world.account.balance == before


def test_refund_says_which_payout_is_held_and_why(make_world: Make) -> None:
    world = world_of_customer(make_world, "payments", "payout", "balance")
    first, refund_id, payout_id = behind_a_payout_of_earnings(world)
    (wait,) = waits_for(world, refund_id)
    assert (wait["cause"], wait["code"]) == ("payout_held", "another_payout")
    assert wait["text"] == f"The payout {payout_id} is held: nothing is sent to the payee yet."
    replaced, leg = refund_view(world.refund(refund_id))["legs"]
    assert "over another payment" not in replaced["customer_text"]
    assert f"the payout {payout_id} is not final" in leg["staff_text"]
    world.route.set(f"{first}-1:1", ObjectState.SUCCEEDED)
    run(world, DAY)
    (wait,) = waits_for(world, refund_id)
    assert (wait["cause"], wait["code"]) == ("payout", None)
    assert f"The payout {payout_id} has the status pending" in wait["text"]


def waits_for(world: PayoutWorld, refund_id: str) -> list[Any]:
    with world.database.read() as connection:
        return [wait_view(wait) for wait in waits_of(connection, world.context, world.refund(refund_id))]


def test_payee_of_a_merged_customer_is_paid(make_world: Make) -> None:
    world = world_of_two_customers(make_world)

    def merge() -> None:
        merge_customers(world.context, "c", into="d", actor="op", reason="one person")
        world.change_payee(customer_id="c")  # as if it were written under the id before the merge

    before_the_send(world, merge)
    refund_id = ask(world, credits=100)
    run(world, DAY)
    assert world.refund(refund_id).status == "pending"
    assert len(world.route.book) == 1
