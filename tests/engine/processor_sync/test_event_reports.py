"""A processor that cannot be asked: its signed events are the outcome, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from tests.engine.claims.claim_worlds import balance_of
from tests.support.engine_world import POLICY, START, World, assert_books_balance
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.context import NoLimit
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.engine.processor_sync.sync_refund import Access, sync_refund
from refund_worker.errors import ActionNotAllowed
from refund_worker.processors.accounts import Account, Accounts
from refund_worker.processors.base import AccountSettings, Capabilities, EventHint, ProcessorEntry, Webhooks
from refund_worker.store import inbox, processors, tables
from refund_worker.store.installation import installation_id

DAY = 86_400.0
CAPABILITIES = Capabilities(
    key_seconds=7 * DAY,
    key_use_seconds=6 * DAY,
    finds_refunds=False,
    lists_refunds=False,
    list_proves_absence=False,
    answers_are_final=False,
    answers_are_outcomes=False,
    reads_refunds=False,
    report_seconds=5 * DAY,
    partial_refunds=True,
    cancels=False,
    rate_per_second=0.0,
    sources={},
)


def report(kind: str, body: str) -> RefundObject | None:
    event: Mapping[str, Any] = json.loads(body)
    if kind != "refund":
        return None
    return RefundObject(
        processor_refund_id=event["refund"],
        status=event["status"],
        amount_minor=event["amount"],
        currency="USD",
        payment_refs=("ch_1",),
        leg_id=event["leg"],
        attempt=1,
        failure_code=event.get("why"),
        installation=event.get("installation"),
        created_at=datetime.fromtimestamp(START, UTC),
    )


def hint(kind: str, body: str) -> EventHint | None:
    told = report(kind, body)
    return None if told is None else EventHint(told.processor_refund_id, told.leg_id)


ENTRY = ProcessorEntry(
    name="silent",
    capabilities=CAPABILITIES,
    make=lambda name, settings, timeout_seconds: ScriptedProcessor(name),
    webhooks=Webhooks(
        verify_event=lambda settings, headers, body, now: None,
        event_name=lambda body: ("e", "refund"),
        event_hint=hint,
        event_subject=lambda kind, body: None,
        event_report=report,
        signature_header="X",
        signature_example="x",
        event_schema={},
    ),
)
OTHER = "silent:other"
ACCOUNTS = Accounts({name: Account(name=name, entry=ENTRY, settings=AccountSettings()) for name in ("silent", OTHER)})


@pytest.fixture
def silent(migrated_sqlite_url: str) -> Iterator[World]:
    """Return a world whose only processor tells outcomes by events alone. The customer's payment is at one account."""
    adapters = {name: ScriptedProcessor(name) for name in ACCOUNTS}
    made = World(
        migrated_sqlite_url,
        accounts=ACCOUNTS,
        processors=adapters,
        policy=replace(POLICY, processors=ACCOUNTS.rules),
    )
    made.processor = adapters["silent"]
    made.pay(processor="silent", asked_account="silent")
    made.processor.script("ch_1", "pending")
    yield made
    made.close()


def event(
    world: World, name: str, status: str, leg: str | None, amount: int = 200, *, account: str = "silent", **more: str
) -> str | None:
    """Store a verified event about the refund re_1, process it, and return how it ended."""
    with world.database.write() as connection:
        told = {"refund": "re_1", "status": status, "leg": leg, "amount": amount}
        body = json.dumps(told | {"installation": installation_id(connection)} | more)
        assert inbox.insert_event(connection, account, name, "refund", body, world.now)
    webhook_inbox.process_inbox(world.context)
    with world.database.read() as connection:
        its = tables.inbox.c
        query = select(its.outcome).where(its.event_id == name, its.processor == account)
        outcome: str | None = connection.execute(query).scalar_one()
    return outcome


