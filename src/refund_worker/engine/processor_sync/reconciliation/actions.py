"""A person's decision about one difference: apply its action, or acknowledge it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.decision import Event
from refund_worker.domain.decision_builder import ANSWER_MISMATCH
from refund_worker.domain.operator_action import NOT_AT_PROCESSOR, show_to_a_person
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, RefundObject
from refund_worker.domain.refund_object import REFUNDED_TWICE
from refund_worker.engine.accounts.self_recording import record_charged
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.reconciliation.again import Second, look_again
from refund_worker.engine.processor_sync.reconciliation.kinds import ACTIONS, Difference, Kind, State
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.errors import ActionNotAllowed, NotFound, RefundWorkerError
from refund_worker.store import payments, refunds, timeline
from refund_worker.store import reconciliations as store
from refund_worker.store.refund_objects import known_reports

VANISHED = "the difference has vanished meanwhile: nothing was changed"
# The attention that a leg gets if a person must decide, by kind; and the text.
_FOR_A_PERSON = {
    Kind.NOT_THERE: (NOT_AT_PROCESSOR, "the processor does not have this refund"),
    Kind.AMOUNT: (ANSWER_MISMATCH, "the processor's refund has another amount"),
    Kind.CURRENCY: (ANSWER_MISMATCH, "the processor's refund has another currency"),
    Kind.STATUS: (ANSWER_MISMATCH, "the processor reports a status that cannot follow ours"),
    Kind.REFUNDED_TWICE: (REFUNDED_TWICE, "more than one refund pays this leg"),
}


def apply_difference(context: Context, reconciliation_id: str, n: int, *, actor: str, reason: str) -> RowMapping:
    """Apply the action of a difference and return it as it is then. Repeated, it changes nothing and returns the same.

    The processor is asked first: a difference that has vanished becomes `gone`, and nothing is changed. Raises
    `NotFound`, `ActionNotAllowed` for a difference without a possible action, and `ListDenied` or `NotListed` if the
    processor does not answer.
    """
    processor, row = _find(context, reconciliation_id, n)
    if row["state"] != State.OPEN:
        return row
    kind = Kind(row["kind"])
    _check_has_action(kind, row)
    second = look_again(context, processor, row)
    if second.difference is None:
        return _decide(context, row, State.GONE, actor=actor, reason=reason, outcome=VANISHED)
    outcome = _act(context, processor, kind, second.difference, second, actor, reason)
    return _decide(context, row, State.APPLIED, actor=actor, reason=reason, outcome=outcome)


def acknowledge_difference(context: Context, reconciliation_id: str, n: int, *, actor: str, reason: str) -> RowMapping:
    """Acknowledge a difference: nothing is changed, and the same difference is not open in later reconciliations.

    Repeated, it returns the same. Raises `NotFound`.
    """
    _, row = _find(context, reconciliation_id, n)
    if row["state"] != State.OPEN:
        return row
    return _decide(context, row, State.ACKNOWLEDGED, actor=actor, reason=reason, outcome="acknowledged")


def _find(context: Context, reconciliation_id: str, n: int) -> tuple[str, RowMapping]:
    with context.database.read() as connection:
        whole = store.find(connection, reconciliation_id)
        row = store.difference(connection, reconciliation_id, n)
    if whole is None:
        raise NotFound(f"reconciliation {reconciliation_id} is not known")
    if row is None:
        raise NotFound(f"reconciliation {reconciliation_id} has no difference {n}")
    return whole["processor"], row


def _check_has_action(kind: Kind, row: RowMapping) -> None:
    if ACTIONS[kind] is None:
        raise ActionNotAllowed("our own sums disagree: no program can repair that. Acknowledge it once it is explained")
    if kind is Kind.NOT_RECORDED and row["leg_id"] is None:
        raise ActionNotAllowed(
            "our books do not have the leg of this object, so it cannot be adopted: restore the newer backup, "
            "or acknowledge it"
        )


def _act(
    context: Context, processor: str, kind: Kind, difference: Difference, second: Second, actor: str, reason: str
) -> str:
    """Apply the action and return its outcome in words."""
    if kind in (Kind.OUTSIDE_REFUND, Kind.DISPUTE, Kind.PAYMENT):
        return _record_of_others(context, processor, kind, second, actor, reason)
    if kind in (Kind.NOT_RECORDED, Kind.STATUS, Kind.REFUNDED_TWICE, Kind.AMOUNT, Kind.CURRENCY):
        _record(context, difference, second.objects)
    if kind is Kind.NOT_RECORDED:
        return "adopted: the leg has this object now"
    if kind is Kind.STATUS and _is_recorded(context, processor, difference):
        return f"the processor's status is recorded: {difference.theirs}"
    if kind in (Kind.AMOUNT, Kind.CURRENCY):
        refs = sorted({ref for item in second.objects for ref in item.payment_refs})
        context.database.run(lambda connection: payments.mark_refunded_elsewhere(connection, processor, refs))
    code, message = _FOR_A_PERSON[kind]
    context.database.run(partial(_show_to_a_person, context, difference, code, message, actor))
    return "a person decides: the refund needs attention"


def _record_of_others(context: Context, processor: str, kind: Kind, second: Second, actor: str, reason: str) -> str:
    """Record what others did, by the code path of webhooks, the sync and imports; or close a payment of ours."""
    if kind is Kind.OUTSIDE_REFUND:
        record_outside_refunds(context, processor, second.objects, since=0.0)
        return "recorded as an outside refund"
    if kind is Kind.DISPUTE:
        record_disputes(context, processor, second.disputes)
        return "the dispute is recorded"
    difference = second.difference
    if difference is not None and difference.payment_id:
        close_payment(context, difference.payment_id, actor=actor, reason=reason)
        return "the payment is closed"
    keys = context.recording
    assert keys is not None  # without the keys there is no such difference
    (outcome,) = record_charged(context, processor, second.charged, keys, recorded_by="import")
    if isinstance(outcome, RefundWorkerError):
        raise outcome
    return "the payment is recorded"


def _record(context: Context, difference: Difference, objects: Iterable[RefundObject]) -> None:
    """Record the objects by the code path of the sync and the webhooks."""
    leg_id, refund_id = difference.leg_id or "", difference.refund_id or ""
    record_replies(context, [RecordedReply(refund_id, leg_id, None, Answered(item)) for item in objects])


def _is_recorded(context: Context, processor: str, difference: Difference) -> bool:
    """Return True if our books have the processor's status of the object now."""
    with context.database.read() as connection:
        reports = known_reports(connection, processor, [difference.object_id])
    known = reports.get(difference.object_id)
    return known is not None and known.status == difference.theirs


def _show_to_a_person(
    context: Context, difference: Difference, code: str, message: str, actor: str, connection: Connection
) -> None:
    now = context.clock(connection)
    (refund,) = refunds.load(connection, [difference.refund_id or ""], lock=True)
    decision = show_to_a_person(refund, difference.leg_id or "", code, message, now, context.policy, actor=actor)
    apply(connection, [decision.released()], now, notify=context.notify)


def _decide(context: Context, row: RowMapping, state: State, *, actor: str, reason: str, outcome: str) -> RowMapping:
    def work(connection: Connection) -> RowMapping:
        now = context.clock(connection)
        place = row["reconciliation_id"], row["n"]
        if store.decide(connection, *place, state, now, actor=actor, reason=reason, outcome=outcome):
            detail = {"reconciliation": place[0], "n": place[1], "kind": row["kind"], "subject": row["subject"]}
            event = Event(f"difference_{state}", actor, row["leg_id"], reason=reason, detail=detail)
            timeline.insert_events(connection, [(row["refund_id"], event)], now)
        decided = store.difference(connection, *place)
        assert decided is not None  # nothing is deleted
        return decided

    return context.database.run(work)
