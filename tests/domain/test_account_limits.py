"""An account forbids some refunds before anything is sent: windows, whole payments, steps, refunds off."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import POLICY, START, a_refund
from tests.domain.test_allocation import a_payment

from refund_worker.domain.acceptance import CustomerAccount, accept, maximum_credits
from refund_worker.domain.account_limits import REFUNDS_OFF, WINDOW_CLOSED, usable_payments, why_not_over
from refund_worker.domain.allocation import allocate, payable_by_currency, replace_share, split_by_currency
from refund_worker.domain.decision import Policy, ProcessorRules
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import Action, apply_action
from refund_worker.domain.payment_check import PaymentFacts
from refund_worker.domain.processor_calls import Send
from refund_worker.domain.refund import Kind, LegStatus, RefundRequest, RefundStatus, To
from refund_worker.errors import NoRefundablePayment

DAY = 86_400.0


def with_rules(**rules: object) -> Policy:
    return replace(POLICY, processors={"stripe": ProcessorRules(**rules)})  # type: ignore[arg-type]


def facts(captured_at: float) -> dict[str, PaymentFacts]:
    """Return what is known of the leg's payment, which was captured then."""
    return {
        "pay1": PaymentFacts(
            payment_id="pay1", amount_minor=1_000, currency="USD", captured_at=captured_at, is_read=True
        )
    }


@pytest.mark.parametrize(
    ("rules", "age", "why"),
    [
        ({}, 10_000 * DAY, None),
        ({"window_seconds": 180 * DAY}, 180 * DAY, None),
        ({"window_seconds": 180 * DAY}, 180 * DAY + 1, WINDOW_CLOSED),
        ({"refunds_on": False}, 0.0, REFUNDS_OFF),
        ({"refunds_on": False, "window_seconds": 1.0}, 10.0, REFUNDS_OFF),
    ],
)
def test_old_payment_or_closed_account_takes_nothing_back(
    rules: dict[str, object], age: float, why: str | None
) -> None:
    assert why_not_over(ProcessorRules(**rules), START - age, START) == why  # type: ignore[arg-type]


def test_whole_amount_that_is_not_in_steps_takes_nothing_back() -> None:
    """99 fils could only be refunded as 90, which is not the whole."""
    policy = with_rules(partial_refunds=False)
    odd, even = a_payment(1, currency="KWD", amount_minor=99), a_payment(2, currency="KWD", amount_minor=90)
    usable = usable_payments([odd, even], policy, START)
    assert [payment.credits_left for payment in usable] == [0, 100]


def test_payment_that_takes_nothing_back_has_no_room() -> None:
    policy = with_rules(window_seconds=180 * DAY)
    old, new = a_payment(1, captured_at=START - 200 * DAY), a_payment(2, captured_at=START - DAY)
    usable = usable_payments([old, new], policy, START)
    assert [payment.credits_left for payment in usable] == [0, 100]
    assert [share.payment.payment_id for share in allocate(100, usable, "oldest_first")] == ["pay2"]


def test_connected_account_has_the_limits_of_its_platform() -> None:
    connected = replace(a_payment(1), processor="stripe/acct_1")
    (usable,) = usable_payments([connected], with_rules(refunds_on=False), START)
    assert usable.credits_left == 0


def test_accounts_without_limits_change_nothing() -> None:
    payments = [a_payment(1)]
    assert usable_payments(payments, POLICY, START) == payments


def test_whole_payments_are_taken_whole_or_not_at_all() -> None:
    policy = with_rules(partial_refunds=False)
    other = replace(a_payment(2), processor="other")
    usable = usable_payments([a_payment(1), other], policy, START)
    assert [(s.payment.payment_id, s.amount_minor) for s in allocate(130, usable, "newest_first")] == [
        ("pay2", 300),
        ("pay1", 1_000),
    ]
    assert [s.payment.payment_id for s in allocate(60, usable, "newest_first")] == ["pay2"]
    with pytest.raises(ValueError, match="only as a whole"):
        allocate(60, usable_payments([a_payment(1)], policy, START), "newest_first")


