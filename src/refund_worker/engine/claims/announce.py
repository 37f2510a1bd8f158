"""Tell people about claims: alarms for what needs a person."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.money import as_text
from refund_worker.engine.accounts.claims import ClaimChange
from refund_worker.engine.context import Context
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)


def announce(
    connection: Connection, context: Context, before: Mapping[str, Claim], changes: Iterable[ClaimChange], now: float
) -> None:
    """Raise the alarms of these changes after the commit. `before` are the payment's claims before, by id."""
    pairs = [(before.get(change.after.claim_id), change.after) for change in changes]
    opened = [after for was, after in pairs if _is_open_dispute(after) and not (was and _is_open_dispute(was))]
    undecided = [after for was, after in pairs if after.needs_decision and not (was and was.needs_decision)]
    after_commit(connection, lambda: _raise_alarms(opened, undecided))


def _is_open_dispute(claim: Claim) -> bool:
    return claim.kind is ClaimKind.DISPUTE and claim.phase is Phase.HOLDING


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
