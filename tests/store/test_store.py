"""What the database itself guards, on SQLite and on a real Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from threading import Event as Signal
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from tests.domain.builders import a_leg, a_refund, an_object

from refund_worker.domain.acceptance import RefundableTransaction
from refund_worker.domain.decision import AccountDelta, Decision, Event, PaymentDelta, RefundObjectUpdate
from refund_worker.domain.ledger import EntryKind, spend
from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import (
    Doubt,
    Kind,
    KnownRefundObject,
    Leg,
    LegStatus,
    ObjectState,
    Refund,
    RefundStatus,
    RefusalKind,
    To,
)
from refund_worker.errors import LostRace
from refund_worker.store import (
    accounts,
    idempotency,
    ledger,
    object_ownership,
    outbox,
    payments,
    processors,
    refund_objects,
    refunds,
    tables,
    timeline,
)
from refund_worker.store.database import Database, now
from refund_worker.store.tables import customers, events, ledger_entries


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """Customer "c" with payments "pay1" and "pay2"."""
    opened = Database(migrated_url)
    with opened.write() as connection:
        accounts.insert_missing_customers(connection, ["c"], 1.0)
        payments.insert_payments(connection, [a_payment(1), a_payment(2)], 1.0)
        accounts.add_purchases(connection, {"c": 200})
    yield opened
    opened.close()


def a_payment(number: int) -> PaymentRecord:
    return PaymentRecord(
        payment_id=f"pay{number}",
        customer_id="c",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        amount_minor=1_000,
        currency="USD",
        credits=100,
        captured_at=float(number),
    )


def store(database: Database, *accepted: Refund) -> None:
    with database.write() as connection:
        refunds.insert_refunds(connection, [(refund, "{}") for refund in accepted])


def numbered(number: int, **changes: Any) -> Refund:
    refund_id = f"r{number}"
    leg = replace(a_leg(), leg_id=f"{refund_id}-1", refund_id=refund_id)
    return a_refund(
        leg, **({"refund_id": refund_id, "idempotency_key": f"k{number}", "due_at": float(number)} | changes)
    )


def fetch(database: Database, refund_id: str) -> Refund:
    with database.read() as connection:
        (refund,) = refunds.load(connection, [refund_id])
    return refund


# --- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [PaymentDelta(101), PaymentDelta(0, 1_001), PaymentDelta(-1), PaymentDelta(0, -1)])
def test_more_than_there_is_of_a_payment_can_not_be_taken_and_nothing_can_be_given_twice(
    database: Database, change: PaymentDelta
) -> None:
    with database.write() as connection:
        accounts.change_payments(connection, {"pay1": PaymentDelta(100, 1_000)})
        accounts.change_payments(connection, {"pay1": PaymentDelta(-100, -1_000)})
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_payments(connection, {"pay1": change})
    with database.read() as connection:
        room = {p.payment_id: p for p in accounts.refundable_payments(connection, ["c"])["c"]}["pay1"]
    assert (room.credits_taken, room.money_taken) == (0, 0)


@pytest.mark.parametrize("change", [AccountDelta(held=-1), AccountDelta(net_spent=-1), AccountDelta(withdrawn=-1)])
def test_sums_of_a_customer_can_not_fall_below_zero(database: Database, change: AccountDelta) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_customers(connection, {"c": change})


@pytest.mark.parametrize("credits", [51, -1])
def test_a_transactions_room_can_be_neither_overdrawn_nor_freed_twice(database: Database, credits: int) -> None:
    room = RefundableTransaction(transaction_id="t", customer_id="c", kind=EntryKind.SPEND, credits=50)
    with database.write() as connection:
        accounts.insert_transactions(connection, [room])
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_transactions(connection, {"t": credits})
    with database.read() as connection:
        assert accounts.refundable_transactions(connection, ["t", "x"]) == {"t": room}


def test_a_key_of_a_client_is_taken_once_and_another_clients_is_free(database: Database) -> None:
    store(database, numbered(1), numbered(2, idempotency_key="k1", client="shop"))
    with pytest.raises(IntegrityError):
        store(database, numbered(3, idempotency_key="k1"))
    with database.read() as connection:
        assert set(refunds.find_by_keys(connection, "default", ["k1", "k2"])) == {"k1"}


def test_a_posting_is_written_once(database: Database) -> None:
    posting = spend(transaction_id="t", customer_id="c", credits=5, description="", at=1.0)
    with database.write() as connection:
        ledger.insert_postings(connection, [posting])
    with pytest.raises(IntegrityError), database.write() as connection:
        ledger.insert_postings(connection, [posting])
    with database.read() as connection:
        total = select(func.sum(ledger_entries.c.amount)).where(ledger_entries.c.account == "customer:c")
        assert connection.execute(total).scalar_one() == -5
        assert ledger.unbalanced_transactions(connection) == []


def test_an_act_under_a_key_is_kept_once(database: Database) -> None:
    with database.write() as connection:
        idempotency.insert_act(connection, "default", "k", "{}", "txn", 1.0)
    with pytest.raises(IntegrityError), database.write() as connection:
        idempotency.insert_act(connection, "default", "k", "{}", "other", 1.0)
    with database.read() as connection:
        assert idempotency.find_act(connection, "shop", "k") is None


# --- round trips -----------------------------------------------------------------------------------------------------


def test_a_refund_comes_back_exactly_as_it_was_stored(database: Database) -> None:
    leg = Leg(
        leg_id="r-1",
        refund_id="r",
        payment_id="pay1",
        processor="stripe",
        processor_payment_id="ch_1",
        amount_minor=999,
        currency="USD",
        credits=99,
        payment_credits=98,
        status=LegStatus.UNKNOWN,
        attempt=3,
        sends=2,
        retry_count=7,
        first_sent_at=1.25,
        last_sent_at=2.5,
        times_restored=2,
        in_doubt=Doubt(unanswered=True, lookup_required=True, refusal=RefusalKind.REFUSED),
        failure_code="code",
        failure_message="message",
        attention_code="why",
        processor_refund_id="re_9",
        reallocated=True,
        reversed_credits=1,
        replaces="r-0",
        next_at=3.125,
        unreturnable_minor=7,
        first_intent_at=0.5,
        listed_at=2.75,
        held=True,
        blocked_by=("re_7", "re_8"),
        acknowledged_outside=("re_6",),
    )
    refund = a_refund(
        leg,
        kind=Kind.CREDIT_REFUND,
        to=To.SOURCE,
        transaction_id="t",
        currency="USD",
        note="note",
        requested_by_note="asked by mail",
        metadata={"b": "2", "a": "1"},
        status=RefundStatus.NEEDS_ATTENTION,
        version=5,
        of_correction=True,
        ledger_posted=True,
        reversal_count=1,
        reversed_credits=1,
        failure_code="code",
        failure_message="message",
        priority=1,
        lease_until=1_800_000_000.123456,
        lease_token="lease",
    )
    blank = {f.name for value in (leg, refund) for f in fields(value) if getattr(value, f.name) == f.default}
    assert blank == {"objects"}, "every field but the objects (a table of their own) differs from its default"
    store(database, refund)
    assert fetch(database, "r") == refund


def test_legs_come_back_in_the_order_of_their_numbers(database: Database) -> None:
    legs = [replace(a_leg(n), payment_id="pay1") for n in range(1, 13)]
    store(database, a_refund(*reversed(legs)))
    assert [leg.leg_id for leg in fetch(database, "r").legs] == [f"r-{n}" for n in range(1, 13)]


def test_what_was_seen_of_an_object_is_kept_with_its_latest_state(database: Database) -> None:
    store(database, a_refund())
    for status in ("pending", "succeeded"):
        seen = RefundObjectUpdate("r-1", ObjectState(status), an_object(status))
        with database.write() as connection:
            refund_objects.write_objects(connection, [("stripe", seen)], 1.0)
    assert fetch(database, "r").legs[0].objects == (KnownRefundObject("re_1", ObjectState.SUCCEEDED, 1),)
    with database.read() as connection:
        assert refund_objects.find_leg(connection, processor="stripe", processor_refund_id="re_1") == ("r", "r-1")
        assert refund_objects.find_leg(connection, processor="other", processor_refund_id="re_1") is None


def test_events_come_back_oldest_first(database: Database) -> None:
    store(database, a_refund())
    with database.write() as connection:
        timeline.insert_events(connection, [("r", Event(f"e{n}", "me")) for n in range(5)], 1.0)
    with database.read() as connection:
        assert [row["kind"] for row in timeline.events_of(connection, "r")] == [f"e{n}" for n in range(5)]


# --- guarded writes --------------------------------------------------------------------------------------------------


def test_a_write_that_names_another_version_than_the_stored_one_is_a_lost_race(database: Database) -> None:
    store(database, numbered(1), numbered(2))
    one, two = fetch(database, "r1"), fetch(database, "r2")
    with database.write() as connection:
        refunds.write_refunds(connection, [Decision(before=one, after=replace(one, version=2, ledger_posted=True))])
    with pytest.raises(LostRace), database.write() as connection:
        refunds.write_refunds(
            connection,
            [
                Decision(before=two, after=replace(two, version=2, ledger_posted=True)),
                Decision(before=one, after=replace(one, version=2, reversal_count=9)),
            ],
        )
    assert (fetch(database, "r1").version, fetch(database, "r1").reversal_count) == (2, 0)
    assert fetch(database, "r2") == two, "the whole batch is undone"


# --- claiming --------------------------------------------------------------------------------------------------------


def test_only_what_is_due_and_not_leased_is_claimed_the_urgent_first(database: Database) -> None:
    store(
        database,
        numbered(1, priority=1),
        numbered(2),
        numbered(3, due_at=None),
        numbered(4, due_at=11.0),
        numbered(5, lease_until=10.5, lease_token="x"),
        numbered(6, lease_until=10.0, lease_token="gone"),
    )
    with database.write() as connection:
        assert refunds.claimable(connection, 10.0, 10) == ["r2", "r6", "r1"]
        assert refunds.claimable(connection, 10.0, 1) == ["r2"]
        assert refunds.claimable(connection, 10.0, 10, only=["r1", "r5"]) == ["r1"]
        assert refunds.claimable(connection, 10.0, 10, bulk=True) == ["r1"]
        assert refunds.claimable(connection, 10.0, 10, bulk=False) == ["r2", "r6"]


# An SQLite writer has the whole file.
on_postgres = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)


@contextmanager
def claimed_by_another(database: Database) -> Iterator[None]:
    """Another worker has the first of the refunds locked meanwhile."""
    locked, done = Signal(), Signal()

    def hold() -> None:
        with database.write() as connection:
            assert refunds.claimable(connection, 10.0, 1) == ["r1"]
            locked.set()
            done.wait(20)

    holder = Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(20)
        yield
    finally:
        done.set()
        holder.join(20)


@on_postgres
def test_a_claim_passes_over_rows_that_another_worker_has_locked(database: Database) -> None:
    store(database, numbered(1), numbered(2))
    with claimed_by_another(database), database.write() as connection:
        assert refunds.claimable(connection, 10.0, 10) == ["r2"]


@on_postgres
def test_who_refers_to_a_locked_row_waits_for_nobody(database: Database) -> None:
    """A claim holds its refunds' rows; what is recorded about them meanwhile goes in beside it."""
    store(database, numbered(1))
    with claimed_by_another(database), database.write() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        timeline.insert_events(connection, [("r1", Event("noted", "anna"))], 5.0)


