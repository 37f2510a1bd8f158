"""Write decisions about payouts inside the caller's transaction. All of them are written here."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.alarms import alarm_of_payout_event, raise_alarm
from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.payee import BalanceDelta
from refund_worker.domain.payouts.payout import PAYOUT_ENDS, PAYOUT_OPEN
from refund_worker.engine.notifications.payout_messages import announce_payouts
from refund_worker.engine.refunds.circuit import open_circuits
from refund_worker.engine.views.payout_texts import failure_code_of
from refund_worker.metrics import PAYOUTS_ENDED, count
from refund_worker.store import inbox, ledger, timeline
from refund_worker.store.database import after_commit
from refund_worker.store.payouts import attempts, payees, payouts

log = logging.getLogger(__name__)


def apply_payouts(
    connection: Connection, decisions: Sequence[PayoutDecision], now: float, *, notify: bool = False
) -> None:
    """Write everything that the decisions contain, at `now` (epoch seconds). The payees are locked.

    `notify` also stores the notifications for the admin backend. Raises `LostRace` if a payout has changed since the
    decision about it.
    """
    payouts.insert_payouts(connection, [(d.after, d.request_body or "") for d in decisions if d.before is None])
    payouts.write_payouts(connection, [d for d in decisions if d.before is not None])
    legs = {leg.leg_id: leg for d in decisions for leg in d.after.legs}
    attempts.write_objects(connection, ((legs[o.leg_id].processor, o) for d in decisions for o in d.objects), now)
    ledger.insert_postings(connection, [posting for d in decisions for posting in d.postings])
    timeline.insert_events_about(
        connection,
        (
            (d.after.payout_id, replace(e, detail={**e.detail, "payout_id": d.after.payout_id}))
            for d in decisions
            for e in d.events
        ),
        now,
    )
    if notify:
        announce_payouts(connection, decisions, now)
    _change_balances(connection, decisions, now)
    for d in decisions:
        if d.payee is not None:
            payees.note_payout(connection, d.after.payee_id, d.after.payout_id, d.payee, now)
    payouts.requeue_held(connection, _payees_to_look_at(decisions), now)
    _tell_refunds(connection, decisions, now)
    open_circuits(connection, {p.processor: p for d in decisions for p in d.pauses}.values(), now)
    after_commit(connection, lambda: _note_ends(decisions))
    after_commit(connection, lambda: _raise_alarms(decisions))


def _tell_refunds(connection: Connection, decisions: Iterable[PayoutDecision], now: float) -> None:
    """Store an event for each payout of a refund's leg that has another status: the leg is asked about, also later."""
    for d in decisions:
        if d.after.refund_leg_id is not None and d.before is not None and d.before.status is not d.after.status:
            event_id = f"{d.after.payout_id}:{d.after.version}"
            body = json.dumps({"payout_id": d.after.payout_id, "leg_id": d.after.refund_leg_id})
            inbox.insert_event(connection, PAYOUT, event_id, f"payout.{d.after.status}", body, now)


def _change_balances(connection: Connection, decisions: Iterable[PayoutDecision], now: float) -> None:
    deltas: defaultdict[tuple[str, str], BalanceDelta] = defaultdict(BalanceDelta)
    begun: dict[tuple[str, str], float] = {}
    for d in decisions:
        pair = (d.after.payee_id, d.after.currency)
        deltas[pair] += d.balance
        if d.before is not None and d.after.ledger_posted and not d.before.ledger_posted:
            begun[pair] = now
    payees.change_balances(connection, deltas, begun)
    for d in decisions:
        if d.after.given_back and d.before is not None and not d.before.given_back:
            # The payee got nothing, so the interval does not begin with this payout. A later one was begun after it was
            # paid: only one at a time is open.
            paid_at = now if d.before.paid_at is None else d.before.paid_at
            payees.forget_last_payout(connection, (d.after.payee_id, d.after.currency), until=paid_at)


def _payees_to_look_at(decisions: Iterable[PayoutDecision]) -> set[str]:
    """Return the payees whose held payouts are due now.

    A payout of such a payee is open no more, and another one may have waited for it. Or it noted something about the
    payee.
    """
    return {d.after.payee_id for d in decisions if d.payee is not None or _is_open_no_more(d)}


def _is_open_no_more(decision: PayoutDecision) -> bool:
    before, after = decision.before, decision.after
    return before is not None and before.status in PAYOUT_OPEN and after.status not in PAYOUT_OPEN


def _note_ends(decisions: Iterable[PayoutDecision]) -> None:
    for d in decisions:
        if d.before is not None and d.before.status != d.after.status and d.after.status in PAYOUT_ENDS:
            # Logs and metrics go to others than the operators, who alone know the code of a compliance outcome.
            code = failure_code_of(d.after)
            fields = {"payout_id": d.after.payout_id, "status": str(d.after.status), "code": code}
            log.info("payout ended", extra=fields)
            count(PAYOUTS_ENDED, d.after.status, code)


def _raise_alarms(decisions: Iterable[PayoutDecision]) -> None:
    for d in decisions:
        for event in d.events:
            if event.alarm:
                raise_alarm(
                    log,
                    alarm_of_payout_event(event.kind),
                    "%s on payout %s",
                    event.kind,
                    d.after.payout_id,
                    payout_id=d.after.payout_id,
                    leg_id=event.leg_id,
                    processor=d.after.processor,
                )
