"""Process due refunds in batches: claim and commit intents → call processors concurrently → commit the answers.

No transaction is open while a processor is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import Decision, PaymentDelta
from refund_worker.domain.fallback import NO_PAYEES
from refund_worker.domain.legs import unplaced_legs
from refund_worker.domain.next_step import next_step
from refund_worker.domain.payment_check import PaymentFacts, with_sent
from refund_worker.domain.processor_calls import (
    NO_SHARES,
    Call,
    Cancel,
    Fetch,
    LookUp,
    RecordedReply,
    Send,
    SharesBack,
    Verify,
)
from refund_worker.domain.processor_replies import Answer, Blocked, Denied, NotSent
from refund_worker.domain.refund import Leg
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.payment_facts import facts_for, payments_ahead, reading_slot
from refund_worker.engine.refunds.quarantine import quarantine, run_or_error
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.engine.refunds.send_gate import KillSwitch, send_blocks, unsynced_processors
from refund_worker.logs import log_fields
from refund_worker.metrics import CLAIM_TO_SEND, LEASES_EXPIRED, RATE_WAIT, count, observe
from refund_worker.processors.base import Processor
from refund_worker.processors.unsupported import UnsupportedProcessor, UnusablePayment
from refund_worker.store import accounts, attempts, payments, refunds
from refund_worker.store.database import after_commit
from refund_worker.store.installation import installation_id, server_of
from refund_worker.store.payouts.payees import ready_by_customer

log = logging.getLogger(__name__)

NAMES = {Send: "send", LookUp: "look_up", Fetch: "fetch", Verify: "verify", Cancel: "cancel"}
# No call begins after this share of the lease: the rest is for the call itself.
LEASE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """One call to make about `payment` (the processor's id for it).

    `body` is the attempt's frozen body. It is filled for a send, and for a payment that no adapter here can ask about.
    `shares` are what a send takes back from others.
    """

    refund_id: str
    call: Call
    payment: str
    body: str = ""
    shares: SharesBack = NO_SHARES


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of one claim: the lease's token, the number of refunds claimed, and the questions for processors.

    `now` is the time of the claim in epoch seconds, and `server` the database server that stored it.
    """

    token: str
    claimed: int
    now: float
    questions: tuple[Question, ...]
    server: str | None = None


def process_due(
    context: Context, only: Collection[str] | None = None, *, bulk: bool | None = None, limit: int | None = None
) -> int:
    """Process up to `limit` due refunds once; return how many were claimed.

    `only` restricts them to these ids, and `bulk` to bulk refunds (True) or to all others (False).
    """
    began = context.monotonic()
    claim = run_or_error(context, lambda connection: claim_due(connection, context, only, bulk=bulk, limit=limit))
    if isinstance(claim, Exception):
        raise_alarm(
            log, Alarm.BATCH_FAILED, "a batch of refunds could not be claimed: trying them one by one", error=claim
        )
        return _process_one_by_one(context, only, bulk=bulk, limit=limit)
    _call_and_record(context, claim, began)
    return claim.claimed


def _call_and_record(context: Context, claim: Claim, began: float) -> None:
    """Make the calls of a claim and record the answers.

    `began` (monotonic seconds) is from before the claim: a worker that was frozen between its commit and its calls must
    not begin them.
    """
    if not claim.questions:
        return
    answers = context.run(_call_all(context, claim, began))
    replies = [
        RecordedReply(q.refund_id, q.call.leg_id, q.call, answer, claim.now)
        for q, answer in zip(claim.questions, answers, strict=True)
    ]
    taken = record_replies(context, replies, lease_token=claim.token)
    if len(taken.decisions) + len(taken.broken) < len({q.refund_id for q in claim.questions}):
        log.warning("answers arrived after the lease ended and were not recorded; the processor is asked again")


def _process_one_by_one(context: Context, only: Collection[str] | None, *, bulk: bool | None, limit: int | None) -> int:
    """Process due refunds one by one; return how many were tried.

    A refund that this program fails on must not block the others: it is quarantined and shown to a person.
    """

    def due(connection: Connection) -> list[str]:
        now = context.clock(connection)
        return refunds.claimable(connection, now, limit or context.batches.claim, only, bulk)

    ids = context.database.run(due)
    broken: dict[str, Exception] = {}
    for refund_id in ids:
        began = context.monotonic()
        claim = run_or_error(context, lambda connection, one=refund_id: claim_due(connection, context, [one]))  # type: ignore[misc]
        if isinstance(claim, Exception):
            broken[refund_id] = claim
        else:
            _call_and_record(context, claim, began)
    quarantine(context, broken, attempted=len(ids))
    return len(ids)


def process_until_idle(context: Context, only: Collection[str] | None = None, *, bulk: bool | None = None) -> int:
    """Process refunds until none (among `only`) is due any more; return how many were claimed in total."""
    total = 0
    while claimed := process_due(context, only, bulk=bulk):
        total += claimed
    return total


def claim_due(
    connection: Connection,
    context: Context,
    only: Collection[str] | None = None,
    *,
    bulk: bool | None = None,
    limit: int | None = None,
) -> Claim:
    """Claim due refunds, take the next step of each, and store the intents of the calls that follow.

    `only`, `bulk` and `limit` are those of `process_due`. The caller commits before it makes the calls.
    """
    now = context.clock(connection)
    token = context.new_id("lease")
    ids = refunds.claimable(connection, now, limit or context.batches.claim, only, bulk)
    claimed = refunds.load(connection, ids)
    if not claimed:
        return Claim(token, 0, now, ())
    expired = sum(refund.lease_token is not None for refund in claimed)
    if expired:
        after_commit(connection, lambda: count(LEASES_EXPIRED, by=expired))
    stranded = sorted({refund.customer_id for refund in claimed if unplaced_legs(refund)})
    if stranded:
        accounts.lock_customers(connection, stranded)
    found = accounts.refundable_payments(connection, stranded) if stranded else {}
    refundable = {customer: usable_payments(its, context.policy, now) for customer, its in found.items()}
    payable = ready_by_customer(connection, stranded) if PAYOUT in context.policy.fallback else {}
    ahead = payments_ahead(claimed, refundable)
    # A leg that replaces a failed one may go over another processor, which can be paused too.
    named = {leg.processor for refund in claimed for leg in refund.legs}.union(ahead.values())
    paused = send_blocks(connection, context, now, named)
    unsynced = unsynced_processors(connection, context, now, set(ahead.values()))
    suspect = payments.refunded_elsewhere(connection, ahead) | {p for p, name in ahead.items() if name in unsynced}
    facts: Mapping[str, PaymentFacts] = facts_for(connection, context, ahead)
    lease_until = now + context.policy.lease_seconds
    decisions = []
    for refund in claimed:
        its_payments = refundable.get(refund.customer_id, ()) if unplaced_legs(refund) else ()
        payees = payable.get(refund.customer_id, NO_PAYEES)
        known: dict[str, Any] = {"paused": paused, "suspect": suspect, "facts": facts, "payees": payees}
        decision = next_step(refund, now, context.policy, payments=its_payments, **known)
        facts = with_sent(facts, refund.legs, decision.after.legs)
        decisions.append(decision.leased(token, lease_until) if decision.calls else decision.released())
        if its_payments:  # the amounts that this refund took are not available to the customer's next one
            refundable[refund.customer_id] = after_reserving(refundable[refund.customer_id], decision)
    apply(connection, decisions, now, notify=context.notify)
    questions = tuple(_freeze(connection, context, decisions))
    return Claim(token, len(claimed), now, questions, server_of(connection) if questions else None)


def after_reserving(refundable: Sequence[RefundablePayment], decision: Decision) -> list[RefundablePayment]:
    """Return the payments after the decision has reserved its amounts of them."""
    none = PaymentDelta()
    deltas = [decision.payments.get(payment.payment_id, none) for payment in refundable]
    return [payment.after_reserving(d.credits, d.minor) for payment, d in zip(refundable, deltas, strict=True)]


def _freeze(connection: Connection, context: Context, decisions: Sequence[Decision]) -> list[Question]:
    """Return questions with bodies: a new attempt's is made and stored now, an older one's is read as it was sent."""
    pairs = [(d, call) for d in decisions for call in d.calls]
    legs = {leg.leg_id: leg for d in decisions if d.calls for leg in d.after.legs}
    again = [legs[call.leg_id] for _, call in pairs if _is_asked_with_its_body(context, call, legs[call.leg_id])]
    stored = attempts.frozen_bodies(connection, [(leg.leg_id, leg.attempt) for leg in again]) if again else {}
    sends = any(isinstance(call, Send) for _, call in pairs)
    installation = installation_id(connection) if sends else ""
    over = {legs[call.leg_id].payment_id for _, call in pairs if isinstance(call, Send) and _connects(context, call)}
    shares = payments.shares_back(connection, over) if over else {}
    questions: list[Question] = []
    begun: list[tuple[Send, Leg, str]] = []
    for decision, call in pairs:
        leg = legs[call.leg_id]
        body, back = stored.get((leg.leg_id, leg.attempt), ""), shares.get(leg.payment_id, NO_SHARES)
        if isinstance(call, Send):
            body = stored.get((call.leg_id, call.attempt)) or _body(context, call, installation, back)
            begun.append((call, leg, body))
        questions.append(Question(decision.after.refund_id, call, leg.processor_payment_id, body, back))
    attempts.begin_attempts(connection, begun)
    return questions


def _connects(context: Context, send: Send) -> bool:
    capabilities = context.accounts.capabilities_of(send.processor)
    return capabilities is not None and capabilities.connects


def _is_asked_with_its_body(context: Context, call: Call, leg: Leg) -> bool:
    if isinstance(call, Send):
        return leg.sends > 1
    return _substitute(context, call.processor, leg.processor_payment_id) is not None


def _substitute(context: Context, processor: str, payment: str, body: str = "") -> UnsupportedProcessor | None:
    """Return the adapter that answers instead of a processor that cannot be asked about this payment, else None."""
    if not context.accounts.can_be_sent(processor, payment):
        return UnusablePayment(processor, body)
    if processor not in context.processors and processor not in context.accounts:
        return UnsupportedProcessor(processor, body)
    return None


def _adapter(context: Context, processor: str, payment: str, body: str = "") -> Processor | None:
    """Return what answers for this payment: a substitute or the adapter, or None without access to the processor."""
    return _substitute(context, processor, payment, body) or context.processors.get(processor)


def _body(context: Context, send: Send, installation: str, shares: SharesBack) -> str:
    adapter = _adapter(context, send.processor, send.order.processor_payment_id)
    processor = adapter or UnsupportedProcessor(send.processor)
    capabilities = context.accounts.capabilities_of(send.processor)
    takes_email = capabilities is not None and capabilities.takes_email
    email = send.order.instructions_email if takes_email else None
    return processor.freeze(replace(send.order, installation=installation, instructions_email=email, shares=shares))


async def _call_all(context: Context, claim: Claim, began: float) -> list[Answer]:
    """Ask all questions concurrently, but those about one payment one after another: processors lock a payment."""
    answers: dict[int, Answer] = {}
    switch = KillSwitch(context, began, claim.server)
    by_payment: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, question in enumerate(claim.questions):
        by_payment[question.call.processor, question.payment].append(index)

    async def call_in_order(indices: list[int]) -> None:
        reading: Answer | None = None  # one reading of the payment is enough for all its legs
        for index in indices:
            question = claim.questions[index]
            if not isinstance(question.call, Verify):
                answers[index] = await _ask(context, question, began, switch)
            else:
                reading = answers[index] = reading or await _ask(context, question, began, switch)

    await asyncio.gather(*(call_in_order(indices) for indices in by_payment.values()))
    return [answers[index] for index in range(len(claim.questions))]


async def _ask(context: Context, question: Question, began: float, switch: KillSwitch) -> Answer:
    name = question.call.processor
    processor = _adapter(context, name, question.payment, question.body)
    if processor is None:
        return Denied("processor_not_configured", f"no access to {name} is configured")
    slot = reading_slot(name) if isinstance(question.call, Verify) else name
    is_free = await has_slot(context, slot, began)
    if is_free and isinstance(question.call, Send) and switch.stops(name):
        return NotSent(f"not sent: {name} was paused while this call waited", attempted=False)
    # Check the deadline last: reading the switch takes time too, and a worker may be frozen in it for any time.
    if not is_free or _seconds_left(context, began) <= 0:
        return NotSent("not sent: no slot was free within the lease", attempted=False)
    attempt = question.call.attempt if isinstance(question.call, Send) else None
    if attempt is not None:
        observe(CLAIM_TO_SEND, context.monotonic() - began, name)
    with log_fields(refund_id=question.refund_id, leg_id=question.call.leg_id, attempt=attempt):
        answer = await call_safely(context, name, NAMES[type(question.call)], _call(processor, question))
    return _naming_payer(context, question, answer)


def _naming_payer(context: Context, question: Question, answer: Answer) -> Answer:
    """Return the answer; one that says that a balance is too low names the connected account that pays a share.

    The processor does not say whether that account or the platform lacks the money.
    """
    payer, capabilities = question.shares.payer, context.accounts.capabilities_of(question.call.processor)
    if payer is None or capabilities is None or not isinstance(answer, Blocked):
        return answer
    if answer.code not in capabilities.low_balance_codes or payer in answer.message:
        return answer
    return replace(answer, message=f"{question.call.processor} or its connected account {payer}: {answer.message}")


async def has_slot(context: Context, slot: str, began: float) -> bool:
    """Wait for a slot of the rate limit `slot`. Return False if none is free while there is time for the call itself.

    One question that waited past the lease would cost the answers of its whole batch: all would be asked again, out of
    the same rate, and many workers at a low rate would do nothing else.
    """
    asked = context.monotonic()
    left = began + context.policy.lease_seconds * LEASE_SHARE - asked
    if left <= 0:
        return False
    try:
        async with asyncio.timeout(left):
            await context.limiter.acquire(slot)
    except TimeoutError:
        return False
    finally:
        observe(RATE_WAIT, context.monotonic() - asked, slot)
    return True


def _seconds_left(context: Context, began: float) -> float:
    """Return the seconds in which a call may still begin."""
    return began + context.policy.lease_seconds * LEASE_SHARE - context.monotonic()


async def _call(processor: Processor, question: Question) -> Answer:
    match question.call:
        case Send(key=key):
            return await processor.send(key, question.body)
        case LookUp(processor_payment_id=payment, leg_id=leg_id):
            return await processor.find(payment, leg_id)
        case Fetch(processor_refund_id=processor_refund_id):
            return await processor.fetch(processor_refund_id)
        case Cancel(processor_refund_id=processor_refund_id):
            return await processor.cancel(processor_refund_id)
        case Verify(processor_payment_id=payment):
            return await processor.find_payment(payment)
