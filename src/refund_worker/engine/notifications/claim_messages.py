"""Tell people and the admin backend about the money that others move.

Notifications are stored in the transaction of the change that they report. Alarms for what needs a person are raised
after its commit. Every way of recording or changing a claim ends here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.api_schema import Dispute, FraudWarning, OutsideRefund
from refund_worker.domain.claims.claim import LOST, Claim, ClaimKind, Phase
from refund_worker.domain.money import as_text
from refund_worker.engine.context import Context
from refund_worker.engine.views.claim_objects import claim_view, outside_status
from refund_worker.store import accounts, outbox
from refund_worker.store.database import after_commit
from refund_worker.times import iso

log = logging.getLogger(__name__)

REFUNDED_OUTSIDE = "payment.refunded_outside"
WON = "won"


def announce_claims(
    connection: Connection, context: Context, pairs: Iterable[tuple[Claim | None, Claim]], now: float
) -> None:
    """Store one message for each claim of which these pairs (before or None, after) report something new.

    A dispute that opens over a payment of ours, and a shortfall that a person must decide about, raise an alarm too.
    """
    pairs = list(pairs)
    after_commit(connection, partial(_raise_alarms, pairs))
    if not context.notify:
        return
    news = [(after, kind) for before, after in pairs if (kind := _news(before, after)) is not None]
    outbox.insert_messages(connection, [_message(connection, context, after, kind, now) for after, kind in news])


def _news(before: Claim | None, after: Claim) -> str | None:
    """Return the type of the message about this change, or None if there is nothing to tell."""
    if after.payment_id is None:
        return None
    if after.kind is ClaimKind.OUTSIDE_REFUND:
        return _news_of_refund(before, after)
    return _news_of_dispute(before, after) if after.kind is ClaimKind.DISPUTE else None


def _news_of_refund(before: Claim | None, after: Claim) -> str | None:
    if after.is_live and after.refund_id is None and after.explained_minor >= after.amount_minor:
        return None  # it was recorded with the payment, as refunded before
    was = None if before is None else outside_status(before)
    return REFUNDED_OUTSIDE if outside_status(after) != was else None


def _news_of_dispute(before: Claim | None, after: Claim) -> str | None:
    was = None if before is None or before.payment_id is None else _state(before)
    if _state(after) != was:
        return f"dispute.{_state(after)}"
    is_decided = before is not None and before.needs_decision and not after.needs_decision
    return "dispute.decided" if is_decided else None


def _state(dispute: Claim) -> str:
    """Return the state of a dispute, as the types of messages name it."""
    match dispute.phase:
        case Phase.SHOWN:
            return "inquiry"
        case Phase.HOLDING:
            return "opened"
        case Phase.TAKEN:
            return "lost"
    if dispute.object_status == LOST:
        return "reinstated"
    return "won" if dispute.object_status == WON else "closed"


def _raise_alarms(pairs: Iterable[tuple[Claim | None, Claim]]) -> None:
    for before, claim in pairs:
        if claim.is_open_dispute and claim.payment_id and not (before and before.payment_id and before.is_open_dispute):
            raise_alarm(
                log,
                Alarm.DISPUTE_OPENED,
                "payment %s is disputed: %s of %s",
                claim.payment_id,
                claim.object_id,
                as_text(claim.amount_minor, claim.currency),
                claim_id=claim.claim_id,
                processor=claim.processor,
            )
        if claim.needs_decision and not (before and before.needs_decision):
            raise_alarm(
                log,
                Alarm.SHORTFALL_UNDECIDED,
                "%s credits of %s were spent already: write them off, or make them a debt",
                claim.missing,
                claim.claim_id,
                claim_id=claim.claim_id,
                processor=claim.processor,
            )


def _message(connection: Connection, context: Context, claim: Claim, kind: str, now: float) -> dict[str, Any]:
    return message_row(connection, context, kind, claim_view(connection, claim), now) | {"claim_id": claim.claim_id}


def message_row(
    connection: Connection, context: Context, kind: str, view: OutsideRefund | Dispute | FraudWarning, now: float
) -> dict[str, Any]:
    """Return the row of a message about this object, without the id by which it is stored."""
    message_id = context.new_id("msg")
    account = accounts.find_customer(connection, view["customer_id"]) if view["customer_id"] else None
    data = {**view, "balance_after": account.balance if account else None}
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": data}
    return {
        "message_id": message_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
