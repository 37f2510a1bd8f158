"""Alarms: every error line of the program is one, each has a name from the registry, and its line carries the name."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from refund_worker.alarms import Alarm, alarm_of_event, alarm_of_payout_event, raise_alarm, runbook_link
from refund_worker.domain import (
    fallback,
    mismatch,
    next_step,
    operator_action,
    outside_refunds,
    payment_check,
    refund_object,
)
from refund_worker.domain.payouts import machine, objects
from refund_worker.domain.state_machine import LegOutcome
from refund_worker.logs import JsonLines
from tests.support.imports import PACKAGE
from tests.support.pages import ROOT

SOURCE = ROOT / "src" / PACKAGE
# The sandboxes are programs of their own, for tests and demonstrations.
OTHERS = ("alarms.py", "processors/sandbox/", "processors/paypal/sandbox/")
# Kinds of events that the code names by a variable or by a constant of another module.
KINDS = {
    "UNKNOWN_STATUS": [refund_object.UNKNOWN_STATUS],
    "REFUNDED_TWICE": [refund_object.REFUNDED_TWICE],
    "PAID_AFTER_REJECTION": [machine.PAID_AFTER_REJECTION],
    "PAID_TWICE": [objects.PAID_TWICE],
    "ANSWER_MISMATCH": [mismatch.ANSWER_MISMATCH],
    "BROKE": ["internal_error"],
    "outcome": ["leg_blocked"],  # refunds are off; a closed window displaces the leg without an alarm
    "REPORT_OVERDUE": [next_step.REPORT_OVERDUE],
    # What a reconciliation shows to a person, and where the fallback ends.
    "code": [
        *(operator_action.NOT_AT_PROCESSOR, mismatch.ANSWER_MISMATCH, refund_object.REFUNDED_TWICE),
        *(fallback.PAY_MANUALLY, fallback.NO_WAY_LEFT),
    ],
    "kind": ["funds_short"],  # and what `record_event` is called with, which stands here itself
    # The outcome of an object, whatever it is.
    "meaning.outcome": [f"leg_{outcome}" for outcome in refund_object.OUTCOME_OF_STATE.values()],
    # The payment's reading: its own event, or the code of the objection.
    "event or code": [
        *("payment_not_found", "payment_not_read"),
        *(payment_check.PAYMENT_MISMATCH, outside_refunds.REFUNDED_ELSEWHERE),
    ],
}


# The folders whose events are about payouts, with the names of variables that mean something else there.
PAYOUTS = ("domain/payouts/", "engine/payouts/")
OF_PAYOUTS = {"outcome": [f"leg_{outcome}" for outcome in refund_object.OUTCOME_OF_STATE.values()]}


def calls(files: str) -> Iterator[tuple[Path, ast.Call]]:
    """Yield every call in the files that match the pattern."""
    for path in sorted(SOURCE.rglob(files)):
        if not path.relative_to(SOURCE).as_posix().startswith(OTHERS):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield path, node


def about_payouts(path: Path) -> bool:
    return path.relative_to(SOURCE).as_posix().startswith(PAYOUTS)


def alarms_of(path: Path, kind: str) -> set[Alarm]:
    """Return the alarms that an event of this kind can have, whatever status came before it."""
    if about_payouts(path):
        return {alarm_of_payout_event(kind)}
    return {alarm_of_event(kind, status) for status in ("sending", "succeeded")}


def kinds_of(path: Path, call: ast.Call) -> list[str]:
    """Return the kinds of the event that a call records with an alarm; an empty list if it records none."""
    alarm = next((k.value for k in call.keywords if k.arg == "alarm"), None)
    if alarm is None or (isinstance(alarm, ast.Constant) and alarm.value is False):
        return []
    name = ast.unparse(call.func).rpartition(".")[2]
    if name in ("record_event", "Event", "hold_for_payment"):
        kind = call.args[3 if name == "hold_for_payment" else 0]
        if name == "hold_for_payment":
            return []  # it records the event itself, as "event or code"
        return [kind.value] if isinstance(kind, ast.Constant) else KINDS[ast.unparse(kind)]
    if name == "transition_leg":
        outcome = ast.unparse(call.args[1])
        known = OF_PAYOUTS.get(outcome) if about_payouts(path) else KINDS.get(outcome)
        return known or [f"leg_{LegOutcome[outcome.rpartition('.')[2]]}"]
    return []


def test_every_error_of_the_log_is_an_alarm() -> None:
    others = [
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path, call in calls("*.py")
        if ast.unparse(call.func) in ("log.error", "log.exception", "log.critical")
    ]
    assert others == []


def test_every_alarm_of_the_timeline_has_a_name() -> None:
    recorded = [(path, kind) for path, call in calls("*.py") for kind in kinds_of(path, call)]
    assert len({kind for _, kind in recorded}) > 15
    assert all(alarms_of(path, kind) for path, kind in recorded)


def test_every_name_is_raised_somewhere() -> None:
    """A name that nothing raises would have a runbook entry that nobody can need."""
    raised = {
        Alarm[ast.unparse(call.args[1]).rpartition(".")[2]]
        for _, call in calls("*.py")
        if ast.unparse(call.func) == "raise_alarm" and ast.unparse(call.args[1]).startswith("Alarm.")
    }
    for path, call in calls("*.py"):
        for kind in kinds_of(path, call):
            raised |= alarms_of(path, kind)
    assert set(Alarm) - raised == set()


@pytest.mark.parametrize(
    ("kind", "from_status", "code", "alarm"),
    [
        ("leg_object_failed", "succeeded", None, Alarm.LATE_FAILURE),
        ("leg_object_failed", "pending", None, Alarm.REFUND_STOPPED),
        ("leg_paid", "pending", None, Alarm.REFUNDED_TWICE),
        ("processor_paused", None, "api_key_expired", Alarm.SENDING_STOPPED),
        ("processor_paused", None, "restored_backup", Alarm.RESTORED_BACKUP),
        ("paid_by_hand_stands", "succeeded", None, Alarm.MANUAL_PAYMENT_COUNTS_AGAIN),
        ("answer_mismatch", "sending", None, Alarm.ANSWER_MISMATCH),
        ("report_overdue", "pending", None, Alarm.REFUND_STOPPED),
        ("manual_fallback", "failed", None, Alarm.REFUND_STOPPED),
        ("no_fallback_left", "failed", None, Alarm.REFUND_STOPPED),
    ],
)
def test_an_event_has_the_alarm_of_its_cause(
    kind: str, from_status: str | None, code: str | None, alarm: Alarm
) -> None:
    assert alarm_of_event(kind, from_status, code) is alarm


def test_the_line_of_an_alarm_carries_its_name_and_its_place(caplog: pytest.LogCaptureFixture) -> None:
    raise_alarm(logging.getLogger("refund_worker.x"), Alarm.SWEEP_FAILED, "a sweep failed after %d s", 3)
    (record,) = caplog.records
    line = json.loads(JsonLines("worker").format(record))
    assert (line["level"], line["message"]) == ("error", "alarm: a sweep failed after 3 s")
    assert (line["alarm"], line["runbook"]) == ("sweep_failed", "docs/runbook.md#sweep-failed")
    assert record.filename == Path(__file__).name
    assert runbook_link("amount_too_large") == "docs/runbook.md#amount-too-large"
