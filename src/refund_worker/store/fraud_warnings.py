"""Early fraud warnings: banks that suspect payments. They move no money, and a row is only a report.

A warning is one row by processor account and its id there. The customer is that of the payment, so a merge of customers
needs nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, case, exists, func, or_, select, update

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import INQUIRIES, ClaimKind
from refund_worker.domain.money import larger_steps
from refund_worker.store.accounts import surviving
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.payment_refs import named_payment
from refund_worker.store.tables import (
    MAY_BE_ANSWERED,
    REFUNDED_BEFORE,
    claims,
    fraud_warning_refs,
    fraud_warnings,
    payments,
)

COUNTED_MAX = 1_000
_w, _p = fraud_warnings.c, payments.c


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedWarning:
    """A warning as stored, with times in epoch seconds.

    `payment_id` is None while no payment is recorded for it. `actionable` is the processor's own word, None if it says
    nothing. `is_open`: a refund still helps, by that word and by what is recorded of the payment.
    """

    fraud_warning_id: str
    processor: str
    object_id: str
    fraud_type: str | None
    actionable: bool | None
    object_created_at: float
    recorded_at: float
    updated_at: float
    payment_id: str | None = None
    customer_id: str | None = None
    is_open: bool = False


_STORED = (
    _w.fraud_warning_id,
    _w.processor,
    _w.object_id,
    _w.fraud_type,
    _w.actionable,
    _w.object_created_at,
    _w.recorded_at,
    _w.updated_at,
    _w.payment_id,
)


def _can_be_refunded() -> Any:
    """Return the condition that a refund over the payment still avoids a dispute.

    It has money left, is not closed, and was never disputed. An inquiry is no dispute yet.
    """
    paid = case((_p.captured_minor < _p.amount_minor, _p.captured_minor), else_=_p.amount_minor)
    left = paid - REFUNDED_BEFORE - _p.word_outside - _p.claimed_minor - _p.money_taken
    step = case(*((_p.currency == currency, step) for currency, step in sorted(larger_steps().items())), else_=1)
    c = claims.c
    harmless = c.object_status.in_((*sorted(INQUIRIES), "warning_closed"))
    disputed = exists().where(
        c.payment_id == _p.payment_id, c.kind == ClaimKind.DISPUTE, or_(c.object_status.is_(None), ~harmless)
    )
    return and_(_p.closed_at.is_(None), left >= step, _p.credits > _p.credits_taken + _p.claimed_credits, ~disputed)


_OPEN = and_(MAY_BE_ANSWERED, _can_be_refunded())
_SHOWN = select(*_STORED, _p.customer_id, func.coalesce(_OPEN, False).label("is_open")).select_from(
    fraud_warnings.outerjoin(payments, _p.payment_id == _w.payment_id)
)
_CONDITIONS = {
    "unmatched": _w.payment_id.is_(None),
    "open": _OPEN,
    "closed": and_(_w.payment_id.is_not(None), ~func.coalesce(_OPEN, False)),
}


def _warning(row: RowMapping) -> RecordedWarning:
    return RecordedWarning(**{**row, "is_open": bool(row["is_open"])})


def _read(connection: Connection, query: Select[Any]) -> list[RecordedWarning]:
    return [_warning(row) for row in connection.execute(query).mappings()]


def warnings_of_objects(
    connection: Connection, processor: str, object_ids: Iterable[str]
) -> dict[str, RecordedWarning]:
    """Return, by object id, the warnings that are recorded for these objects of the processor."""
    found: dict[str, RecordedWarning] = {}
    for chunk in batched(object_ids, IDS_AT_ONCE):
        query = _SHOWN.where(_w.processor == processor, _w.object_id.in_(chunk))
        found |= {warning.object_id: warning for warning in _read(connection, query)}
    return found


def warnings_on(connection: Connection, payment_ids: Collection[str]) -> list[RecordedWarning]:
    """Return the warnings about these payments, those of each payment with the newest first."""
    found = []
    for chunk in batched(sorted(set(payment_ids)), IDS_AT_ONCE):
        found += _read(connection, _SHOWN.where(_w.payment_id.in_(chunk)).order_by(_w.fraud_warning_id.desc()))
    return found


def warnings_to_fetch(connection: Connection, processor: str, limit: int) -> list[str]:
    """Return the ids of warnings that may still be answered, the newest first.

    One that a person rightly ignores stays so for ever: it must not keep newer ones from being fetched.
    """
    query = select(_w.object_id).where(_w.processor == processor, MAY_BE_ANSWERED)
    return list(connection.execute(query.order_by(_w.object_created_at.desc()).limit(limit)).scalars())


def insert_warnings(
    connection: Connection, new: Sequence[RecordedWarning], refs: Iterable[tuple[str, str]]
) -> frozenset[str]:
    """Insert warnings; return the ids (`fw_…`) of those that another process has not inserted meanwhile.

    `refs` are (fraud_warning_id, the processor's name for the payment).
    """
    inserted: set[str] = set()
    for chunk in batched(new, 100):
        rows = [{column.name: getattr(warning, column.name) for column in _STORED} for warning in chunk]
        query = insert_into(connection, fraud_warnings).values(rows).on_conflict_do_nothing()
        inserted |= set(connection.execute(query.returning(_w.fraud_warning_id)).scalars())
    processors = {warning.fraud_warning_id: warning.processor for warning in new}
    named = [
        {"processor": processors[warning_id], "ref": ref, "fraud_warning_id": warning_id}
        for warning_id, ref in refs
        if warning_id in inserted
    ]
    if named:
        connection.execute(insert_into(connection, fraud_warning_refs).on_conflict_do_nothing(), named)
    return frozenset(inserted)


def write_report(connection: Connection, warning: RecordedWarning) -> bool:
    """Write what the processor says of a stored warning now; return False if another process wrote the same."""
    values = {"actionable": warning.actionable, "fraud_type": warning.fraud_type}
    differs = or_(*(_w[name].is_distinct_from(value) for name, value in values.items()))
    query = update(fraud_warnings).where(_w.fraud_warning_id == warning.fraud_warning_id, differs)
    return connection.execute(query.values(updated_at=warning.updated_at, **values)).rowcount == 1


def match_warnings(connection: Connection, found: Iterable[tuple[str, str]], now: float) -> list[RecordedWarning]:
    """Store the payments of warnings that had none, given as (fraud_warning_id, payment_id); return these warnings."""
    matched = []
    for warning_id, payment_id in sorted(set(found)):
        unmatched = and_(_w.fraud_warning_id == warning_id, _w.payment_id.is_(None))
        query = update(fraud_warnings).where(unmatched).values(payment_id=payment_id, updated_at=now)
        if connection.execute(query).rowcount == 1:
            matched.append(warning_id)
    return warnings_by_id(connection, matched)


def warnings_by_id(connection: Connection, warning_ids: Collection[str]) -> list[RecordedWarning]:
    """Return the warnings with these ids (`fw_…`), the oldest first."""
    found = []
    for chunk in batched(sorted(warning_ids), IDS_AT_ONCE):
        found += _read(connection, _SHOWN.where(_w.fraud_warning_id.in_(chunk)).order_by(_w.fraud_warning_id))
    return found


def unmatched_over(connection: Connection, processor: str, refs: Iterable[str]) -> list[tuple[str, str]]:
    """Return (fraud_warning_id, ref) of the warnings without a payment that name one of these payments."""
    r = fraud_warning_refs.c
    found = []
    for chunk in batched(sorted(set(refs)), IDS_AT_ONCE):
        query = (
            select(r.fraud_warning_id, r.ref)
            .join(fraud_warnings, _w.fraud_warning_id == r.fraud_warning_id)
            .where(r.processor == processor, r.ref.in_(chunk), _w.payment_id.is_(None))
        )
        found += [(row[0], row[1]) for row in connection.execute(query.order_by(r.fraud_warning_id, r.ref))]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningFilters:
    """A choice of warnings; `condition` is a status of the API."""

    limit: int
    after: str | None = None
    customer_id: str | None = None
    payment_id: str | None = None
    condition: str | None = None

    def one_more(self) -> WarningFilters:
        """Return the same filters for one row more, which says if another page follows."""
        return replace(self, limit=self.limit + 1)


def list_warnings(connection: Connection, filters: WarningFilters) -> list[RecordedWarning]:
    """Return the warnings that pass the filters, the newest first, at most `limit`."""
    query = _SHOWN.order_by(_w.fraud_warning_id.desc()).limit(filters.limit)
    if filters.customer_id is not None:
        query = query.where(_p.customer_id == surviving(filters.customer_id))
    if filters.payment_id is not None:
        query = query.where(_w.payment_id == named_payment(filters.payment_id))
    if filters.after is not None:
        query = query.where(_w.fraud_warning_id < filters.after)
    if filters.condition is not None:
        query = query.where(_CONDITIONS[filters.condition])
    return _read(connection, query)


def count_open(connection: Connection) -> int:
    """Return how many warnings a refund can still answer, counted up to `COUNTED_MAX`."""
    opened = select(_w.fraud_warning_id).join(payments, _p.payment_id == _w.payment_id).where(_OPEN)
    return connection.execute(select(func.count()).select_from(opened.limit(COUNTED_MAX).subquery())).scalar_one()
