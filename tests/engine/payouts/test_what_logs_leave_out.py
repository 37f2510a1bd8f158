"""The log says of a compliance outcome no more than the metrics do."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import ObjectState

Make = Callable[..., PayoutWorld]


@pytest.mark.parametrize("code", ["REGULATORY_BLOCKED", "RR04"])
def test_compliance_code_is_in_no_log_line(world: PayoutWorld, code: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="refund_worker")
    world.earn("e1", 1_000)
    payout_id = world.ask(700)
    world.settle()
    failed = world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code=code, fault=Fault.COMPLIANCE)
    world.report(payout_id, failed)
    assert world.payout(payout_id).failure_code == code
    (ended,) = [vars(record) for record in caplog.records if record.getMessage() == "payout ended"]
    assert (ended["payout_id"], ended["status"], ended["code"]) == (payout_id, "failed", REFUSED_BY_PROCESSOR)
    assert [record for record in caplog.records if code in str(vars(record))] == []


def test_compliance_refusal_is_in_no_log_line(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="refund_worker")
    code = "REGULATORY_BLOCKED"
    world = make_world(rules={"refusal_faults": {code: Fault.COMPLIANCE}})
    world.earn("e1", 1_000)
    payout_id = world.ask(700)
    world.route.answers[f"{payout_id}-1:1"] = Refused(code, "the receiver cannot be paid")
    world.settle()
    assert (world.payout(payout_id).failure_code, world.payout(payout_id).fault) == (code, Fault.COMPLIANCE)
    said = [vars(record).get("code") for record in caplog.records if record.getMessage() == "call answered"]
    assert said == [REFUSED_BY_PROCESSOR]
    assert [record for record in caplog.records if code in str(vars(record))] == []
