"""The processor's record of a payment is read once, before money first moves over it, and must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import WORD, World, assert_books_balance, withdrawal

from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.processor_replies import (
    Answered,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    PaymentUnreadable,
    Refused,
    Unanswered,
)
from refund_worker.domain.refund import Leg, LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.views import payment_objects

TO_BE_DECIDED = (Action.RETRY, Action.RESOLVE)
HOUR = 3_600.0


def says(world: World, number: int = 1, **changes: Any) -> None:
    """Set the processor's record of the payment to `WORD` with `changes`."""
    world.processor.payments[f"ch_{number}"] = replace(WORD, **changes)


def paid_in(world: World, number: int = 1, **changes: Any) -> None:
    """Record a payment here, with the same amount and currency at the processor."""
    record = world.pay(number, **changes)
    says(world, number, captured_minor=record.amount_minor, currency=record.currency)


def shown(world: World, payment_id: str = "pay1") -> Any:
    """Return the payment as the API shows it."""
    with world.database.read() as connection:
        return payment_objects.payment(connection, world.context, payment_id)


def the_leg(world: World, refund_id: str) -> Leg:
    """Return the first leg of the refund."""
    return world.refund(refund_id).legs[0]


def stopped(world: World, refund_id: str, code: str) -> str:
    """Check that the refund waits for a person because of its payment, and return its failure message.

    There must be one alarm with `code`, and no send.
    """
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, code)
    assert available_actions(refund) == TO_BE_DECIDED
    assert world.events(refund_id).count(code) == 1
    assert world.processor.sends == []
    assert refund.failure_message is not None
    return refund.failure_message


def test_a_payment_is_read_once_and_before_the_first_send_over_it(asked: World) -> None:
    paid_in(asked)
    asked.processor.while_sending = lambda: seen.append(list(asked.processor.read))
    seen: list[list[str]] = []
    first = asked.withdraw(30, "a")
    asked.work()
    second = asked.withdraw(30, "b")
    asked.work()
    assert asked.processor.read == ["ch_1"]
    assert seen == [["ch_1"], ["ch_1"]]
    assert {asked.refund(each).status for each in (first, second)} == {RefundStatus.SUCCEEDED}
    assert shown(asked)["verified"] is True
    assert shown(asked)["processor_says"]["captured_minor"] == 1_000


def test_many_refunds_over_one_payment_read_it_once_and_those_over_others_side_by_side(asked: World) -> None:
    paid_in(asked, 1)
    paid_in(asked, 2)
    for number in range(20):
        asked.withdraw(10, f"k{number}")
    assert process_due(asked.context) == 20
    assert sorted(asked.processor.read) == ["ch_1", "ch_2"]
    assert asked.processor.sends == []
    asked.work()
    assert len(asked.processor.sends) == 20
    assert sorted(asked.processor.read) == ["ch_1", "ch_2"]