def test_event_is_the_outcome_and_the_processor_is_never_asked(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work_for(DAY)
    assert silent.refund(refund_id).status is RefundStatus.PENDING
    assert event(silent, "e1", "succeeded", f"{refund_id}-1") == webhook_inbox.PROCESSED
    assert silent.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert event(silent, "e2", "failed", f"{refund_id}-1", why="returned") == webhook_inbox.PROCESSED
    silent.work_for(DAY)
    assert silent.refund(refund_id).status is RefundStatus.FAILED
    assert silent.processor.asked == []
    assert len(silent.processor.sends) == 1


def test_lost_answer_is_settled_by_the_event(silent: World) -> None:
    silent.processor.rescript("ch_1", "pays_silently")
    refund_id = silent.withdraw(20)
    silent.work()
    assert event(silent, "e1", "succeeded", f"{refund_id}-1") == webhook_inbox.PROCESSED
    assert silent.refund(refund_id).status is RefundStatus.SUCCEEDED
    silent.work_for(10 * DAY)
    assert len(silent.processor.sends) == 1


def test_event_of_another_installation_is_not_ours(silent: World) -> None:
    silent.processor.rescript("ch_1", "pays_silently")
    refund_id = silent.withdraw(20)
    silent.work()
    event(silent, "e1", "succeeded", f"{refund_id}-1", installation="inst_of_others")
    assert silent.refund(refund_id).status is RefundStatus.SENDING


def test_event_of_another_account_settles_nothing_whatever_ids_it_has(silent: World) -> None:
    """A person who can sign for one account could copy our ids, and the id of the payment, from another."""
    silent.processor.rescript("ch_1", "pays_silently")
    refund_id = silent.withdraw(20)
    silent.work()
    assert event(silent, "e1", "succeeded", f"{refund_id}-1", account=OTHER) == webhook_inbox.UNKNOWN_REFUND
    assert silent.refund(refund_id).status is RefundStatus.SENDING
    with silent.database.read() as connection:
        its = connection.execute(select(tables.inbox)).mappings().all()
        assert webhook_inbox.refunds_of_events(connection, silent.context, its) == {}
    assert event(silent, "e1", "succeeded", f"{refund_id}-1") == webhook_inbox.PROCESSED
    assert silent.refund(refund_id).status is RefundStatus.SUCCEEDED
    with silent.database.read() as connection:
        its = connection.execute(select(tables.inbox)).mappings().all()
        assert webhook_inbox.refunds_of_events(connection, silent.context, its) == {("silent", "e1"): refund_id}


def test_event_with_another_amount_is_not_believed(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work()
    event(silent, "e1", "succeeded", f"{refund_id}-1", amount=199)
    assert silent.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION


def test_event_about_a_refund_of_others_changes_none_of_ours(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work()
    body = json.dumps({"refund": "re_of_others", "status": "succeeded", "leg": None, "amount": 300})
    with silent.database.write() as connection:
        inbox.insert_event(connection, "silent", "e1", "refund", body, silent.now)
    webhook_inbox.process_inbox(silent.context)
    assert silent.refund(refund_id).status is RefundStatus.PENDING


def test_event_counts_while_the_processor_refuses_our_key(silent: World) -> None:
    """Nothing is asked, so an open circuit does not make the outcome wait."""
    refund_id = silent.withdraw(20)
    silent.work()
    until = silent.now + 300
    with silent.database.write() as connection:
        processors.pause(
            connection, "silent", silent.now, by="refund-worker", code="http_401", reason="no", until=until
        )
    assert event(silent, "e1", "succeeded", f"{refund_id}-1") == webhook_inbox.PROCESSED


def test_missing_event_is_shown_to_a_person_in_time(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work_for(4.9 * DAY)
    assert silent.refund(refund_id).status is RefundStatus.PENDING
    silent.work_for(0.2 * DAY)
    assert silent.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert silent.refund(refund_id).legs[0].attention_code == "report_overdue"
    assert silent.processor.asked == []


def overdue(world: World) -> str:
    """Return a refund of 20 credits that was accepted and about which no event came."""
    refund_id = world.withdraw(20)
    world.work_for(6 * DAY)
    return refund_id


def test_person_cannot_say_anything_before_the_event_is_overdue(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work_for(4 * DAY)
    with pytest.raises(ActionNotAllowed):
        silent.command(refund_id, Action.RESOLVE, "transfer-7")


@pytest.mark.parametrize(
    ("reference", "status", "balance"),
    [("transfer-7", RefundStatus.SUCCEEDED, 80), (None, RefundStatus.FAILED, 100)],
)
def test_person_ends_a_refund_whose_event_never_comes(
    silent: World, reference: str | None, status: RefundStatus, balance: int
) -> None:
    refund_id = overdue(silent)
    silent.command(refund_id, Action.RESOLVE, reference)
    silent.work_for(10 * DAY)
    assert (silent.refund(refund_id).status, balance_of(silent)) == (status, (balance, 0))
    assert (len(silent.processor.sends), silent.processor.asked) == (1, [])
    assert_books_balance(silent.database)


@pytest.mark.parametrize(
    ("reference", "attention", "status"),
    [
        ("re_1", None, RefundStatus.SUCCEEDED),
        ("transfer-7", "refunded_twice", RefundStatus.NEEDS_ATTENTION),
        (None, None, RefundStatus.SUCCEEDED),
    ],
)
def test_late_event_of_success_meets_what_the_person_said(
    silent: World, reference: str | None, attention: str | None, status: RefundStatus
) -> None:
    """The object's own id as the reference is no second payment. Returned credits are taken back."""
    refund_id = overdue(silent)
    silent.command(refund_id, Action.RESOLVE, reference)
    silent.work()
    event(silent, "e1", "succeeded", f"{refund_id}-1")
    silent.work()
    refund = silent.refund(refund_id)
    assert (refund.legs[0].attention_code, refund.status, balance_of(silent)) == (attention, status, (80, 0))
    assert_books_balance(silent.database)


def test_late_event_of_failure_leaves_the_persons_payment(silent: World) -> None:
    refund_id = overdue(silent)
    silent.command(refund_id, Action.RESOLVE, "transfer-7")
    event(silent, "e1", "failed", f"{refund_id}-1", why="returned")
    silent.work()
    assert (silent.refund(refund_id).status, balance_of(silent)) == (RefundStatus.SUCCEEDED, (80, 0))
    assert_books_balance(silent.database)


def test_sync_of_such_a_refund_asks_nothing_and_changes_nothing(silent: World) -> None:
    refund_id = silent.withdraw(20)
    silent.work()
    access = Access(lambda: {"silent": silent.processor}, NoLimit)
    assert sync_refund(silent.context, access, refund_id).status is RefundStatus.PENDING
    assert silent.processor.asked == []
