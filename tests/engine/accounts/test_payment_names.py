"""One payment has every id that its processor has for it: a charge and its payment intent are one payment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import text
from tests.support.engine_world import WORD, World, assert_books_balance

from refund_worker.domain.processor_replies import PaymentRead
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.views import lists
from refund_worker.engine.views.payment_objects import payment
from refund_worker.errors import AlreadyRecorded, RefundWorkerError
from refund_worker.store import payment_refs, schema
from refund_worker.store.payments import refunded_elsewhere
from refund_worker.times import iso

BOTH = ["ch_1", "pi_1"]


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    made = World(migrated_url)
    made.pay()
    yield made
    made.close()


def record(
    world: World, number: int = 1, its_names: Sequence[str] = (), **changes: object
) -> Recorded | RefundWorkerError:
    made = PaymentRecord(
        payment_id=f"pay{number}",
        customer_id="c",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        amount_minor=1_000,
        currency="USD",
        credits=100,
        captured_at=float(number),
    )
    made = replace(made, **changes)  # type: ignore[arg-type]
    (answer,) = record_payments(world.context, [made], {made.payment_id: its_names} if its_names else {})
    return answer


def names(world: World, payment_id: str = "pay1") -> list[str]:
    with world.database.read() as connection:
        return payment(connection, world.context, payment_id)["processor_payment_ids"]


def found(world: World, ref: str) -> list[str]:
    with world.database.read() as connection:
        page = lists.payments(connection, world.context, customer_id=None, limit=9, processor_payment_id=ref)
        return [each["payment_id"] for each in page["data"]]


def test_recorded_payment_has_all_its_ids_at_once(world: World) -> None:
    record(world, 2, its_names=("ch_2", "pi_2"))
    assert names(world, "pay2") == ["ch_2", "pi_2"]
    assert isinstance(record(world, 3, processor_payment_id="pi_2"), AlreadyRecorded)


def learn(world: World, *groups: tuple[str, ...]) -> dict[str, str]:
    return world.database.run(lambda connection: payment_refs.add_refs(connection, "stripe", groups))


def test_a_refund_object_tells_both_ids_and_each_finds_the_payment(world: World) -> None:
    world.refund_in_the_dashboard(10, payment_refs=("ch_1", "pi_1"))
    world.refund_in_the_dashboard(10, payment_refs=("ch_other", "pi_other"))
    assert (names(world), found(world, "pi_1")) == (["ch_1"], [])
    for _ in range(2):
        sync_recent(world.context, "stripe")
        assert names(world) == BOTH
    assert [found(world, ref) for ref in (*BOTH, "pi_other")] == [["pay1"], ["pay1"], []]
    with world.database.read() as connection:
        assert refunded_elsewhere(connection, ["pay1"]) == {"pay1"}


def test_an_object_that_names_only_the_intent_is_of_the_same_payment(world: World) -> None:
    learn(world, ("ch_1", "pi_1"))
    world.refund_in_the_dashboard(10, payment_refs=("pi_1",))
    sync_recent(world.context, "stripe")
    with world.database.read() as connection:
        assert refunded_elsewhere(connection, ["pay1"]) == {"pay1"}


def test_the_reading_of_a_payment_tells_both_ids(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(PaymentRead(WORD, ("ch_1", "pi_1")))
    asked.withdraw(10)
    asked.work()
    assert names(asked) == BOTH


def test_an_intent_whose_charge_is_another_record_is_a_conflict(world: World) -> None:
    learn(world, ("ch_1", "pi_1"))
    for number in (1, 2):
        answer = record(world, 2, payment_id=f"other{number}", processor_payment_id="pi_1")
        assert isinstance(answer, AlreadyRecorded)
        assert "pay1" in answer.message
    assert record(world) == Recorded(new=False)
    assert world.account.balance == 100
    assert record(world, 2) == Recorded(new=True)
    assert_books_balance(world.database)


def test_ids_of_a_closed_payment_are_free_and_stay_so(world: World) -> None:
    learn(world, ("ch_1", "pi_1"))
    world.database.run(lambda connection: payment_refs.drop_refs(connection, "pay1"))
    assert (names(world), found(world, "ch_1"), found(world, "pi_1")) == ([], ["pay1"], [])
    learn(world, ("ch_1", "pi_1"))
    assert names(world) == []
    assert record(world, payment_id="again", processor_payment_id="pi_1") == Recorded(new=True)
    learn(world, ("ch_1", "pi_1"))
    assert (names(world), names(world, "again")) == ([], BOTH)
    assert found(world, "ch_1") == ["again", "pay1"]


def test_ids_of_two_records_contradict_and_change_nothing(world: World) -> None:
    world.pay(2)
    assert learn(world, ("ch_1", "ch_2", "pi_1")) == {"ch_1": "pay1", "ch_2": "pay2"}
    assert (names(world), names(world, "pay2")) == (["ch_1"], ["ch_2"])
    assert learn(world, ("ch_1",), ("pi_8", "pi_9")) == {}
    assert found(world, "pi_9") == []


def test_payments_of_older_versions_are_named_too(world: World) -> None:
    world.pay(2)
    world.withdraw(10)
    with world.database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "0019")
        old = (
            "INSERT INTO payments (payment_id, customer_id, processor, processor_payment_id, amount_minor, currency, "
            "credits, captured_at, created_at) VALUES (:id, 'c', 'stripe', :ref, 1000, 'USD', 100, 1, 1)"
        )
        connection.execute(text(old), {"id": "before", "ref": "pi_before"})
    schema.upgrade(world.database)
    world.database.run(lambda connection: connection.execute(text(old), {"id": "after", "ref": "pi_after"}))
    assert [names(world, each) for each in ("pay1", "pay2", "before", "after")] == [
        ["ch_1"],
        ["ch_2"],
        ["pi_before"],
        ["pi_after"],
    ]
    assert isinstance(record(world, 3, processor_payment_id="pi_after"), AlreadyRecorded)
    world.work()
    with world.database.read() as connection:
        assert payment(connection, world.context, "pay2")["taken_minor"] == 100


def test_a_payment_that_recorded_itself_takes_one_later_id(world: World) -> None:
    own = {"payment_id": "ch_5", "processor_payment_id": "ch_5", "captured_at": 5.0}
    assert record(world, recorded_by="import", **own) == Recorded(new=True)
    learn(world, ("ch_5", "pi_5"))
    later = {"payment_id": "order-5", "processor_payment_id": "pi_5", "captured_at": 7.0}
    for wrong in ({"credits": 99}, {"amount_minor": 999}, {"currency": "EUR"}, {"customer_id": "d"}):
        assert isinstance(record(world, **(later | wrong)), AlreadyRecorded)  # type: ignore[arg-type]
    balance = world.account.balance
    for _ in range(2):
        assert record(world, **later) == Recorded(new=False)  # type: ignore[arg-type]
    assert isinstance(record(world, **(later | {"credits": 99})), AlreadyRecorded)  # type: ignore[arg-type]
    assert isinstance(record(world, **(later | {"payment_id": "order-6"})), AlreadyRecorded)  # type: ignore[arg-type]
    assert isinstance(record(world, 6, payment_id="order-5"), AlreadyRecorded)
    with world.database.read() as connection:
        shown = [payment(connection, world.context, each) for each in ("ch_5", "order-5")]
    assert shown[0] == shown[1]
    assert (shown[0]["payment_id"], shown[0]["other_ids"], shown[0]["recorded_by"]) == ("ch_5", ["order-5"], "import")
    assert world.account.balance == balance
    assert_books_balance(world.database)


@pytest.mark.parametrize("closed_by", ["ch_5", "order-5"])
def test_both_ids_close_a_payment_and_its_record_still_answers(world: World, closed_by: str) -> None:
    own = {"payment_id": "ch_5", "processor_payment_id": "ch_5", "captured_at": 5.0}
    record(world, recorded_by="import", its_names=("ch_5", "pi_5"), **own)
    later = {"payment_id": "order-5", "processor_payment_id": "pi_5", "captured_at": 7.0}
    record(world, **later)  # type: ignore[arg-type]
    for _ in range(2):
        close_payment(world.context, closed_by, actor="op", reason="recorded wrong")
    with world.database.read() as connection:
        shown = [payment(connection, world.context, each) for each in ("ch_5", "order-5")]
    assert shown[0] == shown[1]
    assert (shown[0]["closed_at"], shown[0]["close_reason"]) == (iso(world.now), "recorded wrong")
    assert (record(world, **own), record(world, **later)) == (Recorded(new=False),) * 2  # type: ignore[arg-type]
    for wrong in ({"credits": 99}, {"processor_payment_id": "ch_6"}, {"processor": "other"}):
        assert isinstance(record(world, **(later | wrong)), AlreadyRecorded)  # type: ignore[arg-type]
    assert record(world, **(later | {"payment_id": "order-6"})) == Recorded(new=True)  # type: ignore[arg-type]
    assert record(world, **later) == Recorded(new=False)  # type: ignore[arg-type]
    assert world.account.balance == 200
    assert_books_balance(world.database)


def test_a_payment_that_a_backend_sent_takes_no_other_id(world: World) -> None:
    assert isinstance(record(world, payment_id="other"), AlreadyRecorded)
    with world.database.read() as connection:
        assert payment(connection, world.context, "pay1")["other_ids"] == []
