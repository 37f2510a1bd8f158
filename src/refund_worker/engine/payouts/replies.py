"""Record what processors reply about payouts. Answers to our calls, webhook events and polls all come through here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.payouts.decision import PayoutDecision, SendTransfer, TransferReplied
from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.payouts.replies import apply_transfer_replies
from refund_worker.domain.payouts.transfers import TransferAnswered, TransferObject, TransfersFound
from refund_worker.domain.processor_replies import Busy, Denied, NotSent, Unanswered
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.locking import lock_payouts
from refund_worker.engine.payouts.quarantine import quarantine_payouts
from refund_worker.engine.refunds.quarantine import run_or_error
from refund_worker.store.payouts import attempts


def record_transfer_replies(
    context: Context, replies: Sequence[TransferReplied], *, lease_token: str | None = None
) -> list[PayoutDecision]:
    """Run `write_transfer_replies` in a transaction of its own; if that fails, payout by payout.

    One bad reply must not lose the others' answers. A payout that fails alone is quarantined.
    """
    result = run_or_error(context, lambda c: write_transfer_replies(c, context, replies, lease_token=lease_token))
    if not isinstance(result, Exception):
        return result
    done: list[PayoutDecision] = []
    broken: dict[str, Exception] = {}
    grouped = _by_payout(replies)
    for payout_id, items in grouped.items():
        its = run_or_error(
            context,
            lambda c, some=items: write_transfer_replies(c, context, some, lease_token=lease_token),  # type: ignore[misc]
        )
        if isinstance(its, Exception):
            broken[payout_id] = its
        else:
            done.extend(its)
    quarantine_payouts(context, broken, attempted=len(grouped), lease_token=lease_token)
    return done


def write_transfer_replies(
    connection: Connection, context: Context, replies: Sequence[TransferReplied], *, lease_token: str | None = None
) -> list[PayoutDecision]:
    """Combine the replies with what is known, write the decisions that follow, and return them.

    With `lease_token`, only payouts still leased under it are changed, and their lease ends. A worker that slept past
    its lease writes nothing: the next worker that claims the payout finds out what happened.
    """
    by_payout = _by_payout(replies)
    locked = lock_payouts(connection, by_payout)
    now = context.clock(connection)  # under the locks: a wait for them may have outlasted the lease
    decisions: list[PayoutDecision] = []
    recorded: list[TransferReplied] = []
    for payout in locked.payouts:
        if lease_token is not None and (payout.lease_token != lease_token or (payout.lease_until or 0) <= now):
            continue
        items = list(_own(connection, payout, by_payout[payout.payout_id]))
        decision = apply_transfer_replies(payout, items, now, context.payout_policy)
        decisions.append(decision if lease_token is None else decision.released())
        recorded.extend(items)
    apply_payouts(connection, decisions, now, notify=context.notify)
    attempts.end_attempts(
        connection, [_answer(item, item.call, now) for item in recorded if isinstance(item.call, SendTransfer)]
    )
    return decisions


def _own(connection: Connection, payout: Payout, replies: Iterable[TransferReplied]) -> Iterable[TransferReplied]:
    """Yield the replies with the lists reduced to each leg's own objects.

    An object is the leg's if its id is in our records for it, or if it names the leg. An answer to a send is the
    object that its key made.
    """
    legs = {leg.leg_id: leg for leg in payout.legs}
    for item in replies:
        leg = legs[item.leg_id]
        match item.reply:
            case TransfersFound(objects=found):
                known = attempts.owners_of(connection, [(leg.processor, each.object_id) for each in found])
                own = tuple(
                    each
                    for each in found
                    if known.get((leg.processor, each.object_id), (None, each.leg_id))[1] == leg.leg_id
                )
                yield replace(item, reply=TransfersFound(tuple(_named(each, leg.leg_id) for each in own)))
            case TransferAnswered(object=each) if not isinstance(item.call, SendTransfer):
                owner = attempts.owners_of(connection, [(leg.processor, each.object_id)])
                if owner.get((leg.processor, each.object_id), (None, each.leg_id))[1] == leg.leg_id:
                    yield replace(item, reply=replace(item.reply, object=_named(each, leg.leg_id)))
                elif item.call is not None:
                    yield item
            case _:
                yield item


def _named(item: TransferObject, leg_id: str) -> TransferObject:
    """Return the object as the leg's: a mark that was edited away does not make ours foreign."""
    return replace(item, leg_id=leg_id)


def _answer(recorded: TransferReplied, send: SendTransfer, now: float) -> dict[str, Any]:
    reply = recorded.reply
    code: str | None = getattr(reply, "code", None)
    message: str | None = getattr(reply, "message", None)
    match reply:
        case TransferAnswered(object=item):
            code, message = item.object_id, item.status
        case Unanswered(reason=reason) | NotSent(reason=reason):
            code, message = None, reason
        case Busy(code=busy) | Denied(code=busy):
            code = busy
        case _:
            pass
    return {
        "id": recorded.leg_id,
        "attempt": send.attempt,
        "outcome": type(reply).__name__,
        "outcome_code": code,
        "outcome_message": message,
        "request_id": getattr(reply, "request_id", None),
        "answered_at": now,
    }


def _by_payout(replies: Iterable[TransferReplied]) -> dict[str, list[TransferReplied]]:
    grouped: defaultdict[str, list[TransferReplied]] = defaultdict(list)
    for item in replies:
        grouped[item.payout_id].append(item)
    return grouped
