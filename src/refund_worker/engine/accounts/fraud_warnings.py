"""Record early fraud warnings: a bank suspects a payment, and a refund now usually avoids its dispute.

Webhooks and the sync end here. A warning moves no money. A person decides about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import FraudWarning
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.claims import payments_by_ref
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.warning_messages import announce_warnings
from refund_worker.store import fraud_warnings, payment_refs
from refund_worker.store.fraud_warnings import RecordedWarning


def record_warnings(context: Context, processor: str, warnings: Iterable[FraudWarning]) -> int:
    """Record these warnings as the processor has them now; return how many are new or have changed.

    The caller fetches each warning: an event about it may be old.
    """
    reported = {warning.warning_id: warning for warning in warnings}
    with context.database.read() as connection:
        news = _news(connection, processor, reported)
    if not news:
        return 0
    return context.database.run(lambda connection: _record(connection, context, processor, news))


def _news(connection: Connection, processor: str, reported: Mapping[str, FraudWarning]) -> dict[str, FraudWarning]:
    """Return the warnings that are not stored, or not as they are now, or have a payment only now."""
    stored = fraud_warnings.warnings_of_objects(connection, processor, reported)
    owners = _owners(connection, processor, reported.values())
    news = {}
    for object_id, warning in reported.items():
        before = stored.get(object_id)
        is_same = before is not None and before == replace(before, **_said(warning))
        is_placed = before is not None and (before.payment_id is not None or object_id not in owners)
        if not is_same or not is_placed:
            news[object_id] = warning
    return news


def _record(connection: Connection, context: Context, processor: str, reported: Mapping[str, FraudWarning]) -> int:
    now = context.clock(connection)
    owners = _owners(connection, processor, reported.values())
    stored = fraud_warnings.warnings_of_objects(connection, processor, reported)
    new = [
        _as_recorded(context, processor, warning, owners.get(object_id), now)
        for object_id, warning in reported.items()
        if object_id not in stored
    ]
    refs = [(warning.fraud_warning_id, ref) for warning in new for ref in reported[warning.object_id].payment_refs]
    changed = set(fraud_warnings.insert_warnings(connection, new, refs))
    for object_id, before in stored.items():
        after = replace(before, **_said(reported[object_id]), updated_at=now)
        if fraud_warnings.write_report(connection, after):
            changed.add(before.fraud_warning_id)
    later = [(before.fraud_warning_id, owners[name]) for name, before in stored.items() if name in owners]
    changed |= {warning.fraud_warning_id for warning in fraud_warnings.match_warnings(connection, later, now)}
    announce_warnings(connection, context, fraud_warnings.warnings_by_id(connection, changed), now)
    return len(changed)


def _owners(connection: Connection, processor: str, warnings: Collection[FraudWarning]) -> dict[str, str]:
    """Return the payment that we know for each warning, by the warning's id at the processor."""
    known = payment_refs.payments_of_refs(connection, processor, {ref for w in warnings for ref in w.payment_refs})
    named = {w.warning_id: next((known[ref] for ref in w.payment_refs if ref in known), None) for w in warnings}
    return {object_id: payment_id for object_id, payment_id in named.items() if payment_id is not None}


def _said(warning: FraudWarning) -> dict[str, Any]:
    return {"fraud_type": warning.fraud_type, "actionable": warning.actionable}


def _as_recorded(
    context: Context, processor: str, warning: FraudWarning, payment_id: str | None, now: float
) -> RecordedWarning:
    return RecordedWarning(
        fraud_warning_id=context.new_id("fw"),
        processor=processor,
        object_id=warning.warning_id,
        fraud_type=warning.fraud_type,
        actionable=warning.actionable,
        object_created_at=warning.created_at.timestamp(),
        recorded_at=now,
        updated_at=now,
        payment_id=payment_id,
    )


def match_warnings(
    connection: Connection,
    context: Context,
    recorded: Sequence[PaymentRecord],
    names: Mapping[str, Sequence[str]],
    now: float,
) -> None:
    """Give new payments the warnings that came before they were recorded. `names` are more ids of them elsewhere."""
    found: list[tuple[str, str]] = []
    for processor, by_ref in payments_by_ref(recorded, names).items():
        over = fraud_warnings.unmatched_over(connection, processor, by_ref)
        found += [(warning_id, by_ref[ref].payment_id) for warning_id, ref in over]
    if found:
        announce_warnings(connection, context, fraud_warnings.match_warnings(connection, found, now), now)
