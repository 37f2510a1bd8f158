"""Claims that wait for a person: disputes to answer, and shortfalls to decide about."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from refund_worker.domain.claims.claim import DECIDED_AS_OUTSIDE, ClaimKind
from refund_worker.store.tables import OPEN_DISPUTE, UNDECIDED, claims

COUNTED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class WaitingClaims:
    """Disputes and inquiries to answer, the first time (epoch seconds) by which one is due, and shortfalls to decide.

    Each is counted up to `COUNTED_MAX`. `under_review` are open disputes that wait for the bank.
    """

    to_answer: int
    due_by: float | None
    under_review: int
    outside_undecided: int
    disputes_undecided: int


def waiting_claims(connection: Connection) -> WaitingClaims:
    """Return the claims that wait for a person."""
    c = claims.c
    is_open = select(c.object_status, c.due_by).where(OPEN_DISPUTE).limit(COUNTED_MAX).subquery()
    answers = is_open.c.object_status.in_(("needs_response", "warning_needs_response"))
    to_answer, due_by = connection.execute(
        select(func.count(), func.min(is_open.c.due_by)).select_from(is_open).where(answers)
    ).one()
    under_review = connection.execute(select(func.count()).select_from(is_open).where(~answers)).scalar_one()
    undecided = select(c.kind).where(UNDECIDED, c.credits > c.held + c.taken).limit(COUNTED_MAX).subquery()
    by_kind = select(undecided.c.kind, func.count()).group_by(undecided.c.kind)
    counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(by_kind)}
    outside = sum(counts.get(kind, 0) for kind in DECIDED_AS_OUTSIDE)
    return WaitingClaims(to_answer, due_by, under_review, outside, counts.get(ClaimKind.DISPUTE, 0))
