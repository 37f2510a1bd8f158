"""The alarms of the program: the one list of their names, and the one way to raise one.

An alarm is a log line at level `error` that begins with `alarm:` and carries two fields: `alarm`, a name that stays the
same in all versions, and `runbook`, the place that says what to do. `docs/runbook.md` has a heading for each name.
"""

from __future__ import annotations

import logging
from enum import StrEnum

from refund_worker.metrics import ALARMS, count

RUNBOOK = "docs/runbook.md"


class Alarm(StrEnum):
    """The names of all alarms."""

    # Nothing is sent to a processor.
    SENDING_STOPPED = "sending_stopped"
    RESTORED_BACKUP = "restored_backup"
    FUNDS_SHORT = "funds_short"  # refunds and payouts need more than is available there
    # One refund needs a person, or its money went another way than was recorded.
    REFUND_STOPPED = "refund_stopped"
    LATE_FAILURE = "late_failure"
    PROCESSOR_CONTRADICTS = "processor_contradicts"
    PAID_AFTER_FAILURE = "paid_after_failure"
    POSTED_AFTER_ALL = "posted_after_all"
    REFUNDED_TWICE = "refunded_twice"
    REFUNDED_ELSEWHERE = "refunded_elsewhere"
    MANUAL_PAYMENT_COUNTS_AGAIN = "manual_payment_counts_again"
    PAYMENT_MISMATCH = "payment_mismatch"
    PAYMENT_NOT_READ = "payment_not_read"
    PAYMENT_NOT_FOUND = "payment_not_found"
    ANSWER_MISMATCH = "answer_mismatch"
    REFUND_AND_DISPUTE = "refund_and_dispute"
    # One payout needs a person, or its money came back.
    PAYOUT_STOPPED = "payout_stopped"
    PAYOUT_RETURNED = "payout_returned"
    PAYOUT_RETURNED_LESS = "payout_returned_less"
    PAYOUT_PAID_TWICE = "payout_paid_twice"
    # Others moved money of a payment.
    DISPUTE_OPENED = "dispute_opened"
    FRAUD_WARNING = "fraud_warning"
    PAYMENT_MAY_HAVE_FAILED = "payment_may_have_failed"
    SHORTFALL_UNDECIDED = "shortfall_undecided"
    NOT_AT_PROCESSOR = "not_at_processor"
    UNKNOWN_STATUS = "unknown_status"
    CLOCK_WENT_BACK = "clock_went_back"
    LEDGER_DIFFERS = "ledger_differs"
    SUMS_DIFFER = "sums_differ"
    # A fault of this program.
    INTERNAL_ERROR = "internal_error"
    BATCH_FAILED = "batch_failed"
    ADAPTER_FAILED = "adapter_failed"
    REQUEST_FAILED = "request_failed"
    SWEEP_FAILED = "sweep_failed"
    JOB_FAILED = "job_failed"
    # A fault of a process, or of something that this program depends on.
    WORKER_RESTARTED = "worker_restarted"
    ROUND_INTERRUPTED = "round_interrupted"
    EMBEDDED_BROKER_FAILED = "embedded_broker_failed"
    MESSAGE_DROPPED = "message_dropped"
    BROKER_REFUSES = "broker_refuses"
    TASK_NOT_OURS = "task_not_ours"
    ANOTHER_INSTALLATION = "another_installation"
    WEBHOOK_UNREADABLE = "webhook_unreadable"
    NOTIFICATION_GIVEN_UP = "notification_given_up"


class Condition(StrEnum):
    """The conditions that a warning of the log can name. They end without a person, or metrics show them better."""

    BROKER_UNAVAILABLE = "broker_unavailable"
    DATABASE_READ_ONLY = "database_read_only"
    DATABASE_UNAVAILABLE = "database_unavailable"
    LISTING_STALE = "listing_stale"
    WEBHOOKS_REJECTED = "webhooks_rejected"


