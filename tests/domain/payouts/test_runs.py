"""The periods of the schedule, and the changes of a run's status."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from refund_worker.domain.payouts.runs import (
    RUN_ENDS,
    RUN_TRANSITIONS,
    ApprovalCode,
    PayoutRun,
    RowCode,
    RunRow,
    RunSchedule,
    RunStatus,
    row_to_pay,
)
from refund_worker.errors import ActionNotAllowed

RUN = PayoutRun(
    run_id="r",
    client="c",
    idempotency_key="k",
    processor="stripe",
    currency="USD",
    minimum_minor=0,
    dry_run=False,
    status=RunStatus.PLANNING,
    actor="ann",
    created_at=1.0,
    updated_at=1.0,
)


@pytest.mark.parametrize(
    ("schedule", "now", "period"),
    [
        (RunSchedule(), "2026-11-29T12:00:00", None),
        (RunSchedule("daily"), "2026-11-29T00:00:00", "2026-11-29"),
        (RunSchedule("daily"), "2026-11-29T23:59:59", "2026-11-29"),
        (RunSchedule("weekly", 0), "2026-11-29T23:59:59", "2026-11-23"),  # Sunday
        (RunSchedule("weekly", 0), "2026-11-30T00:00:00", "2026-11-30"),
        (RunSchedule("weekly", 6), "2026-11-30T00:00:00", "2026-11-29"),
        (RunSchedule("monthly", 1), "2026-11-30T23:59:59", "2026-11-01"),
        (RunSchedule("monthly", 28), "2026-12-27T23:59:59", "2026-11-28"),
        (RunSchedule("monthly", 28), "2026-12-28T00:00:00", "2026-12-28"),
        (RunSchedule("monthly", 15), "2027-01-14T00:00:00", "2026-12-15"),
        (RunSchedule("monthly", 28), "2027-03-01T00:00:00", "2027-02-28"),
    ],
)
def test_period_is_named_by_its_first_day_in_utc(schedule: RunSchedule, now: str, period: str | None) -> None:
    assert schedule.period(datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()) == period


def test_status_changes_only_as_the_table_says() -> None:
    for before, after in product(RunStatus, RunStatus):
        run = PayoutRun(**{name: getattr(RUN, name) for name in RUN.__dataclass_fields__} | {"status": before})
        if after in RUN_TRANSITIONS[before]:
            assert (run.become(after, 2.0).ended_at == 2.0) == (after in RUN_ENDS)
        else:
            with pytest.raises(ActionNotAllowed):
                run.become(after, 2.0)


def test_reason_for_approval_is_noted_once() -> None:
    short = RUN.with_approval_code(ApprovalCode.FUNDS_SHORT)
    assert short.with_approval_code(ApprovalCode.FUNDS_SHORT).approval_codes == (ApprovalCode.FUNDS_SHORT,)


@pytest.mark.parametrize(
    ("now", "paid", "carried", "code"),
    [(100, 100, 5, "above_maximum"), (130, 100, 35, "above_maximum"), (99, 99, 5, "changed")],
)
def test_no_more_than_planned_is_paid(now: int, paid: int, carried: int, code: str) -> None:
    planned = RunRow(payee_id="p", amount_minor=100, carried_minor=5, code=RowCode.ABOVE_MAXIMUM)
    row = row_to_pay(planned, RunRow(payee_id="p", amount_minor=now, carried_minor=5))
    assert (row.amount_minor, row.paid_minor, row.carried_minor, row.code) == (100, paid, carried, code)
