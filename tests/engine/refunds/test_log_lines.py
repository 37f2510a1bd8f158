"""The log of a refund: one line for each step, after its transaction is committed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.orm import Session
from tests.support.engine_world import World, credit_refund, withdrawal
from tests.support.replies import REFUSED
from tests.support.reruns import rerun_at

from refund_worker import request_refund
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, Blocked, Denied, Unanswered
from refund_worker.domain.state_machine import Action
from refund_worker.engine.refunds.process import claim_due
from refund_worker.engine.refunds.replies import record_replies, write_replies


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "refund_worker")


def steps(caplog: pytest.LogCaptureFixture, *names: str) -> list[tuple[Any, ...]]:
    """Return (message, the fields of these names) of each line."""
    return [(r.getMessage(), *(getattr(r, name, None) for name in names)) for r in caplog.records]


def test_each_step_of_a_refund_is_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    refund_id = world.withdraw(50)
    world.work()
    assert steps(caplog, "processor", "call", "outcome", "code", "status") == [
        ("refund accepted", None, None, None, None, None),
        ("call sent", "stripe", "send", None, None, None),
        ("call answered", "stripe", "send", "answered", "succeeded", None),
        ("refund ended", None, None, None, None, "succeeded"),
    ]
    assert {getattr(caplog.records[i], "refund_id", None) for i in (0, 3)} == {refund_id}
    caplog.clear()
    assert world.withdraw(50) == refund_id  # the same key again
    assert caplog.records == []


def test_line_of_an_answer_has_its_class_and_code(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.processor.script("ch_1", REFUSED)
    world.withdraw(50)
    world.work()
    assert steps(caplog, "outcome", "code")[2:] == [
        ("call answered", "refused", "expired_or_canceled_card"),
        ("refund ended", None, "expired_or_canceled_card"),
    ]
    caplog.clear()
    world.processor.script("ch_1", Unanswered("the connection broke"))
    world.withdraw(40, "two")
    world.work()
    assert ("call answered: the connection broke", "unanswered", None) in steps(caplog, "outcome", "code")


def test_refund_without_a_call_is_logged_as_ended_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.spend("t", 50)
    world.request(credit_refund(20))
    world.work()
    canceled = world.withdraw(10, "two")
    world.command(canceled, Action.CANCEL)
    assert [line for line in steps(caplog, "status") if line[0] == "refund ended"] == [
        ("refund ended", "succeeded"),
        ("refund ended", "canceled"),
    ]


def test_nothing_is_logged_of_a_transaction_that_is_rolled_back(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.spend("t", 50)
    world.request(credit_refund(20))
    caplog.clear()

    def fail(connection: Connection) -> None:
        assert claim_due(connection, world.context).claimed == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.database.run(fail)
    assert caplog.records == []
    world.work()
    assert steps(caplog) == [("refund ended",)]


def test_request_in_a_callers_transaction_logs_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    engine = create_engine(world.database.url)
    with Session(engine) as session, session.begin():
        request_refund(session, withdrawal(5))
    engine.dispose()
    assert caplog.records == []


def test_alarm_follows_the_commit_and_comes_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    refund_id = world.withdraw(50)
    world.work()
    (refund_object,) = world.processor.objects.values()
    lost = replace(refund_object, status="failed", failure_code="lost_or_stolen_card")
    report = RecordedReply(refund_id, f"{refund_id}-1", None, Answered(lost))
    caplog.clear()

    def fail(connection: Connection) -> None:
        write_replies(connection, world.context, [report])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.database.run(fail)
    assert caplog.records == []
    for _ in range(2):
        record_replies(world.context, [report])
    raised = [line for line in steps(caplog, "alarm", "refund_id", "processor") if line[1]]
    assert raised == [(f"alarm: leg_object_failed on refund {refund_id}", "late_failure", refund_id, "stripe")]


def test_alarm_of_a_pause_comes_once_when_its_transaction_reruns(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.pay()
    world.processor.script("ch_1", Denied("http_401", "no key"))
    world.withdraw(50)
    with rerun_at(world.database, "INSERT INTO events", after="UPDATE processors SET alarmed_at") as failed:
        world.work()
    assert failed
    assert [line for line in steps(caplog, "alarm") if line[1]] == [
        ("alarm: nothing more is sent to stripe: http_401: no key", "sending_stopped")
    ]


def test_line_of_a_stopped_refund_leads_to_its_code(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "empty"))
    refund_id = world.withdraw(50)
    world.work()
    assert [line for line in steps(caplog, "alarm", "code", "runbook", "refund_id") if line[1]] == [
        (
            f"alarm: leg_blocked on refund {refund_id}",
            "refund_stopped",
            "balance_insufficient",
            "docs/runbook.md#balance-insufficient",
            refund_id,
        )
    ]


def test_line_of_stopped_sending_leads_to_its_code(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.processor.script("ch_1", Denied("api_key_expired", "Expired API key"))
    world.withdraw(50)
    world.work()
    (alarm,) = [line for line in steps(caplog, "alarm", "code", "runbook") if line[1]]
    assert alarm[1:] == ("sending_stopped", "api_key_expired", "docs/runbook.md#api-key-expired")
