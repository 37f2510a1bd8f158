"""Tell people and the admin backend about claims: alarms for what needs a person, and notifications."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.claims.claim import Claim
from refund_worker.domain.money import as_text
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.claim_messages import announce_claims
from refund_worker.store import claims
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)


def announce(
    connection: Connection, context: Context, payment_id: str, before: Mapping[str, Claim], now: float
) -> None:
    """Store the notifications about the claims on the payment, and raise their alarms after the commit.

    `before` are the payment's claims before the change, by id.
    """
    after = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    pairs = [(before.get(claim.claim_id), claim) for claim in after]
    announce_claims(connection, context, pairs, now)
    opened = [claim for was, claim in pairs if claim.is_open_dispute and not (was and was.is_open_dispute)]
    undecided = [claim for was, claim in pairs if claim.needs_decision and not (was and was.needs_decision)]
    after_commit(connection, lambda: _raise_alarms(opened, undecided))


def _raise_alarms(opened: Iterable[Claim], undecided: Iterable[Claim]) -> None:
    for claim in opened:
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
    for claim in undecided:
        raise_alarm(
            log,
            Alarm.SHORTFALL_UNDECIDED,
            "%s credits of %s were spent already: write them off, or make them a debt",
            claim.missing,
            claim.claim_id,
            claim_id=claim.claim_id,
            processor=claim.processor,
        )