# The alarms of a refund's timeline whose name is not that of the event.
_OF_EVENTS = {
    "processor_paused": Alarm.SENDING_STOPPED,
    "leg_blocked": Alarm.REFUND_STOPPED,
    "leg_unfunded": Alarm.REFUND_STOPPED,
    # These kinds are failure codes themselves.
    "report_overdue": Alarm.REFUND_STOPPED,
    "manual_fallback": Alarm.REFUND_STOPPED,
    "no_fallback_left": Alarm.REFUND_STOPPED,
    # More than one refund pays the leg: the processor accepted or paid another one.
    "leg_accepted": Alarm.REFUNDED_TWICE,
    "leg_asks_customer": Alarm.REFUNDED_TWICE,
    "leg_paid": Alarm.REFUNDED_TWICE,
    "paid_by_hand_stands": Alarm.MANUAL_PAYMENT_COUNTS_AGAIN,
}
_ENDED_WITHOUT_MONEY = ("leg_object_failed", "leg_object_canceled")
_SUCCEEDED = "succeeded"


def alarm_of_event(kind: str, from_status: str | None = None, code: str | None = None) -> Alarm:
    """Return the alarm of an event that is marked as one. `from_status` is the leg's status before it.

    `code` is why a processor was paused.
    """
    if code == Alarm.RESTORED_BACKUP:
        return Alarm.RESTORED_BACKUP
    if kind in _ENDED_WITHOUT_MONEY:
        return Alarm.LATE_FAILURE if from_status == _SUCCEEDED else Alarm.REFUND_STOPPED
    return _OF_EVENTS.get(kind) or Alarm(kind)


_OF_PAYOUTS = {
    "leg_blocked": Alarm.PAYOUT_STOPPED,
    "leg_unfunded": Alarm.PAYOUT_STOPPED,
    "leg_accepted": Alarm.PAYOUT_PAID_TWICE,
    "leg_asks_customer": Alarm.PAYOUT_PAID_TWICE,
    "leg_paid": Alarm.PAYOUT_PAID_TWICE,
    "paid_twice": Alarm.PAYOUT_PAID_TWICE,
    "paid_after_rejection": Alarm.PAYOUT_STOPPED,
    "returned_less": Alarm.PAYOUT_RETURNED_LESS,
    "returned_amount_differs": Alarm.PAYOUT_RETURNED_LESS,
    "object_never_understood": Alarm.UNKNOWN_STATUS,
}


def alarm_of_payout_event(kind: str) -> Alarm:
    """Return the alarm of an event of a payout that is marked as one."""
    if kind in _ENDED_WITHOUT_MONEY:
        return Alarm.PAYOUT_RETURNED
    return _OF_PAYOUTS.get(kind) or Alarm(kind)


def anchor_of(name: str) -> str:
    """Return the anchor of an alarm or a failure code: in docs/runbook.md, and on the console's help page."""
    return name.replace("_", "-")


def runbook_link(name: str) -> str:
    """Return the place in the documentation that explains an alarm or a failure code."""
    return f"{RUNBOOK}#{anchor_of(name)}"


def raise_alarm(
    log: logging.Logger,
    alarm: Alarm,
    message: str,
    *arguments: object,
    error: BaseException | bool | None = None,
    **fields: str | None,
) -> None:
    """Log an alarm. `arguments` fill the placeholders of `message`; `error` adds a traceback (True: the current one's).

    `fields` are more fields of the line.
    """
    count(ALARMS, alarm.value)
    extra = {"alarm": alarm.value, "runbook": runbook_link(alarm)} | fields
    log.error("alarm: " + message, *arguments, exc_info=error, extra=extra, stacklevel=2)


# Ours, when a transaction begins, and those of Postgres and libpq. Advice may say that a standby accepts no writes.
_READ_ONLY = ("the server accepts no writes", "read-only transaction", "session is read-only")


def condition_of_database(reason: str) -> Condition:
    """Return the condition of a database that cannot be used, from the cause in words (store/connection_errors.py)."""
    is_read_only = any(words in reason for words in _READ_ONLY)
    return Condition.DATABASE_READ_ONLY if is_read_only else Condition.DATABASE_UNAVAILABLE


def warn_of(log: logging.Logger, condition: Condition, message: str, *arguments: object, **fields: str | None) -> None:
    """Log a warning with the fields of an alarm. It is not counted as one."""
    extra = {"alarm": condition.value, "runbook": runbook_link(condition)} | fields
    log.warning(message, *arguments, extra=extra, stacklevel=2)
