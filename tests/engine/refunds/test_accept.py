"""Acceptance: one refund for each key, and never more than is refundable, however many requests arrive at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import func, select
from tests.support.engine_world import World, assert_books_balance, credit_refund, withdrawal

from refund_worker.domain.limits import Limits
from refund_worker.domain.refund import RefundRequest, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.context import Batches
from refund_worker.engine.intake.file_import import submit_requests, try_requests
from refund_worker.engine.refunds.accept import Accepted, DryRun, request_refunds
from refund_worker.engine.refunds.preview import preview
from refund_worker.errors import (
    ExceedsRefundable,
    InsufficientBalance,
    KeyReused,
    NoRefundablePayment,
    Refusal,
    UnknownCustomer,
)
from refund_worker.store import accounts
from refund_worker.store.database import Database
from refund_worker.store.tables import events, refunds

# The number of races on Postgres, where the promise itself is tested. The other races are fewer.
RACES = int(os.environ.get("RACES", "1000"))
RACES_MORE = 50


def count_refunds(world: World) -> int:
    """Return the number of stored refunds."""
    with world.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(refunds)).scalar_one())


def test_same_request_again_gets_same_refund_and_holds_no_more(world: World) -> None:
    world.pay()
    first = world.request(withdrawal(60))
    again = world.request(withdrawal(60, actor="somebody_else", requested_at=7.0))
    assert again == Accepted(first.refund_id, replayed=True)
    assert (world.account.held, count_refunds(world)) == (60, 1)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"credits": 61}, ("credits",)),
        ({"reason": "other"}, ("reason",)),
        ({"note": "x", "metadata": {"a": "b"}}, ("note", "metadata")),
        ({"credits": None}, ("credits",)),
    ],
)
def test_the_same_key_with_another_body_is_refused_naming_the_fields(
    world: World, change: dict[str, object], fields: tuple[str, ...]
) -> None:
    world.pay()
    world.request(withdrawal(60))
    with pytest.raises(KeyReused) as refusal:
        world.request(replace(withdrawal(60), **change))  # type: ignore[arg-type]
    assert refusal.value.fields == fields
    assert (world.account.held, count_refunds(world)) == (60, 1)


def test_another_clients_same_key_is_a_refund_of_its_own(world: World) -> None:
    world.pay()
    one = world.request(withdrawal(60))
    other = world.request(withdrawal(30, client="shop"))
    assert other.refund_id != one.refund_id
    assert not other.replayed
    assert world.account.held == 90


def test_a_key_answers_even_when_the_refund_would_be_refused_now(world: World) -> None:
    world.pay()
    first = world.request(withdrawal(100))
    assert world.request(withdrawal(100)).refund_id == first.refund_id


def test_a_refused_request_is_stored_nowhere_and_leaves_its_key_free(world: World) -> None:
    world.pay()
    with pytest.raises(Refusal):
        world.request(withdrawal(101))
    assert count_refunds(world) == 0
    assert world.withdraw(100)


def test_two_requests_exceeding_payment_are_not_both_accepted(world: World) -> None:
    world.pay()
    world.withdraw(60, "one")
    with pytest.raises(ExceedsRefundable):
        world.withdraw(41, "two")
    assert world.withdraw(40, "three")


def test_batch_is_answered_in_order_and_counts_earlier_requests(world: World) -> None:
    world.pay()
    batch = [
        withdrawal(60, "a"),
        withdrawal(60, "b"),
        withdrawal(40, "c"),
        withdrawal(60, "a"),
        withdrawal(59, "a"),
        withdrawal(1, "d", customer_id="nobody"),
    ]
    answers = request_refunds(world.context, batch)
    assert isinstance(answers[0], Accepted)
    assert answers[3] == Accepted(answers[0].refund_id, replayed=True)
    kinds = [type(answer) for answer in answers]
    assert kinds == [Accepted, ExceedsRefundable, Accepted, Accepted, KeyReused, UnknownCustomer]
    assert world.account.held == 100


def test_batch_requests_use_what_earlier_ones_left_of_payments(world: World) -> None:
    world.pay(1)
    world.pay(2)
    answers = request_refunds(world.context, [withdrawal(60, "a"), withdrawal(60, "b")])
    legs = [
        [(leg.payment_id, leg.credits) for leg in world.refund(answer.refund_id).legs]
        for answer in answers
        if isinstance(answer, Accepted)
    ]
    assert legs == [[("pay2", 60)], [("pay2", 40), ("pay1", 20)]]


def test_a_dry_run_checks_and_stores_nothing(world: World) -> None:
    world.pay()
    with world.database.read() as connection:
        answers = DryRun().accept_requests(connection, world.context, [withdrawal(60), withdrawal(60, "b")])
    assert [type(answer) for answer in answers] == [Accepted, ExceedsRefundable]
    assert (count_refunds(world), world.account.held) == (0, 0)
    with world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 0


def test_room_of_a_spend_is_given_once(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    world.request(credit_refund(30, "a"))
    with pytest.raises(ExceedsRefundable):
        world.request(credit_refund(21, "b"))
    with pytest.raises(ExceedsRefundable):
        world.request(credit_refund(21, "c", to=To.SOURCE))
    assert world.refund(world.request(credit_refund(None, "d")).refund_id).credits == 20


def test_canceling_frees_what_was_reserved_for_the_next(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(100, "a")
    assert world.command(refund_id, Action.CANCEL).status is RefundStatus.CANCELED
    assert_books_balance(world.database)
    assert world.withdraw(100, "b")


def test_held_credits_can_be_neither_spent_nor_withdrawn_again(world: World) -> None:
    world.pay(credits=100)
    world.withdraw(60, "a")
    with pytest.raises(InsufficientBalance):
        world.spend("t2", 41)
    world.spend("t3", 40)
    assert world.account.available == 0


def race(world: World, customers: list[str]) -> list[list[str]]:
    """Request two withdrawals of 60 credits at the same time for each customer.

    Return the sorted type names of the two answers, customer by customer.
    """
    barrier = Barrier(2)

    def ask(customer: str, key: str) -> str:
        barrier.wait(30)
        request = withdrawal(60, f"{customer}{key}", customer_id=customer)
        (answer,) = request_refunds(world.context, [request])
        return type(answer).__name__

    with ThreadPoolExecutor(2) as pool:
        return [sorted(pool.map(ask, [customer, customer], "ab")) for customer in customers]


def test_race_of_two_exceeding_the_payment_accepts_exactly_one(world: World) -> None:
    races = RACES_MORE if world.database.is_sqlite else RACES
    customers = [f"c{number}" for number in range(races)]
    paid = world.pay(0, customer_id="c0")
    others = [
        replace(paid, payment_id=f"p{customer}", customer_id=customer, processor_payment_id=f"ch_{customer}")
        for customer in customers[1:]
    ]
    record_payments(world.context, others)
    assert race(world, customers) == [["Accepted", "ExceedsRefundable"]] * races
    assert count_refunds(world) == races


def test_race_of_two_exceeding_the_balance_accepts_exactly_one(world: World) -> None:
    """The payments have room for both withdrawals. Only the lock on the customer prevents the second."""
    customers = [f"c{number}" for number in range(RACES_MORE)]
    for number, customer in enumerate(customers):
        world.pay(number, customer_id=customer, credits=200)
        world.spend(f"t{number}", 90, customer_id=customer)
    assert race(world, customers) == [["Accepted", "ExceedsRefundable"]] * RACES_MORE
    assert count_refunds(world) == RACES_MORE


def test_identical_requests_at_the_same_time_make_one_refund(world: World) -> None:
    world.pay()
    barrier = Barrier(3)

    def ask(number: int) -> list[Accepted | Refusal]:
        barrier.wait(30)
        return request_refunds(world.context, [withdrawal(10, f"k{number // 3}")])

    with ThreadPoolExecutor(3) as pool:
        answers = [answer for (answer,) in pool.map(ask, range(15))]
    taken = [answer for answer in answers if isinstance(answer, Accepted)]
    assert len(taken) == 15
    assert len({answer.refund_id for answer in taken}) == 5 == sum(not answer.replayed for answer in taken)
    assert world.account.held == 50


def test_everything_is_withdrawn_one_currency_after_the_other(world: World) -> None:
    world.pay(1, currency="USD")
    world.pay(2, currency="EUR", credits=60, amount_minor=600)
    told = preview(world.context, withdrawal(None, currency="EUR"))
    euros = world.request(withdrawal(None, "eur", currency="EUR")).refund_id
    dollars = world.request(withdrawal(None, "usd", currency="USD")).refund_id
    world.work()
    assert told["credits"] == world.refund(euros).credits == 60
    assert world.refund(dollars).credits == 100
    assert world.processor.paid_minor() == 1_600
    assert world.account.balance == 0


def test_payments_with_no_room_left_are_named_as_the_reason(world: World) -> None:
    world.pay(1, currency="USD")
    world.pay(2, currency="EUR")
    with pytest.raises(NoRefundablePayment):
        world.request(withdrawal(150, currency="EUR"))


def test_batch_refuses_credit_refund_exceeding_its_transaction(world: World) -> None:
    """Each request gets its own refusal, also in a dry run. The table constraint would refuse the whole batch."""
    world.pay()
    world.spend("t", 60)
    asked = [credit_refund(40, "a"), credit_refund(40, "b"), credit_refund(20, "c")]
    with world.database.read() as connection:
        dry = DryRun().accept_requests(connection, world.context, asked)
    assert [type(answer) for answer in dry] == [Accepted, ExceedsRefundable, Accepted]
    answers = request_refunds(world.context, asked)
    assert [type(answer) for answer in answers] == [Accepted, ExceedsRefundable, Accepted]
    assert_books_balance(world.database)


def test_long_dry_run_holds_up_no_writer_and_predicts_result(world: World) -> None:
    """Another writer locks the customer between rows. Limits, refundable amounts and keys count across chunks."""
    world.context = replace(world.context, batches=Batches(intake=3), limits=Limits(velocity_count=9))
    world.pay(credits=100)
    world.spend("t", 40)
    asked = [withdrawal(6, f"w{n}") for n in range(6)] + [withdrawal(6, "w0"), withdrawal(7, "w1")]
    asked += [credit_refund(15, f"c{n}") for n in range(4)] + [withdrawal(1, f"late{n}") for n in range(4)]

    def rows_while_others_write() -> Iterator[tuple[int, RefundRequest]]:
        for line, request in enumerate(asked):
            with other.write() as connection:
                locked = accounts.lock_customers(connection, ["c"])
                accounts.insert_missing_customers(connection, [f"new-{line}"], 1.0)
            assert list(locked) == ["c"]
            yield line, request

    other = Database(world.database.url.render_as_string(hide_password=False))
    try:
        tried = try_requests(world.context, rows_while_others_write())
    finally:
        other.close()
    assert (count_refunds(world), world.account.held) == (0, 0)
    done = submit_requests(world.context, enumerate(asked))
    assert tried == done
    assert (done.accepted, done.replayed, done.totals) == (9, 1, Counter(USD=370))
    assert {row.code for row in done.rejected} == {"idempotency_key_reused", "exceeds_refundable", "velocity_exceeded"}