def test_request_that_whole_payments_cannot_take_is_refused() -> None:
    usable = usable_payments([a_payment(1)], with_rules(partial_refunds=False), START)
    account = CustomerAccount(customer_id="c1", balance=100, bought=100)
    asked = RefundRequest(
        idempotency_key="k", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c1", reason="asked", credits=60
    )

    def taken(request: RefundRequest) -> int:
        refund = accept(
            request,
            refund_id="r",
            customer=account,
            transaction=None,
            payments=usable,
            now=START,
            allocation="newest_first",
        )
        return refund.credits

    with pytest.raises(NoRefundablePayment, match="only as a whole"):
        taken(asked)
    assert taken(replace(asked, credits=None)) == 100
    assert maximum_credits(asked, account, None, usable) == 100
    assert maximum_credits(asked, replace(account, held=40), None, usable) == 0


def test_whole_payment_is_payable_only_if_all_of_it_is_asked_for() -> None:
    usable = usable_payments([a_payment(1)], with_rules(partial_refunds=False), START)
    (payable,) = payable_by_currency(130, usable, "newest_first")
    assert (payable.credits, payable.amount_minor) == (100, 1_000)
    assert (payable.money_for(60), payable.credits_for(60), payable.money_for(100)) == (0, 0, 1_000)
    assert payable_by_currency(60, usable, "newest_first") == ()
    assert split_by_currency(60, [payable], "USD") == ()


def test_payment_of_which_something_is_gone_cannot_be_taken_whole() -> None:
    policy = with_rules(partial_refunds=False)
    (usable,) = usable_payments([replace(a_payment(1), credits_taken=10, money_taken=100)], policy, START)
    assert usable.credits_left == 0


def test_whole_payment_replaces_a_failed_leg_only_if_all_of_it_fits() -> None:
    policy = with_rules(partial_refunds=False)
    usable = usable_payments([a_payment(1)], policy, START)
    shares, unplaced = replace_share(999, 99, usable, "newest_first")
    assert (shares, unplaced) == ((), 99)
    shares, unplaced = replace_share(1_000, 100, usable, "newest_first")
    assert ([share.amount_minor for share in shares], unplaced) == ([1_000], 0)


def test_amounts_keep_the_step_of_the_account() -> None:
    policy = with_rules(steps={"USD": 100})
    (usable,) = usable_payments([replace(a_payment(1), amount_minor=1_050)], policy, START)
    assert (usable.step, usable.money_left) == (100, 1_000)
    assert usable.money_for(33) % 100 == 0
    shares, _ = replace_share(250, 25, [usable], "newest_first")
    assert [share.amount_minor for share in shares] == [200]


def test_leg_whose_window_has_closed_goes_over_another_payment() -> None:
    policy = with_rules(window_seconds=180 * DAY)
    decision = next_step(a_refund(), START, policy, facts=facts(START - 200 * DAY))
    assert decision.calls == ()
    (leg,) = decision.after.legs
    assert (leg.status, leg.failure_code, leg.attention_code) == (LegStatus.CANCELED, WINDOW_CLOSED, None)
    other = a_payment(9, captured_at=START)
    placed = next_step(decision.after, START + 1, policy, payments=[other], facts=facts(START - 200 * DAY))
    assert [call.leg_id for call in placed.calls if isinstance(call, Send)] == ["r-2"]


def test_leg_whose_window_has_closed_goes_to_the_balance() -> None:
    policy = with_rules(window_seconds=180 * DAY)
    refund = next_step(a_refund(), START, policy, facts=facts(START - 200 * DAY)).after
    for at in (START + 1, START + 2):
        refund = next_step(refund, at, policy).after
    assert (refund.status, refund.reversed_credits) == (RefundStatus.FAILED, 100)


def test_refunds_that_are_off_hold_the_leg_for_a_person() -> None:
    off = with_rules(refunds_on=False)
    decision = next_step(a_refund(), START, off, facts=facts(START))
    assert decision.calls == ()
    assert (decision.after.status, decision.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, REFUNDS_OFF)
    assert [event.alarm for event in decision.events if event.leg_id].count(True) == 1
    retried = apply_action(decision.after, Action.RETRY, START + 1, off, actor="olga", reason="again").after
    again = next_step(retried, START + 2, with_rules(refunds_on=True), facts=facts(START))
    assert len(again.calls) == 1


def test_refunds_switched_off_later_do_not_forget_what_was_sent() -> None:
    """An unknown outcome is asked for under its own key, as before: the money may be on its way."""
    sent = next_step(a_refund(), START, POLICY).after
    assert sent.legs[0].status is LegStatus.SENDING
    off = with_rules(refunds_on=False)
    later = next_step(sent, START + 100, off, facts=facts(START))
    assert later.after.legs[0].failure_code is None
    assert len(later.calls) == 1
