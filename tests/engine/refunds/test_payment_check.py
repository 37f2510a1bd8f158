"""The processor's record of a payment is read once, before money first moves over it, and must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import World, assert_books_balance, withdrawal
from tests.support.payment_check import HOUR, paid_in, says, shown, stopped

from refund_worker.domain.processor_replies import Answered, PaymentUnreadable, Refused
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.refunds.process import process_due


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


def test_many_refunds_over_one_payment_read_it_only_once(asked: World) -> None:
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
def test_payment_mismatch_stops_sending_and_shows_both_values(
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


def test_mismatch_stops_every_refund_over_that_payment_only(asked: World) -> None:
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


def test_payment_captured_for_less_agrees_and_returns_no_more(asked: World) -> None:
    asked.pay(captured_minor=700)
    says(asked, captured_minor=700)
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 700
    assert (shown(asked)["captured_minor"], shown(asked)["amount_minor"]) == (700, 1_000)


def test_replacement_payment_is_read_first_in_a_shared_claim(asked: World) -> None:
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


# --- proved by a refund object (faults 7) -----------------------------------------------------------------------------


@pytest.mark.parametrize("resolved", [None, "by bank"])
def test_refund_in_another_currency_stops_sends_over_its_payment(world: World, resolved: str | None) -> None:
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
    assert world.refund(first).legs[0].processor_refund_id == "re_1"
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
