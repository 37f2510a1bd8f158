"""Payees, payouts, their legs and payout runs are loaded exactly as they were stored."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

from sqlalchemy import Connection
from tests.store.stored_refunds import SENT

from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.payee import Payee
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, PayoutSource, PayoutStatus
from refund_worker.domain.payouts.runs import ApprovalCode, PayoutRun, RunStatus
from refund_worker.domain.payouts.transfers import Fault, Method, PayeeState, Step
from refund_worker.domain.refund import LegStatus
from refund_worker.store.database import Database
from refund_worker.store.payouts import payees, payouts, runs

PAYEE = Payee(
    payee_id="p",
    customer_id=None,
    processor="stripe",
    currency="USD",
    country="DE",
    method=Method.INSTANT,
    destination_id="d1",
    destination_kind=DestinationKind.STRIPE_ACCOUNT,
    destination_box="sealed",
    destination_masked="acct_1…",
    destination_changed_at=1.5,
    destination_ref="acct_1",
    destination_failure="account_closed",
    verdict=PayeeState.REFUSED,
    verdict_reason="rejected",
    verdict_needs=("an address", "a birthday"),
    verdict_act_by=2.5,
    verdict_read_at=3.5,
    paused_by="ann",
    paused_at=4.5,
    pause_reason="asked",
    blocked_by="po_0",
    version=7,
    created_at=5.5,
    updated_at=6.5,
)
RUN = PayoutRun(
    run_id="run",
    client="shop",
    idempotency_key="k",
    processor="stripe",
    currency="USD",
    minimum_minor=100,
    dry_run=True,
    status=RunStatus.AWAITING_APPROVAL,
    actor="ann",
    created_at=1.5,
    updated_at=2.5,
    progress="p",
    planned_payees=1,
    planned_minor=2,
    paid_payees=3,
    paid_minor=4,
    skipped_payees=5,
    available_minor=6,
    approval_codes=(ApprovalCode.VELOCITY, ApprovalCode.FUNDS_SHORT),
    period="2026-11-01",
    approved_by="bob",
    reason="checked",
    ended_at=3.5,
    version=8,
)
LEG = PayoutLeg(
    leg_id="po-1",
    payout_id="po",
    number=1,
    step=Step.TRANSFER,
    processor="stripe",
    amount_minor=999,
    currency="USD",
    fault=Fault.PROCESSOR,
    object_id="tr_9",
    canceling=True,
    undoes="tr_8",
    **SENT,
)
PAYOUT = Payout(
    payout_id="po",
    client="shop",
    idempotency_key="key",
    payee_id="p",
    processor="stripe",
    amount_minor=999,
    currency="USD",
    description="October",
    source=PayoutSource.WITHDRAWAL,
    method=Method.INSTANT,
    country="DE",
    destination_id="d1",
    destination_box="sealed",
    destination_masked="acct_1…",
    connected_account="acct_1",
    status=PayoutStatus.NEEDS_ATTENTION,
    version=5,
    created_at=1.5,
    updated_at=2.5,
    requested_by="ann",
    requested_by_note="asked by mail",
    refund_leg_id="r-1",
    run_id="run",
    ledger_posted=True,
    given_back=True,
    return_count=2,
    times_paid=3,
    paid_at=3.5,
    settles_at=4.5,
    hold_code="interval",
    hold_until=5.5,
    failure_code="code",
    failure_message="message",
    fault=Fault.PAYEE,
    act_by=6.5,
    lost_minor=9,
    priority=1,
    due_at=7.5,
    lease_until=1_800_000_000.123456,
    lease_token="lease",
    legs=(LEG,),
)
# The objects have a table of their own, and the others name rows that these tests do not make.
LEFT_OUT = {"objects", "unknown_objects", "refund_id", "file_id"}


# A payout and a leg that were just accepted have the defaults in all fields that a decision may change.
NOT_BEGUN: dict[str, Any] = {
    "ledger_posted": False,
    "given_back": False,
    "return_count": 0,
    "times_paid": 0,
    "lost_minor": 0,
    **dict.fromkeys(("paid_at", "settles_at", "act_by", "due_at", "lease_until", "lease_token")),
    **dict.fromkeys(("hold_code", "hold_until", "failure_code", "failure_message", "fault")),
}
NOT_SENT: dict[str, Any] = {
    "status": LegStatus.PLANNED,
    "attempt": 1,
    "sends": 0,
    "retry_count": 0,
    "blocked_count": 0,
    "held": False,
    "canceling": False,
    **dict.fromkeys(("first_sent_at", "last_sent_at", "in_doubt", "failure_code", "failure_message", "fault")),
    **dict.fromkeys(("attention_code", "object_id", "manual_reference", "next_at", "listed_at")),
}


def insert(connection: Connection, payout: Payout) -> None:
    payees.insert_payee(connection, PAYEE, payees.DestinationNames("hash", PAYEE.destination_ref))
    assert runs.insert_run(connection, RUN)
    payouts.insert_payouts(connection, [(payout, "{}")])


def test_payee_run_and_payout_are_loaded_exactly_as_inserted(database: Database) -> None:
    stored = (PAYOUT, LEG, PAYEE, RUN)
    blank = {f.name for value in stored for f in fields(value) if getattr(value, f.name) == f.default}
    assert blank == LEFT_OUT, "every other field differs from its default"
    with database.write() as connection:
        insert(connection, PAYOUT)
        assert payouts.load(connection, ["po"]) == [PAYOUT]
        assert payees.load(connection, ["p"]) == {"p": PAYEE}
        assert runs.find_run(connection, "run") == RUN


def test_payout_is_loaded_exactly_as_a_decision_changed_it(database: Database) -> None:
    leg = replace(LEG, **NOT_SENT)
    queued = replace(PAYOUT, status=PayoutStatus.QUEUED, version=4, updated_at=1.5, legs=(leg,), **NOT_BEGUN)
    with database.write() as connection:
        insert(connection, queued)
        payouts.write_payouts(connection, [PayoutDecision(before=queued, after=PAYOUT)])
        assert payouts.load(connection, ["po"]) == [PAYOUT]


def test_run_is_loaded_exactly_as_it_was_changed(database: Database) -> None:
    begun = PayoutRun(**{f.name: getattr(RUN, f.name) for f in fields(RUN) if f.default is MISSING})
    with database.write() as connection:
        assert runs.insert_run(connection, begun)
        written = runs.write_run(connection, begun, RUN, 9.5)
        assert written == replace(RUN, version=begun.version + 1, updated_at=9.5)
        assert runs.find_run(connection, "run") == written
