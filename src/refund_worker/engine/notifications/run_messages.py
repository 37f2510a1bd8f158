"""Notifications about payout runs, stored in the transaction of the change that they report."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from refund_worker.domain.payouts.runs import PayoutRun, RunStatus
from refund_worker.engine.views.payout_runs import run_views
from refund_worker.store import outbox
from refund_worker.times import iso

# A run that was made or approved is known to those who did it, and a dry run changes nothing.
NOTIFIED = frozenset({RunStatus.AWAITING_APPROVAL, RunStatus.DONE, RunStatus.CANCELED})


def announce_run(connection: Connection, run: PayoutRun, now: float) -> None:
    """Store one message about this run, which has just reached its status, if the status is one of `NOTIFIED`."""
    if run.status not in NOTIFIED:
        return
    message_id, kind = f"msg_{run.run_id}_{run.version}", f"payout_run.{run.status}"
    (view,) = run_views(connection, [run])
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": view}
    row = {
        "message_id": message_id,
        "run_id": run.run_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
    outbox.insert_messages(connection, [row])
