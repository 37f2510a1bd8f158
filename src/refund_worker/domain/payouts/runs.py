"""Payout runs: their statuses, the amount of each payee or why it is skipped, and the schedule. Pure functions.

Nothing is kept about amounts that a run leaves: they stay in the payees' balances, and the next run finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Literal

from refund_worker.domain.payouts.acceptance import payable
from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.holds import PayeeFacts, facts_hold
from refund_worker.domain.payouts.payee import PayeeBalance
from refund_worker.errors import ActionNotAllowed


class RunStatus(StrEnum):
    """The status of a payout run."""

    PLANNING = "planning"  # its payees are gone through
    AWAITING_APPROVAL = "awaiting_approval"
    PAYING = "paying"  # its payees get their payouts
    PLANNED = "planned"  # the end of a dry run
    DONE = "done"  # each payee has its payout, or the reason why not
    CANCELED = "canceled"


_R = RunStatus
RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    _R.PLANNING: frozenset({_R.PLANNED, _R.AWAITING_APPROVAL, _R.PAYING, _R.DONE, _R.CANCELED}),
    _R.AWAITING_APPROVAL: frozenset({_R.PAYING, _R.CANCELED}),
    _R.PAYING: frozenset({_R.DONE, _R.CANCELED}),
    _R.PLANNED: frozenset(),
    _R.DONE: frozenset(),
    _R.CANCELED: frozenset(),
}
RUN_ENDS = tuple(status for status in RunStatus if not RUN_TRANSITIONS[status])
# The scheduler works on runs with these statuses.
RUN_DRIVEN = (_R.PLANNING, _R.PAYING)


class RowCode(StrEnum):
    """A reason why a payee is skipped, or why it gets less than it could; the codes of a hold are the others."""

    BELOW_MINIMUM = "below_minimum"
    HELD = "held"  # what was earned is not available yet
    NOTHING_PAYABLE = "nothing_payable"
    DEBT = "debt"
    VELOCITY_EXCEEDED = "velocity_exceeded"
    PAYEE_CHANGED = "payee_changed"  # it is paid over another account or in another currency now
    ABOVE_MAXIMUM = "above_maximum"  # the maximum is paid
    CHANGED = "changed"  # less was payable when it was paid than when it was planned


class ApprovalCode(StrEnum):
    """A reason why another person than the one who made a run must approve it before it pays."""

    THRESHOLD = "approval_threshold"  # a payee's total exceeds the threshold
    VELOCITY = "velocity"  # it exceeds what one actor may ask for
    SCHEDULE = "schedule"  # the schedule made it, and it exceeds what pays at once
    FUNDS_SHORT = "funds_short"  # it needs more than the account has


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A request for a run over the payees of the account `processor` in one currency, checked for syntax.

    No payee gets less than `minimum_minor` (minor units), nor less than the smallest payout. A `dry_run` pays nothing.
    """

    idempotency_key: str
    processor: str
    currency: str
    minimum_minor: int = 0
    dry_run: bool = False
    client: str = "default"
    actor: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRun:
    """One run over the payees of an account in one currency. Amounts are in minor units, times in epoch seconds.

    `progress` is the last payee of the current pass. `available_minor` is the account's money when the run was planned,
    less what refunds, other payouts and other runs needed of it, or None if that was not known. `period` is the first
    day of the schedule's period that it is for. `idempotency_key` is None for a run of the schedule.
    """

    run_id: str
    client: str
    idempotency_key: str | None
    processor: str
    currency: str
    minimum_minor: int
    dry_run: bool
    status: RunStatus
    actor: str
    created_at: float
    updated_at: float
    progress: str = ""
    planned_payees: int = 0
    planned_minor: int = 0
    paid_payees: int = 0
    paid_minor: int = 0
    skipped_payees: int = 0
    available_minor: int | None = None
    approval_codes: tuple[ApprovalCode, ...] = ()
    period: str | None = None
    approved_by: str | None = None
    reason: str | None = None
    ended_at: float | None = None
    version: int = 1

    def become(self, status: RunStatus, now: float) -> PayoutRun:
        """Return the run in another status, its pass over the payees at the start. Raises `ActionNotAllowed`."""
        if status not in RUN_TRANSITIONS[self.status]:
            raise ActionNotAllowed(f"the payout run is {self.status}: it cannot become {status}")
        ended = now if status in RUN_ENDS else None
        return replace(self, status=status, progress="", ended_at=ended)

    def with_approval_code(self, code: ApprovalCode) -> PayoutRun:
        """Return the run with one more reason for approval."""
        return self if code in self.approval_codes else replace(self, approval_codes=(*self.approval_codes, code))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One payee of a run. Amounts are in minor units.

    `amount_minor` is planned, 0 for a payee who was skipped then. `carried_minor` is payable too and stays in the
    balance. `paid_minor` is the amount of the payout that was made, 0 if none is made, None while that is open.
    """

    payee_id: str
    amount_minor: int
    carried_minor: int = 0
    code: str | None = None
    payout_id: str | None = None
    paid_minor: int | None = None

    @property
    def is_skipped(self) -> bool:
        """Return True if the payee gets nothing."""
        return self.paid_minor == 0


def planned_row(run: PayoutRun, facts: PayeeFacts, balance: PayeeBalance, policy: PayoutPolicy, now: float) -> RunRow:
    """Return what the run pays to the payee at `now` (epoch seconds), or why it pays nothing."""
    payee = facts.payee
    if (payee.processor, payee.currency) != (run.processor, run.currency):
        return skipped_row(payee.payee_id, RowCode.PAYEE_CHANGED)
    available = balance.payable_minor
    if not available and balance.debt_minor:
        return skipped_row(payee.payee_id, RowCode.DEBT)
    found = payable(payee, balance, policy)
    code = found.code
    if code is None and available < run.minimum_minor:
        code = RowCode.BELOW_MINIMUM
    if code is None and (hold := facts_hold(facts, now, policy)) is not None:
        code = hold.code
    if code is not None:
        return skipped_row(payee.payee_id, code, carried_minor=available)
    maximum = policy.maximum_for(payee.processor, payee.currency)
    cut = maximum is not None and available > maximum
    carried = available - found.amount_minor
    code = RowCode.ABOVE_MAXIMUM if cut else None
    return RunRow(payee_id=payee.payee_id, amount_minor=found.amount_minor, carried_minor=carried, code=code)


def skipped_row(payee_id: str, code: str, *, carried_minor: int = 0) -> RunRow:
    """Return the row of a payee who is skipped when the run is planned."""
    return RunRow(payee_id=payee_id, amount_minor=0, carried_minor=carried_minor, code=code, paid_minor=0)


def row_to_pay(planned: RunRow, current: RunRow) -> RunRow:
    """Return the planned row with the amount that is paid now: what is payable now, and not more than was planned."""
    if current.is_skipped:
        return replace(planned, code=current.code, carried_minor=current.carried_minor, paid_minor=0)
    amount = min(planned.amount_minor, current.amount_minor)
    carried = current.amount_minor + current.carried_minor - amount
    code = RowCode.CHANGED if amount < planned.amount_minor else planned.code
    return replace(planned, code=code, carried_minor=carried, paid_minor=amount)


Every = Literal["off", "daily", "weekly", "monthly"]


@dataclass(frozen=True, slots=True)
class RunSchedule:
    """When runs are made without a person. `day` is 0 (Monday) to 6 of a week, or 1 to 28 of a month.

    A run of up to `auto_approve_minor` in all pays at once; others, or all with None, wait for approval.
    """

    every: Every = "off"
    day: int = 0
    auto_approve_minor: int | None = None

    def period(self, now: float) -> str | None:
        """Return the first day in UTC of the period that `now` (epoch seconds) is in, as ISO 8601, or None if off."""
        today = datetime.fromtimestamp(now, UTC).date()
        match self.every:
            case "off":
                return None
            case "daily":
                return today.isoformat()
            case "weekly":
                return (today - timedelta(days=(today.weekday() - self.day) % 7)).isoformat()
            case "monthly":
                return _monthly(today, self.day).isoformat()


def _monthly(today: date, day: int) -> date:
    if today.day >= day:
        return today.replace(day=day)
    return (today.replace(day=1) - timedelta(days=1)).replace(day=day)