@on_postgres
def test_what_is_to_be_delivered_again_in_that_moment_is_not_tidied_away(database: Database) -> None:
    """The row was taken for tidying up; whoever asked for it again was first."""
    store(database, numbered(1))
    told = {"message_id": "m1", "refund_id": "r1", "type": "refund.updated", "body": "{}", "created_at": 1.0}
    with database.write() as connection:
        connection.execute(insert(tables.outbox).values(**told, delivered_at=2.0, next_at=None))
    asked, deleted = Signal(), list[int]()

    def tidy_up() -> None:
        assert asked.wait(20)
        with database.write() as connection:
            deleted.append(outbox.delete_delivered(connection, 10.0, 10))

    tidier = Thread(target=tidy_up)
    tidier.start()
    with database.write() as connection:
        assert outbox.redeliver(connection, 20.0, ["m1"]) == 1
        asked.set()
        deadline = time.monotonic() + 20
        while not _is_anybody_waiting_for_a_lock(database) and time.monotonic() < deadline:
            time.sleep(0.02)
    tidier.join(20)
    assert deleted == [0]


def _is_anybody_waiting_for_a_lock(database: Database) -> bool:
    with database.read() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.exec_driver_sql(waiting).scalar_one())


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_look_that_is_noted_again_leaves_no_second_snapshot(database: Database) -> None:
    for at in (1.0, 2.0, 3.0):
        with database.write() as connection:
            processors.record_listing(connection, "stripe", at)
    with database.read() as connection:
        assert processors.last_listing(connection, "stripe") == (3.0, None)
        of_it = tables.snapshots.c.table_name == "processors"
        (count,) = connection.execute(select(func.count()).where(of_it)).one()
    assert count == 1


