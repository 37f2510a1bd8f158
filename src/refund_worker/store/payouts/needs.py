"""The money that unfinished payouts and payout runs still need at each processor account."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select, union_all

from refund_worker.domain.legs import UNREACHABLE
from refund_worker.domain.payouts.holds import HOLDS_THAT_END
from refund_worker.domain.payouts.payout import PAYOUT_OPEN, PayoutStatus
from refund_worker.domain.payouts.runs import RunStatus
from refund_worker.domain.refund import LegStatus
from refund_worker.domain.state_machine import TO_BE_SENT
from refund_worker.store.funds import APPROVED, AWAITING, BLOCKED, NEEDS, QUEUED
from refund_worker.store.tables import event_subjects, events, payout_legs, payout_run_rows, payout_runs, payouts


def payout_needs(connection: Connection, low_balance_codes: Collection[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return, by (processor, currency), the minor units that payouts need, for each of `NEEDS`.

    Only the first leg takes money of the account: a second one pays what the first has transferred. As for refunds, a
    call that is under way or whose outcome is unknown is not counted, nor is a payout that a person, or its payee,
    stops. A run that pays, or awaits approval, needs the amounts of the payees who have no payout of it yet.
    """
    parts = union_all(_of_payouts(low_balance_codes), _of_runs()).subquery().c
    query = select(parts.processor, parts.currency, parts.need, func.sum(parts.amount_minor))
    found: dict[tuple[str, str], dict[str, int]] = {}
    for processor, currency, name, minor in connection.execute(
        query.group_by(parts.processor, parts.currency, parts.need)
    ):
        found.setdefault((processor, currency), dict.fromkeys(NEEDS, 0))[name] = int(minor)
    return found


def _of_payouts(low_balance_codes: Collection[str]) -> Select[tuple[str, str, str, int]]:
    p, leg = payouts.c, payout_legs.c
    need = case(
        (p.status == PayoutStatus.AWAITING_APPROVAL, AWAITING),
        (leg.status == LegStatus.BLOCKED, BLOCKED),
        (_was_approved(), APPROVED),
        else_=QUEUED,
    )
    goes_on = or_(leg.attention_code.is_(None), leg.attention_code.in_((*low_balance_codes, UNREACHABLE)))
    is_stopped = and_(p.status == PayoutStatus.HELD, p.hold_code.not_in(HOLDS_THAT_END))
    return (
        select(leg.processor, leg.currency, need.label("need"), leg.amount_minor)
        .join(payouts, p.payout_id == leg.payout_id)
        .where(p.status.in_(PAYOUT_OPEN), leg.number == 1, leg.status.in_(TO_BE_SENT), goes_on, ~is_stopped)
    )


def _was_approved() -> ColumnElement[bool]:
    """Return the condition that a person approved the payout, or the run that it belongs to."""
    subject, run = event_subjects.c, payout_runs.c
    by_itself = exists().where(
        subject.subject_id == payouts.c.payout_id, events.c.seq == subject.seq, events.c.kind == "payout_approved"
    )
    return or_(by_itself, exists().where(run.run_id == payouts.c.run_id, run.approved_by.is_not(None)))


def _of_runs() -> Select[tuple[str, str, str, int]]:
    run, row = payout_runs.c, payout_run_rows.c
    need = case(
        (run.status == RunStatus.AWAITING_APPROVAL, AWAITING), (run.approved_by.is_not(None), APPROVED), else_=QUEUED
    )
    counted = (RunStatus.AWAITING_APPROVAL, RunStatus.PAYING)
    return (
        select(run.processor, run.currency, need.label("need"), row.amount_minor)
        .join(payout_run_rows, row.run_id == run.run_id)
        .where(run.ended_at.is_(None), run.status.in_(counted), row.paid_minor.is_(None))
    )
