"""Refunds, their objects and their events are loaded exactly as they were stored."""

from __future__ import annotations

from dataclasses import fields, replace

from tests.domain.builders import a_leg, a_refund, an_object
from tests.store.stored_refunds import SENT, fetch, store

from refund_worker.domain.decision import Event, RefundObjectUpdate
from refund_worker.domain.refund import (
    Canceling,
    Kind,
    KnownRefundObject,
    Leg,
    ObjectState,
    RefundStatus,
    To,
)
from refund_worker.store import object_ownership, refund_objects, timeline
from refund_worker.store.database import Database


def a_leg_without_defaults() -> Leg:
    """Return a leg whose every stored field differs from its default."""
    return Leg(
        leg_id="r-1",
        refund_id="r",
        payment_id="pay1",
        processor="stripe",
        processor_payment_id="ch_1",
        amount_minor=999,
        currency="USD",
        credits=99,
        payment_credits=98,
        times_restored=2,
        canceling=Canceling.CALLED,
        processor_refund_id="re_9",
        reallocated=True,
        reversed_credits=1,
        replaces="r-0",
        unreturnable_minor=7,
        first_intent_at=0.5,
        blocked_by=("re_7", "re_8"),
        acknowledged_outside=("re_6",),
        **SENT,
    )


def test_refund_is_loaded_exactly_as_stored(database: Database) -> None:
    leg = a_leg_without_defaults()
    refund = a_refund(
        leg,
        kind=Kind.CREDIT_REFUND,
        to=To.SOURCE,
        transaction_id="t",
        currency="USD",
        note="note",
        requested_by_note="asked by mail",
        instructions_email="jane@example.com",
        destinations="payments",
        payee_id="payee-7",
        metadata={"b": "2", "a": "1"},
        status=RefundStatus.NEEDS_ATTENTION,
        version=5,
        of_correction=True,
        unapproved=True,
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
    assert blank == {"objects", "reports"}, (
        "every field but the objects (a table of their own) differs from its default"
    )
    store(database, refund)
    assert fetch(database, "r") == refund


def test_legs_are_loaded_in_the_order_of_their_numbers(database: Database) -> None:
    legs = [replace(a_leg(n), payment_id="pay1") for n in range(1, 13)]
    store(database, a_refund(*reversed(legs)))
    assert [leg.leg_id for leg in fetch(database, "r").legs] == [f"r-{n}" for n in range(1, 13)]


def test_refund_object_is_stored_with_its_latest_state(database: Database) -> None:
    store(database, a_refund())
    for status in ("pending", "succeeded"):
        seen = RefundObjectUpdate("r-1", ObjectState(status), an_object(status))
        with database.write() as connection:
            refund_objects.write_objects(connection, [("stripe", seen)], 1.0)
    assert fetch(database, "r").legs[0].objects == (KnownRefundObject("re_1", ObjectState.SUCCEEDED, 1),)
    with database.read() as connection:
        assert refund_objects.find_leg(connection, processor="stripe", processor_refund_id="re_1") == ("r", "r-1")
        assert refund_objects.find_leg(connection, processor="other", processor_refund_id="re_1") is None


def test_events_are_loaded_oldest_first(database: Database) -> None:
    store(database, a_refund())
    with database.write() as connection:
        timeline.insert_events(connection, [("r", Event(f"e{n}", "me")) for n in range(5)], 1.0)
    with database.read() as connection:
        assert [row["kind"] for row in timeline.events_of(connection, "r")] == [f"e{n}" for n in range(5)]


def test_references_of_more_legs_than_one_statement_takes_are_read(database: Database) -> None:
    store(database, a_refund(a_leg(1, processor_refund_id="re_1"), a_leg(2, payment_id="pay1")))
    unknown = [f"rf_x{number}-1" for number in range(70_000)]
    with database.read() as connection:
        assert object_ownership.references_of(connection, [*unknown, "r-1", "r-2"]) == {"r-1": "re_1"}
        assert object_ownership.references_of(connection, ["r-1", *unknown]) == {"r-1": "re_1"}