def test_more_payments_than_a_statement_has_room_for_are_marked(database: Database) -> None:
    many = [f"ch_x{number}" for number in range(70_000)]
    with database.write() as connection:
        payments.mark_refunded_elsewhere(connection, "stripe", [*many, "ch_2"])
        assert payments.refunded_elsewhere(connection, {"pay1", "pay2"}) == {"pay2"}


def test_by_what_more_legs_were_paid_than_a_statement_has_room_for_is_read(database: Database) -> None:
    store(database, a_refund(a_leg(1, processor_refund_id="re_1"), a_leg(2, payment_id="pay1")))
    unknown = [f"rf_x{number}-1" for number in range(70_000)]
    with database.read() as connection:
        assert object_ownership.references_of(connection, [*unknown, "r-1", "r-2"]) == {"r-1": "re_1"}
        assert object_ownership.references_of(connection, ["r-1", *unknown]) == {"r-1": "re_1"}


def test_a_persons_pause_is_not_weakened_by_a_programs(database: Database) -> None:
    with database.write() as connection:
        processors.pause(connection, "stripe", 1.0, by="refund-worker", code="x", reason="", until=5.0)
        assert processors.paused_processors(connection, 4.0) == {"stripe": 5.0}
        assert processors.paused_processors(connection, 5.0) == {}
        processors.pause(connection, "stripe", 2.0, by="op", code="by_hand", reason="fire")
        processors.pause(connection, "stripe", 3.0, by="refund-worker", code="x", reason="", until=5.0)
        assert processors.paused_processors(connection, 9e9) == {"stripe": None}
        assert processors.resume(connection, "stripe", 3.0)
        assert not processors.resume(connection, "stripe", 4.0)
        assert processors.paused_processors(connection, 1.0) == {}
        (row,) = processors.status_of_processors(connection)
    told = {name: row[name] for name in ("paused_by", "paused_at", "paused_until", "code", "reason")}
    assert told == dict.fromkeys(told) | {"paused_until": 3.0}, "when it ended"


def test_the_database_tells_the_time_and_it_does_not_depend_on_a_time_zone(database: Database) -> None:
    with database.read() as connection:
        assert abs(now(connection) - time.time()) < 5


def test_accounts_are_made_once(database: Database) -> None:
    with database.write() as connection:
        accounts.insert_missing_customers(connection, ["c", "d", "d"], 2.0)
    with database.read() as connection:
        rows = connection.execute(select(customers.c.customer_id, customers.c.bought).order_by(customers.c.customer_id))
        assert [tuple(row) for row in rows] == [("c", 200), ("d", 0)]
        assert connection.execute(select(events)).all() == []
