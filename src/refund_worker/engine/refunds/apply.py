"""Write decisions, for one refund or for a hundred, inside the caller's transaction. All decisions are written here."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, alarm_of_event, raise_alarm, runbook_link
from refund_worker.domain.claims.claim import ShortfallRule
from refund_worker.domain.decision import SYSTEM, AccountDelta, Decision, PaymentDelta
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.refund import NON_FINAL, RefundStatus, To
from refund_worker.engine.accounts.claims import Terms, recover
from refund_worker.engine.notifications.outbox import announce_changes
from refund_worker.engine.payees.clawbacks import settle_clawbacks
from refund_worker.engine.refunds.circuit import open_circuits
from refund_worker.engine.refunds.payment_names import learn_from_readings
from refund_worker.engine.views.runbook import event_entry
from refund_worker.metrics import CONFIRMED, LATE_FAILURES, REFUNDS_ENDED, count, observe
from refund_worker.store import accounts, ledger, payment_readings, refund_objects, refunds, timeline
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)

CODE = re.compile("[a-z0-9_]+")  # a reason that is no code is a sentence, which belongs into the timeline


def apply(
    connection: Connection,
    decisions: Sequence[Decision],
    now: float,
    *,
    money_went_out: bool = False,
    notify: bool = False,
    shortfall: ShortfallRule = ShortfallRule.WRITE_OFF,
) -> None:
    """Write everything that the decisions contain, at `now` (epoch seconds).

    `money_went_out` is for a processor's replies and for manual payments: what they report has happened, even if the
    payment's reservation was released before. `notify` also stores the notifications for the admin backend.
    `shortfall` is the rule for claims that have just taken their money and that are settled here first: a caller that
    changes claims names it.

    Raises `LostRace` if a refund has changed since the decision about it.
    """
    refunds.insert_refunds(connection, [(d.after, d.request_body or "") for d in decisions if d.before is None])
    refunds.write_refunds(connection, [d for d in decisions if d.before is not None])
    legs = {leg.leg_id: leg for d in decisions for leg in d.after.legs}
    refund_objects.write_objects(
        connection, ((legs[seen.leg_id].processor, seen) for d in decisions for seen in d.objects), now
    )
    ledger.insert_postings(connection, [posting for d in decisions for posting in d.postings])
    timeline.insert_events(connection, ((d.after.refund_id, e) for d in decisions for e in d.events), now)
    if notify:
        announce_changes(connection, decisions, now)
    accounts.change_customers(connection, _customers(decisions))
    _claw_back(connection, decisions, now, notify)
    _change_payments(connection, decisions, money_went_out)
    readings = {p: reading for d in decisions for p, reading in d.readings.items()}
    payment_readings.store_readings(connection, readings, now)
    learn_from_readings(connection, readings, {leg.payment_id: leg.processor for leg in legs.values()})
    payment_readings.read_again(connection, {p: how for d in decisions for p, how in d.read_again.items()})
    accounts.change_transactions(connection, _transactions(decisions))
    _recover(connection, decisions, now, shortfall)
    open_circuits(connection, {p.processor: p for d in decisions for p in d.pauses}.values(), now)
    after_commit(connection, lambda: _note_ends(decisions, now))
    after_commit(connection, lambda: _raise_alarms(decisions))


def _note_ends(decisions: Iterable[Decision], now: float) -> None:
    for decision in decisions:
        before, refund = decision.before, decision.after
        if before is None or before.status == refund.status or refund.status in NON_FINAL:
            continue
        fields = {"refund_id": refund.refund_id, "status": str(refund.status), "code": refund.failure_code}
        log.info("refund ended", extra=fields)
        count(REFUNDS_ENDED, refund.status, refund.failure_code)
        if refund.status is RefundStatus.SUCCEEDED and refund.to is To.SOURCE:
            observe(CONFIRMED, max(0.0, now - refund.created_at))


def _raise_alarms(decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        processors_of_legs = {leg.leg_id: leg.processor for leg in decision.after.legs}
        for event in decision.events:
            if not event.alarm:
                continue
            alarm = alarm_of_event(event.kind, event.from_status)
            processor = processors_of_legs.get(event.leg_id or "")
            if alarm is Alarm.LATE_FAILURE:
                count(LATE_FAILURES, processor)
            raise_alarm(
                log,
                alarm,
                "%s on refund %s",
                event.kind,
                decision.after.refund_id,
                refund_id=decision.after.refund_id,
                leg_id=event.leg_id,
                processor=processor,
                code=event.reason if event.reason and CODE.fullmatch(event.reason) else None,
                runbook=runbook_link(event_entry(event.kind, event.from_status, event.reason)),
            )


def _claw_back(connection: Connection, decisions: Iterable[Decision], now: float, notify: bool) -> None:
    """Take back what payees earned of the spends that are refunded now. The customers are locked by their change."""
    refunded = {p.refers_to for d in decisions for p in d.postings if p.kind is EntryKind.CREDIT_REFUND and p.refers_to}
    settle_clawbacks(connection, refunded, now, SYSTEM, notify=notify)


def _customers(decisions: Sequence[Decision]) -> dict[str, AccountDelta]:
    sums: defaultdict[str, AccountDelta] = defaultdict(AccountDelta)
    for d in decisions:
        if d.customer:
            sums[d.after.customer_id] += d.customer
    return sums


def _change_payments(connection: Connection, decisions: Sequence[Decision], money_went_out: bool) -> None:
    """Add reservations, guarded by the table's constraint. Recount released or paid-out amounts from the legs."""
    changes: defaultdict[str, PaymentDelta] = defaultdict(PaymentDelta)
    for d in decisions:
        for payment_id, delta in d.payments.items():
            changes[payment_id] += delta
    recounted = {p for p, delta in changes.items() if money_went_out or delta.credits < 0 or delta.minor < 0}
    accounts.change_payments(connection, {p: delta for p, delta in changes.items() if p not in recounted})
    accounts.recount_payments(connection, recounted)


def _recover(connection: Connection, decisions: Iterable[Decision], now: float, rule: ShortfallRule) -> None:
    """Let claims of others take what they lack of the credits and the room that legs have released."""
    released: defaultdict[str, int] = defaultdict(int)
    payment_ids: set[str] = set()
    for d in decisions:
        if d.after.to is To.SOURCE and d.before is not None:
            released[d.after.customer_id] += d.customer.balance - d.customer.held
            payment_ids |= {p for p, delta in d.payments.items() if delta.credits < 0 or delta.minor < 0}
    if payment_ids or any(credits > 0 for credits in released.values()):
        positive = {customer_id: credits for customer_id, credits in released.items() if credits > 0}
        recover(connection, positive, payment_ids, Terms(now=now, rule=rule))


def _transactions(decisions: Sequence[Decision]) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for d in decisions:
        if d.transaction_credits and d.after.transaction_id:
            sums[d.after.transaction_id] += d.transaction_credits
    return sums
