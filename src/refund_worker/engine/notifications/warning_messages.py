"""Tell the admin backend and people about early fraud warnings.

Notifications are stored in the transaction of the change that they report, and alarms are raised after its commit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.claim_messages import message_row
from refund_worker.engine.views.fraud_warning_objects import warning_views
from refund_worker.store import outbox
from refund_worker.store.database import after_commit
from refund_worker.store.fraud_warnings import RecordedWarning

log = logging.getLogger(__name__)

SUSPECTED = "payment.fraud_warning"


def announce_warnings(connection: Connection, context: Context, changed: Sequence[RecordedWarning], now: float) -> None:
    """Store one message for each of these warnings, which are new or have changed, and alert of those to answer.

    Nothing is sent about a warning before its payment is recorded.
    """
    known = [warning for warning in changed if warning.payment_id is not None]
    opened = [warning for warning in known if warning.is_open]
    after_commit(connection, lambda: _raise_alarms(opened))
    if not context.notify:
        return
    views = warning_views(connection, known)
    rows = [message_row(connection, context, SUSPECTED, view, now) | {"fraud_warning_id": view["id"]} for view in views]
    outbox.insert_messages(connection, rows)


def _raise_alarms(opened: Iterable[RecordedWarning]) -> None:
    for warning in opened:
        raise_alarm(
            log,
            Alarm.FRAUD_WARNING,
            "a bank suspects payment %s: %s; a refund now usually avoids a dispute",
            warning.payment_id,
            warning.object_id,
            fraud_warning_id=warning.fraud_warning_id,
            processor=warning.processor,
        )
