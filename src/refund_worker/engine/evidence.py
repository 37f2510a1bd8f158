"""The one entrance for what processors say: answers to our calls, webhooks, polls and reconciliation alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.decision import Call, Decision, Send
from refund_worker.domain.hear import heard_all
from refund_worker.domain.replies import Answered, Busy, Denied, NotSent, Unanswered
from refund_worker.engine.apply import apply
from refund_worker.engine.context import Answer, Context
from refund_worker.store import refunds


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was said about one leg: the answer to `call`, asked at `asked_at`, or unasked (`call` None)."""

    refund_id: str
    leg_id: str
    call: Call | None
    reply: Answer
    asked_at: float | None = None


def take_evidence(
    connection: Connection, context: Context, evidence: Sequence[Evidence], *, lease_token: str | None = None
) -> list[Decision]:
    """Join the evidence with what is known and write what follows.

    With `lease_token`, only refunds still leased under it are touched, and their lease ends: a worker that slept past
    its lease writes nothing; whoever holds the refund now asks the processor again under the same key.
    """
    now = context.clock(connection)
    by_refund: defaultdict[str, list[Evidence]] = defaultdict(list)
    for item in evidence:
        by_refund[item.refund_id].append(item)
    decisions = []
    heard_of: list[Evidence] = []
    for refund in refunds.load(connection, list(by_refund), lock=True):
        if lease_token is not None and (refund.lease_token != lease_token or (refund.lease_until or 0) <= now):
            continue
        items = by_refund[refund.refund_id]
        decision = heard_all(refund, [(e.leg_id, e.call, e.reply, e.asked_at) for e in items], now, context.policy)
        if lease_token is not None:
            decision = replace(decision, after=replace(decision.after, lease_token=None, lease_until=None))
        decisions.append(decision)
        heard_of.extend(items)
    apply(connection, decisions, now, money_went_out=True, notify=context.notify)
    refunds.end_attempts(connection, [_answer(e, e.call, now) for e in heard_of if isinstance(e.call, Send)])
    return decisions


def _answer(evidence: Evidence, send: Send, now: float) -> dict[str, Any]:
    reply = evidence.reply
    code: str | None
    message: str | None
    match reply:
        case Answered(object=thing):
            code, message = thing.processor_refund_id, thing.status
        case Unanswered(reason=reason) | NotSent(reason=reason):
            code, message = None, reason
        case Busy(code=busy) | Denied(code=busy):
            code, message = busy, getattr(reply, "message", None)
        case _:
            code, message = getattr(reply, "code", None), getattr(reply, "message", None)
    return {
        "id": evidence.leg_id,
        "n": send.attempt,
        "outcome": type(reply).__name__,
        "outcome_code": code,
        "outcome_message": message,
        "request_id": getattr(reply, "request_id", None),
        "answered_at": now,
    }


def alarms(decisions: Iterable[Decision]) -> list[tuple[str, str]]:
    """(refund_id, event kind) of everything in these decisions that an operator must hear of."""
    return [(d.after.refund_id, e.kind) for d in decisions for e in d.events if e.alarm]