@pytest.mark.parametrize(
    ("recorded", "said", "words"),
    [
        # faults 6: a backend used the wrong exponent, in both directions
        (
            {"amount_minor": 5_000_000, "currency": "JPY", "credits": 5_000},
            {"captured_minor": 50_000, "currency": "JPY"},
            ("5,000,000 JPY", "50,000 JPY"),
        ),
        (
            {"amount_minor": 5_000, "currency": "UGX", "credits": 5_000},
            {"captured_minor": 500_000, "currency": "UGX"},
            ("50.00 UGX", "5,000.00 UGX"),
        ),
        # faults 7: recorded in EUR, while the charge is in HUF
        (
            {"amount_minor": 1_000, "currency": "EUR"},
            {"captured_minor": 1_000, "currency": "HUF"},
            ("10.00 EUR", "10.00 HUF"),
        ),
        ({}, {"captured_minor": 400}, ("10.00 USD", "4.00 USD")),
        ({}, {"captured_minor": 0}, ("10.00 USD", "0.00 USD")),
        ({}, {"live": True}, ("live", "test")),
        ({"captured_minor": 700}, {"captured_minor": 1_000}, ("7.00 USD", "10.00 USD")),
    ],
)
def test_what_does_not_agree_stops_before_any_money_moves_and_tells_both_sides(
    asked: World, recorded: dict[str, Any], said: dict[str, Any], words: tuple[str, str]
) -> None:
    asked.pay(**recorded)
    says(asked, **said)
    refund_id = asked.withdraw(recorded.get("credits", 100) // 2)
    asked.work_for(3 * HOUR)
    message = stopped(asked, refund_id, "payment_mismatch")
    assert [word for word in words if word not in message] == []
    assert shown(asked)["verified"] is False
    assert asked.processor.read == ["ch_1"], "what waits for a person asks nobody"


def test_every_other_refund_over_that_payment_stops_too_and_others_go_on(asked: World) -> None:
    asked.pay(1, captured_at=9.0)
    says(asked, captured_minor=100)
    paid_in(asked, 2)
    first = asked.withdraw(50, "a")
    asked.work()
    second = asked.withdraw(50, "b")
    elsewhere = asked.withdraw(100, "c")
    asked.work()
    for refund_id in (first, second):
        assert asked.refund(refund_id).failure_code == "payment_mismatch"
    assert asked.refund(elsewhere).status is RefundStatus.SUCCEEDED
    assert asked.processor.read == ["ch_1", "ch_2"]


def test_a_retry_reads_again_and_goes_on_where_it_agrees_by_then(asked: World) -> None:
    asked.pay()
    says(asked, captured_minor=100)
    refund_id = asked.withdraw(100)
    asked.work()
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert asked.processor.read == ["ch_1", "ch_1"]
    says(asked)
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.refund(refund_id).failure_code is None
    assert asked.processor.paid_minor() == 1_000


@pytest.mark.parametrize(
    ("reference", "end", "balance"), [(None, RefundStatus.FAILED, 100), ("by bank", RefundStatus.SUCCEEDED, 0)]
)
def test_a_person_can_end_it_in_another_way(
    asked: World, reference: str | None, end: RefundStatus, balance: int
) -> None:
    asked.pay()
    says(asked, currency="HUF")
    refund_id = asked.withdraw(100)
    asked.work()
    asked.command(refund_id, Action.RESOLVE, reference)
    asked.work_for(3 * HOUR)
    assert (asked.refund(refund_id).status, asked.account.balance) == (end, balance)
    assert asked.processor.sends == []


def test_what_was_captured_for_less_agrees_where_it_is_recorded_so_and_no_more_is_returned(asked: World) -> None:
    asked.pay(captured_minor=700)
    says(asked, captured_minor=700)
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 700
    assert (shown(asked)["captured_minor"], shown(asked)["amount_minor"]) == (700, 1_000)


# --- no reading, or none possible -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [Unanswered("timeout"), NotSent("refused"), Busy("rate_limit", 30.0), Unanswered("HTTP 500", server_error=True)],
    ids=str,
)
def test_while_the_reading_is_not_answered_nothing_is_sent_and_it_is_asked_again_later(
    asked: World, answer: Unanswered | NotSent | Busy
) -> None:
    paid_in(asked)
    asked.processor.readings.extend([answer] * 3)
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.processor.read == ["ch_1"]
    assert asked.processor.sends == []
    assert asked.refund(refund_id).status is RefundStatus.SENDING
    asked.work_for(HOUR)
    assert len(asked.processor.read) == 4
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_reading_that_is_never_answered_becomes_a_persons_concern_and_never_a_hot_loop(asked: World) -> None:
    paid_in(asked)
    asked.processor.readings.extend([Unanswered("timeout")] * 200)
    refund_id = asked.withdraw(100)
    asked.work_for(24 * HOUR)
    assert asked.refund(refund_id).failure_code == "processor_unreachable"
    assert len(asked.processor.read) <= 24 * HOUR / asked.context.policy.retry_max_seconds * 1.4 + 12
    assert asked.processor.sends == []
    asked.processor.readings.clear()
    asked.work_for(HOUR)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_refused_credentials_pause_the_processor_as_ever(asked: World) -> None:
    paid_in(asked)
    asked.processor.readings.append(Denied("api_key_expired", "no"))
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.processor.sends == []
    with asked.database.read() as connection:
        from refund_worker.store.processors import paused_processors

        assert "stripe" in paused_processors(connection, asked.now)
    asked.work_for(2 * PAUSE_SECONDS + asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_while_a_processor_is_paused_no_payment_is_read_there(asked: World) -> None:
    paid_in(asked)
    pause_processor(asked.context, "stripe", actor="op", reason="fire")
    refund_id = asked.withdraw(100)
    asked.work_for(HOUR)
    assert asked.processor.read == []
    resume_processor(asked.context, "stripe", actor="op", reason="out")
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_where_payments_can_not_be_read_the_refund_goes_on_and_the_payment_shows_it(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(PaymentUnreadable("HTTP 404"))
    refund_id = asked.withdraw(100)
    assert shown(asked)["verified"] is None
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (shown(asked)["verified"], shown(asked)["processor_says"]) == (False, None)


def test_several_payments_that_can_not_be_read_are_noted_in_one_go(asked: World) -> None:
    ids = []
    for number in (1, 2, 3):
        asked.pay(number)
        asked.processor.readings.append(PaymentUnreadable("HTTP 404"))
        ids.append(asked.withdraw(100, f"k{number}"))
    assert process_due(asked.context) == 3
    asked.work()
    assert {asked.refund(each).status for each in ids} == {RefundStatus.SUCCEEDED}
    assert [shown(asked, f"pay{number}")["verified"] for number in (1, 2, 3)] == [False] * 3


def test_a_stand_in_payment_is_read_first_also_where_another_refund_is_claimed_beside_it(asked: World) -> None:
    for number, customer in ((1, "c"), (2, "c"), (3, "d")):
        paid_in(asked, number, customer_id=customer)
    asked.processor.script("ch_2", Refused("expired_or_canceled_card", "no"))
    refund_id = asked.withdraw(50)
    while asked.refund(refund_id).legs[0].status is not LegStatus.FAILED:
        assert process_due(asked.context) == 1
    asked.request(replace(withdrawal(50, "beside"), customer_id="d"))
    assert asked.processor.read == ["ch_2"]
    assert process_due(asked.context) == 2
    assert sorted(asked.processor.read) == ["ch_1", "ch_2", "ch_3"]
    assert len(asked.processor.sends) == 1, "only what was refused: the two others are read first"
    asked.work()
    assert asked.processor.paid_minor() == 1_000


def test_a_payment_that_stays_disputed_is_read_again_so_often_and_then_left_to_a_person(asked: World) -> None:
    paid_in(asked)
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work_for((BLOCKED_TRIES + 5) * HOUR)
    read = len(asked.processor.read)
    assert read == BLOCKED_TRIES + 1
    asked.work_for(20 * HOUR)
    assert len(asked.processor.read) == read
    assert asked.refund(refund_id).failure_code == "charge_disputed"
    assert asked.processor.sends == []


def test_that_a_payment_is_not_known_is_said_of_no_other_refusal_to_tell_of_it(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(Misconfigured("unknown_refusal", "odd_code: no"))
    refund_id = asked.withdraw(100)
    asked.work_for(3 * HOUR)
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert "payment_not_read" in asked.events(refund_id)
    assert "payment_not_found" not in asked.events(refund_id)


def test_a_payment_that_is_not_there_is_shown_to_a_person_and_a_retry_looks_again(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(Misconfigured("resource_missing", "No such charge: ch_1"))
    refund_id = asked.withdraw(100)
    asked.work_for(3 * HOUR)
    refund = asked.refund(refund_id)
    assert (refund.failure_code, available_actions(refund)) == ("resource_missing", TO_BE_DECIDED)
    assert (len(asked.processor.read), asked.processor.sends) == (1, [])
    assert "payment_not_found" in asked.events(refund_id)
    says(asked)
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_switched_off_nothing_is_read(asked: World) -> None:
    asked.context = replace(asked.context, policy=replace(asked.context.policy, verify_payments=False))
    asked.pay()
    says(asked, captured_minor=1)
    refund_id = asked.withdraw(100)
    asked.work()
    assert (asked.processor.read, asked.refund(refund_id).status) == ([], RefundStatus.SUCCEEDED)


# --- disputes, and money refunded elsewhere ---------------------------------------------------------------------------


def test_a_disputed_payment_blocks_and_goes_on_by_itself_when_the_dispute_is_over(asked: World) -> None:
    asked.pay()
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work_for(1.5 * asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert asked.refund(refund_id).failure_code == "charge_disputed"
    assert asked.processor.sends == []
    assert 1 < len(asked.processor.read) <= 3
    says(asked)
    asked.work_for(2 * asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_person_may_send_over_a_payment_that_was_disputed_once_and_the_processor_decides(asked: World) -> None:
    """At Stripe `disputed` stays true on a charge whose dispute was won."""
    asked.pay()
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work()
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_money_refunded_before_stops_the_leg_takes_the_room_and_goes_on_when_a_person_says_so(asked: World) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(50, "a")
    asked.work_for(HOUR)
    message = stopped(asked, refund_id, "refunded_elsewhere")
    assert [part for part in ("3.00 USD", "0.00 USD", "7.00 USD") if part not in message] == []
    assert shown(asked)["verified"] is True
    assert asked.request_or_code(21, "b") == "no_refundable_payment", "30 credits' worth is gone"
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 500
    rest = asked.withdraw(20, "c")
    asked.work()
    assert asked.refund(rest).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 700


def test_what_goes_back_elsewhere_after_the_retry_stops_it_again(asked: World) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(50)
    asked.work()
    says(asked, refunded_minor=400)
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).failure_code == "refunded_elsewhere"
    assert asked.processor.sends == []


@pytest.mark.parametrize(
    ("reference", "end", "balance"),
    [(None, RefundStatus.PARTIALLY_SUCCEEDED, 30), ("re_by_hand", RefundStatus.SUCCEEDED, 0)],
)
def test_after_a_retry_what_is_left_there_is_sent_and_the_rest_stays_with_a_person(
    asked: World, reference: str | None, end: RefundStatus, balance: int
) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(100)
    asked.work()
    for _ in range(2):
        asked.command(refund_id, Action.RETRY)
        asked.work()
        refund = asked.refund(refund_id)
        assert [(leg.amount_minor, leg.credits) for leg in refund.legs] == [(700, 70), (300, 30)]
        assert [leg.unreturnable_minor for leg in refund.legs] == [0, 0]
        assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_elsewhere")
        assert asked.processor.paid_minor() == 700
        assert_books_balance(asked.database)
        says(asked, refunded_minor=1_000)  # the processor's total now includes our refund
    asked.command(refund_id, Action.RESOLVE, reference)
    asked.work()
    assert (asked.refund(refund_id).status, asked.account.balance) == (end, balance)


def test_two_refunds_in_one_claim_share_what_is_left_of_their_payment(asked: World) -> None:
    """Each refund was once cut to the whole remainder, and the processor refused the second."""
    asked.pay()
    says(asked, refunded_minor=300)
    both = [asked.withdraw(50, "k1"), asked.withdraw(50, "k2")]
    asked.work()
    for refund_id in both:
        asked.command(refund_id, Action.RETRY)
    asked.work()
    sent = [leg.amount_minor for refund_id in both for leg in asked.refund(refund_id).legs if leg.sends]
    assert sorted(sent) == [200, 500]
    assert asked.processor.paid_minor() == 700
    assert len(asked.processor.sends) == 2, "nothing was refused"
    left = [leg for refund_id in both for leg in asked.refund(refund_id).legs if not leg.sends]
    assert [(leg.amount_minor, leg.attention_code) for leg in left] == [(300, "refunded_elsewhere")]
    assert_books_balance(asked.database)


def test_our_own_refunds_and_those_recorded_are_no_difference(asked: World) -> None:
    """This happens after an upgrade: refunds were made over the payment before its first reading."""
    off = replace(asked.context.policy, verify_payments=False)
    on, asked.context = asked.context, replace(asked.context, policy=off)
    asked.pay(refunded_minor=100)
    asked.withdraw(20, "paid")
    asked.processor.script("ch_1", "pays", "timeout")
    asked.work()
    asked.withdraw(10, "in doubt")
    process_due(asked.context)  # reads the payment's list, because payment readings are off
    process_due(asked.context)
    asked.context = on
    says(asked, refunded_minor=100 + 200 + 100)
    refund_id = asked.withdraw(10, "c")
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_what_was_returned_before_takes_its_room_and_its_share_of_the_credits(asked: World) -> None:
    asked.pay(refunded_minor=400)
    says(asked, refunded_minor=400)
    assert asked.request_or_code(61, "too many") == "no_refundable_payment"
    refund_id = asked.withdraw(60)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 600


# --- proved by a refund object (faults 7) -----------------------------------------------------------------------------


@pytest.mark.parametrize("resolved", [None, "by bank"])
def test_after_a_refund_in_another_currency_nothing_more_goes_over_that_payment_and_its_id_is_shown(
    world: World, resolved: str | None
) -> None:
    """The payment could not be read. The first refund proves that its currency is another."""
    world.pay(currency="EUR")
    first = world.withdraw(10, "a")
    sent = world.processor.send

    async def in_forints(key: str, body: str) -> Any:
        answer = await sent(key, body)
        assert isinstance(answer, Answered)
        refund_object = replace(answer.object, currency="HUF")
        world.processor.objects[refund_object.processor_refund_id] = refund_object
        return Answered(refund_object)

    world.processor.send = in_forints  # type: ignore[method-assign]
    world.work_for(HOUR)
    assert world.refund(first).failure_code == "answer_mismatch"
    assert the_leg(world, first).processor_refund_id == "re_1"
    second = world.withdraw(10, "b")
    world.work_for(HOUR)
    assert world.refund(second).failure_code == "payment_mismatch"
    assert "HUF" in (world.refund(second).failure_message or "")
    world.command(second, Action.RETRY)
    world.work_for(HOUR)
    assert world.refund(second).failure_code == "payment_mismatch", "a retry does not undo what is proved"
    world.command(first, Action.RESOLVE, resolved)
    world.work_for(HOUR)
    third = world.withdraw(10, "c")
    world.work_for(HOUR)
    assert world.refund(third).failure_code == "payment_mismatch"
    assert len(world.processor.sends) == 1
    assert shown(world)["verified"] is False
    assert_books_balance(world.database)


def test_what_was_proved_is_undone_by_the_payments_own_word_alone(asked: World) -> None:
    """One answer had another currency than the request. The payment reading shows that the payment is right."""
    asked.pay()
    asked.processor.readings.append(PaymentUnreadable("HTTP 404"))
    first = asked.withdraw(10, "a")
    sent = asked.processor.send

    async def lies(key: str, body: str) -> Any:
        answer = await sent(key, body)
        assert isinstance(answer, Answered)
        return Answered(replace(answer.object, currency="HUF"))

    asked.processor.send = lies  # type: ignore[method-assign]
    for _ in ("the payment", "its list", "the send"):
        process_due(asked.context)
    asked.processor.send = sent  # type: ignore[method-assign]
    asked.work_for(HOUR)
    assert asked.refund(first).status is RefundStatus.SUCCEEDED, "the list shows it right"
    second = asked.withdraw(10, "b")
    asked.work_for(HOUR)
    assert asked.refund(second).failure_code == "payment_mismatch"
    for word in (PaymentUnreadable("HTTP 404"), None):
        says(asked, refunded_minor=100)
        asked.processor.readings.extend([word] if word else [])
        asked.command(second, Action.RETRY)
        asked.work()
        assert (asked.refund(second).status is RefundStatus.SUCCEEDED) is (word is None)
