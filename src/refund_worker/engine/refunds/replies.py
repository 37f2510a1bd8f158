"""Record what processors reply. Answers to our calls, webhook events, polls and listings all come through here."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import Decision
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.processor_calls import RecordedReply, Send
from refund_worker.domain.processor_replies import Answered, Busy, Denied, Found, NotSent, RefundObject, Unanswered
from refund_worker.domain.refund import Refund
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.conflicts import alert_of_late_answers
from refund_worker.engine.refunds.object_ownership import OwnedObject, found_for, sort_by_owner
from refund_worker.engine.refunds.quarantine import quarantine, run_or_error
from refund_worker.store import attempts, refunds

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordResult:
    """The decisions that followed from replies, and the ids of refunds that this program failed on.

    Nothing was written for the failed (`broken`) ones.
    """

    decisions: list[Decision]
    broken: frozenset[str] = frozenset()


def record_replies(
    context: Context, replies: Sequence[RecordedReply], *, lease_token: str | None = None
) -> RecordResult:
    """Run `write_replies` in a transaction of its own.

    If that fails, it is run refund by refund, and a refund that fails again is quarantined. One bad reply must not lose
    the others' answers again and again. It must not keep the processor's last listing old either: that would stop all
    sending.
    """
    decisions = run_or_error(context, lambda c: write_replies(c, context, replies, lease_token=lease_token))
    if not isinstance(decisions, Exception):
        return RecordResult(decisions)
    raise_alarm(
        log, Alarm.BATCH_FAILED, "a batch of answers could not be recorded: trying them one by one", error=decisions
    )
    done: list[Decision] = []
    broken: dict[str, Exception] = {}
    grouped = _by_refund(replies)
    for refund_id, items in grouped.items():
        its = run_or_error(context, lambda c, some=items: write_replies(c, context, some, lease_token=lease_token))  # type: ignore[misc]
        if isinstance(its, Exception):
            broken[refund_id] = its
        else:
            done.extend(its)
    quarantine(context, broken, attempted=len(grouped), lease_token=lease_token, postpone=lease_token is not None)
    return RecordResult(done, frozenset(broken))


def write_replies(
    connection: Connection, context: Context, replies: Sequence[RecordedReply], *, lease_token: str | None = None
) -> list[Decision]:
    """Combine the replies with what is known, write the decisions that follow, and return them.

    With `lease_token`, only refunds still leased under it are changed, and their lease ends. A worker that slept past
    its lease writes nothing: its answer is dropped, and the next worker that claims the refund finds out what happened.
    """
    now = context.clock(connection)
    by_refund = _by_refund(replies)
    decisions = []
    recorded: list[RecordedReply] = []
    loaded = refunds.load(connection, list(by_refund), lock=True)
    ours = _ours(connection, loaded, replies)
    for refund in loaded:
        if lease_token is not None and (refund.lease_token != lease_token or (refund.lease_until or 0) <= now):
            continue
        items = by_refund[refund.refund_id]
        decision = apply_replies(refund, _with_owners(connection, refund, items, ours), now, context.policy)
        if lease_token is not None:
            decision = decision.released()
        decisions.append(decision)
        recorded.extend(items)
    apply(connection, decisions, now, money_went_out=True, notify=context.notify)
    alert_of_late_answers(connection, context, decisions, now)
    attempts.end_attempts(
        connection, [_answer(item, item.call, now) for item in recorded if isinstance(item.call, Send)]
    )
    return decisions


_Ours = Mapping[tuple[str, str], OwnedObject]  # by processor and object id


def _ours(connection: Connection, loaded: Iterable[Refund], replies: Iterable[RecordedReply]) -> _Ours:
    """Return our own objects among those that replies describe, except replies to a send. Reads once for all."""
    processors = {leg.leg_id: leg.processor for refund in loaded for leg in refund.legs}
    reported: defaultdict[str, list[RefundObject]] = defaultdict(list)
    for item in replies:
        if isinstance(item.reply, Answered) and not isinstance(item.call, Send) and item.leg_id in processors:
            reported[processors[item.leg_id]].append(item.reply.object)
    return {
        (processor, owned.refund_object.processor_refund_id): owned
        for processor, refund_objects in reported.items()
        for owned in sort_by_owner(connection, processor, refund_objects).ours
    }


def _with_owners(
    connection: Connection, refund: Refund, replies: Iterable[RecordedReply], ours: _Ours
) -> Iterator[RecordedReply]:
    """Yield the replies with each list split into the leg's own objects and those that others made.

    Each object gets the leg and the attempt that our records have for it. An answer to a send is what its key made,
    whatever marks it has. An unrequested report of an object that is not the leg's is left out.
    """
    legs = {leg.leg_id: leg for leg in refund.legs}
    for item in replies:
        leg = legs[item.leg_id]
        match item.reply:
            case Found(objects=refund_objects):
                yield replace(item, reply=found_for(connection, leg, refund_objects))
            case Answered(object=refund_object) if not isinstance(item.call, Send):
                owned = ours.get((leg.processor, refund_object.processor_refund_id))
                if owned is not None and owned.leg_id == leg.leg_id:
                    # Keep the status of this reply: another reply may report another status of the same object.
                    named = replace(
                        refund_object,
                        leg_id=leg.leg_id,
                        attempt=owned.refund_object.attempt,
                        amount_minor=owned.linked_minor or refund_object.amount_minor,
                    )
                    yield replace(item, reply=replace(item.reply, object=named))
                elif item.call is not None:
                    yield item
            case _:
                yield item


def _answer(recorded: RecordedReply, send: Send, now: float) -> dict[str, Any]:
    reply = recorded.reply
    code: str | None
    message: str | None
    match reply:
        case Answered(object=refund_object):
            code, message = refund_object.processor_refund_id, refund_object.status
        case Unanswered(reason=reason) | NotSent(reason=reason):
            code, message = None, reason
        case Busy(code=busy) | Denied(code=busy):
            code, message = busy, getattr(reply, "message", None)
        case _:
            code, message = getattr(reply, "code", None), getattr(reply, "message", None)
    return {
        "id": recorded.leg_id,
        "attempt": send.attempt,
        "outcome": type(reply).__name__,
        "outcome_code": code,
        "outcome_message": message,
        "request_id": getattr(reply, "request_id", None),
        "answered_at": now,
    }


def _by_refund(replies: Iterable[RecordedReply]) -> dict[str, list[RecordedReply]]:
    grouped: defaultdict[str, list[RecordedReply]] = defaultdict(list)
    for item in replies:
        grouped[item.refund_id].append(item)
    return grouped
