"""Process due payouts in batches: claim and commit intents → call processors concurrently → commit the answers.

This is the way of refunds (`engine/refunds/process.py`): no transaction is open while a processor is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.next_step import attempt_key
from refund_worker.domain.payouts.decision import (
    CancelTransfer,
    FetchTransfer,
    FindTransfer,
    PayoutDecision,
    SendTransfer,
    TransferCall,
    TransferReplied,
)
from refund_worker.domain.payouts.next_step import next_payout_step
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import PayoutAnswer
from refund_worker.domain.processor_replies import Denied, NotSent
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.locking import facts_of, lock_payouts
from refund_worker.engine.payouts.orders import order_of_leg, request_of_attempt
from refund_worker.engine.payouts.quarantine import postpone_unreadable, quarantine_payouts, readable_again
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.engine.payouts.route_calls import call_route
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.engine.refunds.process import LEASE_SHARE, has_slot
from refund_worker.engine.refunds.quarantine import run_or_error
from refund_worker.engine.refunds.send_gate import KillSwitch, send_blocks
from refund_worker.errors import DestinationsKeyMissing
from refund_worker.logs import log_fields
from refund_worker.store.installation import installation_id, server_of
from refund_worker.store.payouts import attempts, payouts

log = logging.getLogger(__name__)

NAMES = {SendTransfer: "payout", FindTransfer: "find_payout", FetchTransfer: "fetch", CancelTransfer: "cancel_payout"}


@dataclass(frozen=True, slots=True)
class PayoutQuestion:
    """One call to make. `key` and `body` are those of the leg's attempt; `since` is its first send (epoch seconds).

    `destination_box` is the payout's sealed destination.
    """

    payout_id: str
    destination_box: str = field(repr=False)
    call: TransferCall
    key: str = ""
    body: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class PayoutClaim:
    """The result of one claim, as for refunds."""

    token: str
    claimed: int
    now: float
    questions: tuple[PayoutQuestion, ...]
    server: str | None = None


def process_due_payouts(
    context: Context, only: Collection[str] | None = None, *, bulk: bool | None = None, limit: int | None = None
) -> int:
    """Process up to `limit` due payouts once, or only these; return how many were claimed. `bulk` as for refunds."""
    began = context.monotonic()
    claim = run_or_error(
        context, lambda connection: claim_due_payouts(connection, context, only, bulk=bulk, limit=limit)
    )
    if isinstance(claim, Exception):
        raise_alarm(
            log, Alarm.BATCH_FAILED, "a batch of payouts could not be claimed: trying them one by one", error=claim
        )
        return _process_one_by_one(context, only, bulk=bulk, limit=limit)
    _call_and_record(context, claim, began)
    return claim.claimed


def process_payouts_until_idle(context: Context, only: Collection[str] | None = None) -> int:
    """Process payouts until none (among `only`) is due any more; return how many were claimed in total."""
    total = 0
    while claimed := process_due_payouts(context, only):
        total += claimed
    return total


def _call_and_record(context: Context, claim: PayoutClaim, began: float) -> None:
    if not claim.questions:
        return
    answers = context.run(_call_all(context, claim, began))
    replies = [
        TransferReplied(q.payout_id, q.call.leg_id, q.call, answer, claim.now)
        for q, answer in zip(claim.questions, answers, strict=True)
    ]
    record_transfer_replies(context, replies, lease_token=claim.token)


def _process_one_by_one(context: Context, only: Collection[str] | None, *, bulk: bool | None, limit: int | None) -> int:
    """Process due payouts one by one; return how many were tried. One that this program fails on is quarantined."""

    def due(connection: Connection) -> list[str]:
        return payouts.claimable(connection, context.clock(connection), limit or context.batches.claim, only, bulk)

    ids = context.database.run(due)
    broken: dict[str, Exception] = {}
    for payout_id in ids:
        began = context.monotonic()
        claim = run_or_error(context, lambda connection, one=payout_id: claim_due_payouts(connection, context, [one]))  # type: ignore[misc]
        if isinstance(claim, Exception):
            broken[payout_id] = claim
        else:
            _call_and_record(context, claim, began)
    quarantine_payouts(context, broken, attempted=len(ids))
    return len(ids)


def claim_due_payouts(
    connection: Connection,
    context: Context,
    only: Collection[str] | None = None,
    *,
    bulk: bool | None = None,
    limit: int | None = None,
) -> PayoutClaim:
    """Claim due payouts, take the next step of each, and store the intents of the calls that follow.

    The caller commits before it makes the calls.
    """
    now = context.clock(connection)
    token = context.new_id("lease")
    ids = payouts.claimable(connection, now, limit or context.batches.claim, only, bulk)
    locked = lock_payouts(connection, ids, skip=True)
    # Another worker may have claimed some between the choice and the lock.
    free = [p for p in locked.payouts if p.due_at is not None and p.due_at <= now and (p.lease_until or 0) <= now]
    if not free:
        return PayoutClaim(token, 0, now, ())
    paused = send_blocks(connection, context, now, {leg.processor for p in free for leg in p.legs})
    facts = facts_of(connection, replace(locked, payouts=tuple(free)), now)
    lease_until = now + context.policy.lease_seconds
    decisions: list[PayoutDecision] = []
    begun: set[tuple[str, str]] = set()
    freed: Counter[tuple[str, str]] = Counter()
    for payout in free:
        known, pair = facts[payout.payout_id], (payout.payee_id, payout.currency)
        known = replace(known, debt_minor=known.debt_minor - freed[pair])
        if pair in begun and not payout.ledger_posted:  # one of its payee's was begun in this batch
            known = replace(known, open_payout="another", last_payout_at=now)
        decision = next_payout_step(readable_again(payout), now, context.payout_policy, facts=known, paused=paused)
        if decision.after.ledger_posted and not payout.ledger_posted:
            begun.add(pair)
        if not payout.ledger_posted:
            freed[pair] -= decision.balance.in_flight_minor
        decisions.append(decision.leased(token, lease_until) if decision.calls else decision.released())
    freezer = _Freezer(connection, context, decisions)
    frozen = freezer.freeze(decisions)
    postpone_unreadable(connection, context, [p for p in free if p.payout_id in freezer.unreadable], now)
    apply_payouts(connection, frozen, now, notify=context.notify)
    attempts.begin_attempts(connection, freezer.begun)
    questions = tuple(freezer.questions)
    return PayoutClaim(token, len(free), now, questions, server_of(connection) if questions else None)


class _Freezer:
    """Gives the calls of decisions their keys and bodies: a new attempt's is made now, an older one's is read.

    `begun` are the sends to be stored. `unreadable` are the payouts whose calls cannot be made here, because their
    destination was sealed with a key that is not set.
    """

    def __init__(self, connection: Connection, context: Context, decisions: Sequence[PayoutDecision]) -> None:
        ids = [call.leg_id for d in decisions for call in d.calls]
        self._context = context
        self._known = attempts.frozen_attempts(connection, ids)
        self._installation = installation_id(connection) if ids else ""
        self.questions: list[PayoutQuestion] = []
        self.begun: list[tuple[SendTransfer, PayoutLeg, str]] = []
        self.unreadable: set[str] = set()

    def freeze(self, decisions: Sequence[PayoutDecision]) -> list[PayoutDecision]:
        """Collect the calls of these decisions, and return the decisions without those that cannot be carried out."""
        done = []
        for decision in decisions:
            begun: list[tuple[SendTransfer, PayoutLeg, str]] = []
            try:
                questions = [self._question(decision.after, call, begun) for call in decision.calls]
            except DestinationsKeyMissing:
                self.unreadable.add(decision.after.payout_id)
                continue
            self.questions += questions
            self.begun += begun
            done.append(decision)
        return done

    def _question(
        self, payout: Payout, call: TransferCall, begun: list[tuple[SendTransfer, PayoutLeg, str]]
    ) -> PayoutQuestion:
        leg = next(leg for leg in payout.legs if leg.leg_id == call.leg_id)
        context, its = self._context, self._known.get(call.leg_id, {})
        if isinstance(call, SendTransfer):
            frozen = its.get(call.attempt)
            if frozen is None:
                body = _body(context, payout, leg, self._installation)
            else:
                body = request_of_attempt(context, payout.payout_id, frozen.body)
            begun.append((call, leg, frozen.body if frozen else context.box.seal(body)))
            since = frozen.first_sent_at if frozen else leg.first_sent_at or 0.0
            return PayoutQuestion(payout.payout_id, payout.destination_box, call, call.key, body, since)
        # The question is about the last attempt that was sent; a list reaches back to the first send of all.
        last = its.get(leg.attempt) or (its[max(its)] if its else None)
        if last is None:
            return PayoutQuestion(payout.payout_id, payout.destination_box, call)
        since = min(each.first_sent_at for each in its.values())
        body = request_of_attempt(context, payout.payout_id, last.body)
        return PayoutQuestion(payout.payout_id, payout.destination_box, call, last.key, body, since)


def _body(context: Context, payout: Payout, leg: PayoutLeg, installation: str) -> str:
    key = attempt_key(leg.leg_id, leg.attempt)
    return context.routes[leg.processor].freeze(order_of_leg(context, payout, leg, installation, key))


async def _call_all(context: Context, claim: PayoutClaim, began: float) -> list[PayoutAnswer]:
    """Ask all questions concurrently, but those about one payout one after another."""
    answers: dict[int, PayoutAnswer] = {}
    switch = KillSwitch(context, began, claim.server)
    by_payout: defaultdict[str, list[int]] = defaultdict(list)
    for index, question in enumerate(claim.questions):
        by_payout[question.payout_id].append(index)

    async def call_in_order(indices: list[int]) -> None:
        for index in indices:
            answers[index] = await _ask(context, claim.questions[index], began, switch)

    await asyncio.gather(*(call_in_order(indices) for indices in by_payout.values()))
    return [answers[index] for index in range(len(claim.questions))]


async def _ask(context: Context, question: PayoutQuestion, began: float, switch: KillSwitch) -> PayoutAnswer:
    name = question.call.processor
    route = context.routes.get(name)
    if route is None:
        return Denied("processor_not_configured", f"no access to payouts over {name} is configured")
    waits = isinstance(question.call, FetchTransfer) and question.call.rereads
    has = await has_slot(context, reading_slot(name) if waits else name, began)
    if has and isinstance(question.call, SendTransfer) and switch.stops(name):
        return NotSent(f"not sent: {name} was paused while this call waited", attempted=False)
    # Check the deadline last: a worker may be frozen in what comes before for any time.
    if not has or began + context.policy.lease_seconds * LEASE_SHARE - context.monotonic() <= 0:
        return NotSent("not sent: no slot was free within the lease", attempted=False)
    match question.call:
        case SendTransfer():
            call = route.send(question.key, question.body)
        case FindTransfer():
            call = route.find(question.key, question.body, question.since)  # type: ignore[assignment]
        case FetchTransfer(object_id=object_id):
            call = route.fetch(object_id, question.body)
        case CancelTransfer(object_id=object_id):
            call = route.cancel(object_id, question.body)
    with log_fields(payout_id=question.payout_id, leg_id=question.call.leg_id):
        return await call_route(context, name, NAMES[type(question.call)], call, question.destination_box)
