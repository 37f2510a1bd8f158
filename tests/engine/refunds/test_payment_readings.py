"""Readings of one payment that cross: the one that was asked for last counts, whichever answer comes last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select
from tests.support.engine_world import START, WORD, World
from tests.support.payment_check import HOUR

from refund_worker.domain.processor_calls import RecordedReply, Verify
from refund_worker.domain.processor_replies import PaymentRead, PaymentReading, PaymentReply, PaymentUnreadable
from refund_worker.domain.refund import Leg
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.store import payment_readings, tables

UNREADABLE = PaymentUnreadable("HTTP 403")


@pytest.fixture
def world(migrated_sqlite_url: str) -> Iterator[World]:
    """Return a world with a refund whose payment can be read."""
    made = World(migrated_sqlite_url)
    made.processor.reads_payments = True
    made.pay()
    made.withdraw(100)
    made.pass_time(HOUR)
    yield made
    made.close()


def refunded(minor: int) -> PaymentRead:
    return PaymentRead(PaymentReading(WORD.captured_minor, WORD.currency, refunded_minor=minor, live=False))


def legs_of(world: World) -> tuple[Leg, ...]:
    with world.database.read() as connection:
        (refund_id,) = connection.execute(select(tables.refunds.c.refund_id)).scalars()
    return world.refund(refund_id).legs


def answer(world: World, reply: PaymentReply, asked_at: float) -> None:
    """Record this answer now, to a question of `asked_at` (seconds after the start)."""
    (leg,) = legs_of(world)
    call = Verify(leg.leg_id, "stripe", "ch_1")
    record_replies(world.context, [RecordedReply(leg.refund_id, leg.leg_id, call, reply, START + asked_at)])


def facts(world: World) -> tuple[float, int, bool]:
    """Return when the stored reading was asked for, what was refunded elsewhere, and whether there is a reading."""
    with world.database.read() as connection:
        found = payment_readings.facts_of(connection, ["pay1"], ["stripe"])["pay1"]
    return found.read_at - START, found.outside_minor, found.reading is not None


def test_slow_answer_to_an_earlier_question_changes_nothing(world: World) -> None:
    answer(world, refunded(250), asked_at=20)
    assert facts(world) == (20, 250, True)
    answer(world, refunded(0), asked_at=10)
    assert facts(world) == (20, 250, True)
    answer(world, UNREADABLE, asked_at=10)
    assert facts(world) == (20, 250, True)


def test_answer_to_a_later_question_counts(world: World) -> None:
    answer(world, refunded(250), asked_at=20)
    answer(world, refunded(300), asked_at=20)  # of the same claim
    assert facts(world) == (20, 300, True)
    answer(world, refunded(0), asked_at=30)
    assert facts(world) == (30, 0, True)
    answer(world, UNREADABLE, asked_at=40)
    assert facts(world) == (40, 0, False)


def test_reading_in_the_future_holds_up_no_other(world: World) -> None:
    """The clock was put back since."""
    answer(world, refunded(250), asked_at=HOUR)
    world.now = START + 60
    answer(world, refunded(0), asked_at=50)
    assert facts(world) == (50, 0, True)


def test_question_is_never_later_than_its_answer(world: World) -> None:
    answer(world, refunded(250), asked_at=2 * HOUR)
    assert facts(world) == (HOUR, 250, True)
