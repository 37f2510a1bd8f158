"""A person cancels a refund object that waits for the customer. The processor's record of the object decides.

The intent is committed before the call. An answer that is missing, or that refuses, concludes nothing: the object is
read next. A canceled object is given back, whether a person canceled it, here or at the processor, or the processor
itself. An object that failed or expired meanwhile is a failure like any other, and one that succeeded has paid.
"""

from __future__ import annotations

from dataclasses import replace

from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.processor_replies import Answer, Busy, Denied, NotSent, Unanswered
from refund_worker.domain.refund import Canceling, Leg, LegChanges, LegStatus
from refund_worker.domain.replacements import uncovered
from refund_worker.domain.timing import backoff_seconds

CANCELED_ON_REQUEST = "canceled_on_request"  # a person asked this program for it
CANCELED_AT_PROCESSOR = "canceled"  # its dashboard or the processor itself did it, without this program


def given_back(builder: DecisionBuilder, leg: Leg) -> LegChanges:
    """Return the changes of a canceled leg: its credits go back, and no other payment is tried.

    The message of one that was canceled without this program stays: it has the processor's own word.
    """
    changes: LegChanges = {
        "failure_code": CANCELED_AT_PROCESSOR,
        "canceling": None,
        "reallocated": True,
        "reversed_credits": uncovered(leg, builder.legs)[1],
    }
    if leg.canceling is None:
        return changes
    by_a_person = "a person canceled it while it waited for the customer"
    return {**changes, "failure_code": CANCELED_ON_REQUEST, "failure_message": by_a_person}


def handle_cancel_reply(builder: DecisionBuilder, leg: Leg, reply: Answer) -> None:
    """Apply an answer to a cancel that describes no object."""
    if leg.status is not LegStatus.REQUIRES_ACTION or leg.canceling is None:
        return
    match reply:
        case Busy() | NotSent() | Denied():  # it was not executed
            _ask_later(builder, leg, Canceling.REQUESTED, getattr(reply, "retry_after_seconds", None))
        case Unanswered():
            _ask_later(builder, leg, Canceling.CALLED)
        case _:
            code, message = getattr(reply, "code", "refused"), getattr(reply, "message", "")
            builder.record_event("cancel_refused", leg=leg, code=code, said=message)
            builder.update_leg(leg, canceling=Canceling.REFUSED, next_at=builder.now)


def continue_canceling(builder: DecisionBuilder, leg: Leg, next_poll: float) -> Leg:
    """Go on after a report that the object still waits for the customer; `next_poll` is the time of the usual poll."""
    if leg.canceling is Canceling.REQUESTED:  # the call comes first
        return builder.update_leg(leg)
    if leg.canceling is Canceling.REFUSED:
        return builder.update_leg(leg, canceling=None, next_at=next_poll, retry_count=0)
    return _ask_later(builder, leg, Canceling.REQUESTED)


def _ask_later(builder: DecisionBuilder, leg: Leg, canceling: Canceling, seconds: float | None = None) -> Leg:
    waits = replace(leg, retry_count=leg.retry_count + 1)
    pause = max(backoff_seconds(builder.policy, waits), seconds or 0)
    return builder.update_leg(waits, canceling=canceling, next_at=builder.now + pause)
