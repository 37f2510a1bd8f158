"""A captured payment records itself when an event tells of it; the fetched payment decides, and nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, select
from tests.engine.processor_sync.test_thin_events import told
from tests.support.engine_world import START, World, assert_books_balance

from refund_worker.domain.processor_replies import (
    ChargedPayment,
    ChargedRead,
    ChargedReply,
    Misconfigured,
    NotReadable,
    Unanswered,
)
from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.self_recording import RecordingKeys
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.accounts.self_recording import record_charged
from refund_worker.engine.processor_sync import payment_events, webhook_inbox
from refund_worker.engine.views.payment_objects import payment
from refund_worker.errors import AlreadyRecorded
from refund_worker.store import inbox, payment_refs, tables

KEYS = RecordingKeys("user", "credits")
GOOD = {"user": "c", "credits": "70"}


def charge(*metadata: Mapping[str, str], **changes: Any) -> ChargedRead:
    made = ChargedPayment(
        processor_payment_id="ch_7",
        payment_refs=("ch_7", "pi_7"),
        captured_minor=700,
        refunded_minor=0,
        currency="USD",
        succeeded=True,
        created_at=datetime.fromtimestamp(START, UTC),
        metadata=metadata or (GOOD,),
    )
    return ChargedRead(replace(made, **changes))


def event(kind: str = "charge.succeeded", object_id: str = "ch_7") -> dict[str, Any]:
    its = "payment_intent" if object_id.startswith("pi_") else "charge"
    return {
        "type": kind,
        "data": {"object": {"id": object_id, "object": its, "amount": 1, "metadata": {"user": "eve"}}},
    }


class Account:
    """The answers of the processor about its payments."""

    def __init__(self, world: World) -> None:
        self.reply: ChargedReply = charge()
        self.asked: list[str] = []
        world.processor.fetch_payment = self.fetch_payment  # type: ignore[method-assign]

    async def fetch_payment(self, processor_payment_id: str) -> ChargedReply:
        self.asked.append(processor_payment_id)
        return self.reply


@pytest.fixture
def account(world: World) -> Account:
    world.context = replace(world.context, recording=KEYS)
    return Account(world)


def recorded(world: World, payment_id: str = "ch_7") -> dict[str, Any]:
    with world.database.read() as connection:
        return dict(payment(connection, world.context, payment_id))


def ends(world: World) -> list[str | None]:
    with world.database.read() as connection:
        query = select(tables.inbox.c.outcome).order_by(tables.inbox.c.event_id)
        return list(connection.execute(query).scalars())


def balance(world: World) -> int:
    return world.account.balance


@pytest.mark.parametrize(
    "kind", ["charge.succeeded", "charge.captured", "payment_intent.succeeded", "v1.charge.succeeded"]
)
def test_a_new_payment_records_itself_once(world: World, account: Account, kind: str) -> None:
    told_of = event(kind, "pi_7" if "intent" in kind else "ch_7")
    assert told(world, told_of) == payment_events.RECORDED
    assert told(world, event(object_id="ch_7"), event_id="evt_2") == payment_events.RECORDED_BEFORE
    assert told(world, event(object_id="pi_7"), event_id="evt_3") == payment_events.RECORDED_BEFORE
    assert (len(account.asked), balance(world)) == (1, 70)
    shown = recorded(world)
    assert (shown["processor_payment_ids"], shown["recorded_by"]) == (["ch_7", "pi_7"], "webhook")
    assert (shown["customer_id"], shown["amount_minor"], shown["captured_at"][:4]) == ("c", 700, "2027")
    assert_books_balance(world.database)


def test_two_events_of_one_payment_at_once_record_it_once(world: World, account: Account) -> None:
    world.context = replace(world.context, recording=None)
    for number, its in enumerate((event(), event("payment_intent.succeeded", "pi_7"))):
        assert told(world, its, event_id=f"evt_{number}") == "not about a refund"
    with world.database.write() as connection:
        connection.execute(tables.inbox.update().values(taken_at=None, outcome=None))
    world.context = replace(world.context, recording=KEYS)
    assert webhook_inbox.process_inbox(world.context) == 2
    assert balance(world) == 70


def test_a_payment_that_breaks_this_program_holds_up_no_other_event(world: World, account: Account) -> None:
    """The adapter promises a time and gives none; the refund of another event and another payment are recorded."""
    good, broken = charge(), charge(processor_payment_id="ch_8", payment_refs=("ch_8",), created_at=None)

    async def fetch_payment(processor_payment_id: str) -> ChargedReply:
        return broken if processor_payment_id == "ch_8" else good

    world.processor.fetch_payment = fetch_payment  # type: ignore[method-assign]
    world.pay(1)
    refund = world.refund_in_the_dashboard()
    refunded = {"id": refund.processor_refund_id, "object": "refund"}
    recorded_refund = {"type": "refund.created", "data": {"object": refunded}}
    with world.database.write() as connection:
        for number, its in enumerate((event(object_id="ch_8"), event(), recorded_refund)):
            assert inbox.insert_event(connection, "stripe", f"evt_{number}", its["type"], json.dumps(its), world.now)
    webhook_inbox.process_inbox(world.context)
    assert ends(world) == [None, payment_events.RECORDED, webhook_inbox.UNKNOWN_REFUND]
    with world.database.write() as connection:
        connection.execute(tables.inbox.update().values(tries=webhook_inbox.TRIES_MAX - 1))
    world.pass_time(86_400)
    webhook_inbox.process_inbox(world.context)
    assert ends(world)[0] == payment_events.BROKEN


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (charge({"credits": "70"}), "payment not recorded: its metadata names no customer"),
        (charge({"user": "c"}), "payment not recorded: its metadata names no credits"),
        (charge(GOOD, {"user": "d"}), "payment not recorded: the metadata of its objects contradict each other"),
        (charge(GOOD, {"credits": "7"}), "payment not recorded: the metadata of its objects contradict each other"),
        (charge({**GOOD, "user": "a\u200b"}), "payment not recorded: the customer's id in its metadata is unusable"),
        (charge({**GOOD, "credits": "7.5"}), "payment not recorded: its number of credits is unusable"),
        (charge({**GOOD, "credits": "-7"}), "payment not recorded: its number of credits is unusable"),
        (charge(succeeded=False), "no payment: nothing was captured"),
        (charge(captured_minor=0), "no payment: nothing was captured"),
        (NotReadable("403"), payment_events.NOT_READABLE),
    ],
)
def test_what_is_not_clear_is_shown_and_not_recorded(
    world: World, account: Account, reply: ChargedReply, outcome: str
) -> None:
    account.reply = reply
    assert told(world, event()) == outcome
    with world.database.read() as connection:
        assert payment_refs.payments_of_refs(connection, "stripe", ["ch_7", "pi_7"]) == {}
        assert connection.execute(tables.customers.select()).all() == []


def test_credits_of_charge_and_intent_complete_each_other(world: World, account: Account) -> None:
    account.reply = charge({"user": "c"}, {"credits": "70", "user": "c"})
    assert told(world, event()) == payment_events.RECORDED


def test_credits_by_money_are_rounded_half_up(world: World, account: Account) -> None:
    world.context = replace(world.context, recording=RecordingKeys("user", None, Decimal("1.5")))
    account.reply = charge({"user": "c"}, captured_minor=700)
    assert told(world, event()) == payment_events.RECORDED
    assert balance(world) == 11


def test_other_events_of_a_charge_record_nothing(world: World, account: Account) -> None:
    for number, kind in enumerate(("charge.updated", "charge.refunded", "payment_intent.created", "charge.failed")):
        assert told(world, event(kind), event_id=f"evt_{number}") == "not about a refund"
    assert account.asked == []


def test_an_unanswered_question_is_asked_again(world: World, account: Account) -> None:
    account.reply = Unanswered("timeout")
    assert told(world, event()) is None
    account.reply = Misconfigured("resource_missing", "no such charge")
    world.pass_time(100)
    webhook_inbox.process_inbox(world.context)
    account.reply = charge()
    world.pass_time(1_000)
    assert webhook_inbox.process_inbox(world.context) == 1
    assert balance(world) == 70


def test_a_later_post_of_the_backend_names_the_same_payment(world: World, account: Account) -> None:
    assert told(world, event()) == payment_events.RECORDED
    mine = PaymentRecord(
        payment_id="order-7", customer_id="c", processor="stripe", processor_payment_id="pi_7", amount_minor=700,
        currency="USD", credits=70, captured_at=START + 60,
    )  # fmt: skip
    (other,) = record_payments(world.context, [replace(mine, credits=71)])
    assert isinstance(other, AlreadyRecorded)
    assert record_payments(world.context, [mine]) == [Recorded(new=False)]
    assert recorded(world, "order-7") == recorded(world)
    assert (recorded(world)["payment_id"], recorded(world)["other_ids"]) == ("ch_7", ["order-7"])
    assert balance(world) == 70


def test_a_payment_of_the_backend_stays_as_it_is(world: World, account: Account) -> None:
    world.pay(7, processor_payment_id="pi_7", credits=5)
    assert told(world, event()) == payment_events.RECORDED_BEFORE
    assert recorded(world, "pay7")["processor_payment_ids"] == ["ch_7", "pi_7"]
    assert balance(world) == 5


def test_a_closed_payment_does_not_record_itself_again(world: World, account: Account) -> None:
    world.pay(7)
    with world.database.write() as connection:
        connection.execute(delete(tables.payment_refs))
    assert told(world, event()) == payment_events.RECORDED_BEFORE
    assert balance(world) == 100


@pytest.mark.parametrize("is_alias", [False, True])
def test_a_dry_run_answers_as_the_run_where_an_id_is_taken(world: World, is_alias: bool) -> None:
    """The charge's id is the backend's own id, or second id, of another payment."""
    record = PaymentRecord(
        payment_id="ch_8" if is_alias else "ch_7",
        customer_id="c",
        processor="stripe",
        processor_payment_id="ch_8",
        amount_minor=500,
        currency="USD",
        credits=50,
        captured_at=1.0,
        recorded_by="import" if is_alias else None,
    )
    for each in (record, replace(record, payment_id="ch_7", recorded_by=None)):
        record_payments(world.context, [each])
    charged = [charge().payment, replace(charge().payment, processor_payment_id="ch_9", payment_refs=("ch_9",))]
    dry, real = (
        record_charged(world.context, "stripe", charged, KEYS, recorded_by="import", dry_run=dry_run)
        for dry_run in (True, False)
    )
    for answers in (dry, real):
        assert isinstance(answers[0], AlreadyRecorded)
        assert answers[1] == Recorded(new=True)
