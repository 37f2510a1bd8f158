"""A payment that is not settled is voided once, and a void of others is never taken for ours.

Each test asserts the money: what the server's own book gave back.
"""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from tests.processors.braintree.bench import INSTALLATION, LEG, Bench, answered, without_marks

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    PaymentRead,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.braintree.objects import VOIDABLE

WHOLE = Decimal("12.50")
LOST = ("timeout", "reset", "cut", "error", "garbage", "proxy")


def unsettled(braintree: Bench, status: str = "submitted_for_settlement") -> str:
    """Return the id of a payment of 12.50 in a status."""
    return braintree.book.sale("12.50", "GBP", status)


@pytest.mark.parametrize("status", sorted(VOIDABLE))
def test_unsettled_payment_is_voided_and_looks_like_a_refund(braintree: Bench, status: str) -> None:
    payment = unsettled(braintree, status)
    void = answered(braintree.send(payment))
    assert (void.processor_refund_id, void.status, void.amount_minor) == (f"void-{payment}", "succeeded", 1_250)
    assert (void.leg_id, void.attempt, void.installation) == (LEG, 1, INSTALLATION)
    assert (void.payment_refs, void.details.statement) == ((payment,), "vanishes")
    assert braintree.book.given_back(payment) == [WHOLE]
    assert answered(braintree.run(braintree.adapter.fetch(void.processor_refund_id))) == without_marks(void)
    assert braintree.found(payment) == (without_marks(void),)


def test_voided_payment_counts_as_captured_and_given_back(braintree: Bench) -> None:
    payment = unsettled(braintree)
    answered(braintree.send(payment))
    read = braintree.run(braintree.adapter.find_payment(payment))
    assert isinstance(read, PaymentRead)
    assert (read.reading.captured_minor, read.reading.refunded_minor) == (1_250, 1_250)


def test_part_of_an_unsettled_payment_waits_until_it_is_settled(braintree: Bench) -> None:
    payment = unsettled(braintree)
    reply = braintree.send(payment, 1_000)
    assert isinstance(reply, Blocked)
    assert (reply.code, braintree.book.given_back(payment)) == ("not_settled_yet", [])
    braintree.book.settle()
    assert answered(braintree.send(payment, 1_000, attempt=2)).status == "pending"
    assert braintree.book.given_back(payment) == [Decimal("10.00")]


def test_setting_keeps_unsettled_payments_from_being_voided(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.adapter = braintree.new_adapter(void_unsettled=False)
    reply = braintree.send(payment)
    assert isinstance(reply, Blocked)
    assert (reply.code, braintree.book.given_back(payment)) == ("not_settled_yet", [])


def test_authorized_payment_is_not_voided_as_nothing_was_captured(braintree: Bench) -> None:
    payment = unsettled(braintree, "authorized")
    reply = braintree.send(payment)
    assert isinstance(reply, Misconfigured)
    assert (reply.code, braintree.book.transactions[payment].status) == ("not_captured", "authorized")


def test_settling_payment_is_refunded_and_not_voided(braintree: Bench) -> None:
    payment = unsettled(braintree, "settling")
    assert answered(braintree.send(payment)).status == "pending"
    assert braintree.book.transactions[payment].status == "settling"


# --- lost answers, at each step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LOST)
def test_lost_answer_to_the_refused_refund_voids_once(braintree: Bench, fault: str) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, f"refund:{fault}")
    assert isinstance(braintree.send(payment), Unanswered)
    assert braintree.book.given_back(payment) == []
    assert answered(braintree.send(payment)).leg_id == LEG
    assert braintree.book.given_back(payment) == [WHOLE]


@pytest.mark.parametrize("fault", ["reset", "error", "garbage", "503"])
def test_lost_answer_to_the_reading_voids_nothing_yet(braintree: Bench, fault: str) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, f"get:{fault}")
    reply = braintree.send(payment)
    assert reply == Busy("payment_not_read") or isinstance(reply, Unanswered)
    assert braintree.book.given_back(payment) == []
    answered(braintree.send(payment))
    assert braintree.book.given_back(payment) == [WHOLE]


@pytest.mark.parametrize("fault", LOST)
def test_lost_answer_to_the_void_is_proved_by_its_repeat(braintree: Bench, fault: str) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, f"void:{fault}")
    reply = braintree.send(payment)
    assert isinstance(reply, Unanswered)
    assert not reply.server_error, "the list could not tell whose void it is: the same key is sent again first"
    assert braintree.book.given_back(payment) == [WHOLE]
    void = answered(braintree.send(payment))
    assert (void.processor_refund_id, void.leg_id) == (f"void-{payment}", LEG)
    assert braintree.book.given_back(payment) == [WHOLE]


@pytest.mark.parametrize("fault", LOST)
def test_later_attempt_after_a_crash_proves_the_void_too(braintree: Bench, fault: str) -> None:
    """A person's retry makes a new attempt with a new key; the void keeps the key of its leg."""
    payment = unsettled(braintree)
    braintree.server.break_next(payment, f"void:{fault}")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.run(braintree.adapter.close())
    braintree.adapter = braintree.new_adapter()
    void = answered(braintree.send(payment, attempt=2))
    assert (void.leg_id, void.attempt) == (LEG, 2)
    assert braintree.book.given_back(payment) == [WHOLE]


def test_lost_void_is_not_sent_again_by_the_http_client(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:drop")
    assert isinstance(braintree.send(payment), Unanswered)
    assert braintree.server.requests.count(f"void {payment}") == 1


def test_void_that_never_arrived_is_made_by_the_repeat(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:drop")
    assert isinstance(braintree.send(payment), Unanswered)
    assert braintree.book.given_back(payment) == []
    answered(braintree.send(payment))
    assert braintree.book.given_back(payment) == [WHOLE]


def test_void_that_lands_late_is_no_second_return(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:late")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.book.settle()
    assert answered(braintree.send(payment)).status == "pending"
    assert braintree.server.land() == 1
    assert braintree.book.given_back(payment) == [WHOLE]
    assert [each.processor_refund_id for each in braintree.found(payment)] == braintree.book.transactions[
        payment
    ].refund_ids


def test_refund_that_lands_late_is_no_second_return(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "refund:late")
    assert isinstance(braintree.send(payment), Unanswered)
    answered(braintree.send(payment))
    assert braintree.server.land() == 1
    assert braintree.book.given_back(payment) == [WHOLE]


@pytest.mark.parametrize("stick", [False, True])
@pytest.mark.parametrize("steps", list(itertools.product(("", "refund:reset", "void:reset", "void:drop"), repeat=2)))
def test_any_two_faults_return_the_money_once(braintree: Bench, steps: tuple[str, str], stick: bool) -> None:
    """Also if a failed request uses its key up, which Braintree does not publish."""
    braintree.book.failed_keys_stick = stick
    payment = unsettled(braintree)
    for step in steps:
        if step:
            braintree.server.break_next(payment, step)
    replies = [braintree.send(payment) for _ in range(4)]
    assert answered(replies[-1]).leg_id == LEG
    assert braintree.book.given_back(payment) == [WHOLE]


def test_settlement_between_refusal_and_void_ends_as_one_refund(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:refuse-91504")
    reply = braintree.send(payment)
    assert isinstance(reply, Blocked)
    assert reply.code == "not_settled_yet"
    braintree.book.settle()
    assert answered(braintree.send(payment, attempt=2)).status == "pending"
    assert braintree.book.given_back(payment) == [WHOLE]


def test_failed_void_that_used_its_key_up_ends_as_one_refund(braintree: Bench) -> None:
    braintree.book.failed_keys_stick = True
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:refuse-91504")
    assert isinstance(braintree.send(payment), Blocked)
    assert isinstance(braintree.send(payment, attempt=2), Blocked), "915234: still not settled"
    braintree.book.settle()
    assert isinstance(braintree.send(payment, attempt=2), Blocked), "915234: the key of this attempt is used up"
    assert answered(braintree.send(payment, attempt=3)).status == "pending"
    assert braintree.book.given_back(payment) == [WHOLE]


# --- voids that others made -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stick", [False, True])
def test_void_by_a_person_is_not_ours(braintree: Bench, stick: bool) -> None:
    braintree.book.failed_keys_stick = stick
    payment = unsettled(braintree)
    braintree.book.void(payment)
    for attempt in (1, 1, 2):
        assert isinstance(braintree.send(payment, attempt=attempt), AlreadyRefunded)
    (listed,) = braintree.found(payment)
    assert (listed.processor_refund_id, listed.leg_id) == (f"void-{payment}", None)
    assert braintree.book.given_back(payment) == [WHOLE]


def test_void_by_a_person_after_our_lost_one_is_not_ours(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:drop")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.book.void(payment)
    assert isinstance(braintree.send(payment), AlreadyRefunded)
    assert braintree.book.given_back(payment) == [WHOLE]


def test_void_by_another_leg_is_not_ours(braintree: Bench) -> None:
    payment = unsettled(braintree)
    answered(braintree.send(payment, leg="rf_9-1"))
    assert isinstance(braintree.send(payment), AlreadyRefunded)
    assert answered(braintree.send(payment, leg="rf_9-1")).leg_id == "rf_9-1"
    assert braintree.book.given_back(payment) == [WHOLE]


def test_void_with_a_forgotten_key_ends_with_a_person(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:reset")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.book.clock_offset += 30 * 86_400 + 1
    assert isinstance(braintree.send(payment, attempt=2), AlreadyRefunded)
    assert braintree.book.given_back(payment) == [WHOLE]


@pytest.mark.parametrize("code", ["91547", "91512", "915200", "915201", "99999"])
def test_refusal_of_a_voided_payment_ends_no_leg(braintree: Bench, code: str) -> None:
    """Whatever code refuses the refund: the payment is read before a refusal counts."""
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:reset")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.server.break_next(payment, f"refund:refuse-{code}")
    assert answered(braintree.send(payment)).leg_id == LEG
    assert braintree.book.given_back(payment) == [WHOLE]


def test_final_refusal_of_an_unsettled_payment_does_not_count(braintree: Bench) -> None:
    """A lost void of ours may land later: the leg must not end, or another payment would pay too."""
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:late")
    assert isinstance(braintree.send(payment), Unanswered)
    braintree.server.break_next(payment, "refund:refuse-915200")
    assert isinstance(braintree.send(payment), Blocked)
    braintree.server.land()
    assert answered(braintree.send(payment, attempt=2)).leg_id == LEG
    assert braintree.book.given_back(payment) == [WHOLE]


# --- other answers to a void ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", Busy),
        ("in_flight", Busy),
        ("401", Denied),
        ("refuse-915232", KeyConflict),
        ("refuse-915235", Unanswered),
        ("refuse-91514", Blocked),
        ("refuse-91547", UnknownRefusal),
        ("refuse-99999", UnknownRefusal),
    ],
)
def test_answer_to_a_void_has_its_meaning(braintree: Bench, fault: str, kind: type) -> None:
    payment = unsettled(braintree)
    if fault == "refuse-915235":
        braintree.book.failed_keys_stick = False
    braintree.server.break_next(payment, f"void:{fault}")
    assert isinstance(braintree.send(payment), kind)
    assert braintree.book.given_back(payment) == []


def test_answer_about_another_payment_is_no_void(braintree: Bench) -> None:
    payment = unsettled(braintree)
    braintree.server.break_next(payment, "void:other")
    assert isinstance(braintree.send(payment), Unanswered)
    assert answered(braintree.send(payment)).payment_refs == (payment,)
    assert braintree.book.given_back(payment) == [WHOLE]


def test_refund_and_void_have_keys_of_their_own(braintree: Bench) -> None:
    first, second = unsettled(braintree), unsettled(braintree)
    answered(braintree.send(first))
    answered(braintree.send(second, leg="rf_2-1"))
    keys = [key for key in braintree.book.keys if key.startswith("refund-worker-void-")]
    assert len(keys) == len(set(keys)) == 2
    assert all(len(key) < 255 for key in keys)
