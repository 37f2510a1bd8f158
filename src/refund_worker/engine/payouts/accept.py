"""Accept requests for payouts of earnings: check, reserve and store in one commit, one request or many at a time.

The payees' rows are locked first, so that two requests that together exceed a balance cannot both pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from refund_worker.domain.limits import Limits, Usage, check_velocity, exceeding_total, quotas
from refund_worker.domain.payouts.acceptance import accept_payout, accepted_payout
from refund_worker.domain.payouts.decision import PayoutDecision, PayoutPolicy
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.limit_usage import payout_usage_before
from refund_worker.errors import KeyReused, Quota, Refusal, UnknownPayee
from refund_worker.metrics import PAYOUTS_ACCEPTED, count
from refund_worker.store.payouts import payees, payouts

log = logging.getLogger(__name__)

# Two requests are the same if these fields are equal.
BODY_FIELDS = ("payee_id", "amount_minor", "currency", "description")
_Earlier = dict[tuple[str, str], tuple[str, Mapping[str, Any]]]  # (client, key) → (payout, its body)


@dataclass(frozen=True, slots=True)
class AcceptedPayout:
    """The payout that answers a request; `replayed` is True if an earlier request under the same key made it.

    `quotas` has what is left of each velocity limit after a new payout.
    """

    payout_id: str
    replayed: bool
    quotas: tuple[Quota, ...] = ()


def request_payouts(context: Context, requests: Sequence[PayoutRequest]) -> list[AcceptedPayout | Refusal]:
    """Accept a batch in one commit and wake the workers. Return one answer for each request, in order.

    Raises `Unavailable` if the database cannot be used; then nothing was stored.
    """

    def work(connection: Connection) -> list[AcceptedPayout | Refusal]:
        return accept_payouts(connection, context, requests)

    for _ in range(3):
        try:
            answers = context.database.run(work)
            break
        except IntegrityError:
            # Another transaction took one of the keys between our read and our insert: the next try can see it.
            continue
    else:
        answers = context.database.run(work)
    new = []
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, AcceptedPayout) and not answer.replayed:
            new.append(answer.payout_id)
            fields = {"payout_id": answer.payout_id, "actor": request.actor, "client": request.client}
            log.info("payout accepted", extra=fields)
            count(PAYOUTS_ACCEPTED)
    if new:
        context.publish(new, any(request.bulk for request in requests))
    return answers


class PayoutTerms(Protocol):
    """The parts of a `Context` that accepting payouts needs."""

    @property
    def payout_policy(self) -> PayoutPolicy:
        """Return the rules for payouts."""

    @property
    def limits(self) -> Limits:
        """Return the approval and velocity limits."""

    @property
    def notify(self) -> bool:
        """Return True if changes are stored as notifications for the admin backend."""

    @property
    def clock(self) -> Callable[[Connection], float]:
        """Return the function that reads the time, in epoch seconds."""

    @property
    def new_id(self) -> Callable[[str], str]:
        """Return the function that makes a new id with a given prefix."""


def accept_payouts(
    connection: Connection, context: PayoutTerms, requests: Sequence[PayoutRequest]
) -> list[AcceptedPayout | Refusal]:
    """Accept a batch like `request_payouts`, but inside the caller's transaction and without waking workers."""
    locked = payees.load(connection, {request.payee_id for request in requests}, lock=True)
    now = context.clock(connection)
    earlier = _earlier(connection, requests)
    pairs = {(payee.payee_id, payee.currency) for payee in locked.values()}
    balances = payees.balances(connection, pairs, now)
    actors = {request.actor for request in requests}
    usage = payout_usage_before(connection, set(locked), actors, context.limits, now)
    answers: list[AcceptedPayout | Refusal] = []
    decisions: list[PayoutDecision] = []
    for request in requests:
        try:
            answer, decision = _accept_one(context, request, locked, balances, earlier, usage, now)
        except Refusal as refusal:
            answers.append(refusal)
            continue
        answers.append(answer)
        if decision is not None:
            decisions.append(decision)
            earlier[request.client, request.idempotency_key] = (answer.payout_id, _body_of(request))
            pair = (request.payee_id, decision.after.currency)
            taken = balances[pair].in_flight_minor + decision.balance.in_flight_minor
            balances[pair] = replace(balances[pair], in_flight_minor=taken)
            usage.add(decision.after)
            answers[-1] = replace(answer, quotas=quotas(decision.after, usage, context.limits))
    apply_payouts(connection, decisions, now, notify=context.notify)
    return answers


def _accept_one(
    context: PayoutTerms,
    request: PayoutRequest,
    locked: Mapping[str, Payee],
    balances: Mapping[tuple[str, str], PayeeBalance],
    earlier: _Earlier,
    usage: Usage,
    now: float,
) -> tuple[AcceptedPayout, PayoutDecision | None]:
    body = _body_of(request)
    if (before := earlier.get((request.client, request.idempotency_key))) is not None:
        # The description of an erased request is no longer there, and cannot be compared.
        different = tuple(name for name in BODY_FIELDS if name in before[1] and body[name] != before[1][name])
        if different:
            raise KeyReused(request.idempotency_key, different)
        return AcceptedPayout(before[0], replayed=True), None
    payee = locked.get(request.payee_id)
    if payee is None:
        raise UnknownPayee(f"payee {request.payee_id} is not known", field="payee_id")
    payout = accept_payout(
        request,
        payout_id=context.new_id("po"),
        payee=payee,
        balance=balances[payee.payee_id, payee.currency],
        policy=context.payout_policy,
        now=now,
    )
    check_velocity(payout, usage, context.limits)
    total = None if request.approved else exceeding_total(payout, usage, context.limits)
    why = None if total is None else approval_detail(total, context.limits)
    decision = accepted_payout(payout, json.dumps(body, sort_keys=True), needs_approval=why is not None, why=why)
    return AcceptedPayout(payout.payout_id, replayed=False), decision


def approval_detail(total: int, limits: Limits) -> dict[str, int | None]:
    """Return what the timeline says of a payout that waits: the payee's total in the window, and the threshold."""
    return {
        "approval_total_minor": total,
        "approval_threshold_minor": limits.approval_threshold_minor,
        "approval_window_seconds": round(limits.window_seconds),
    }


def _body_of(request: PayoutRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in BODY_FIELDS}


def _earlier(connection: Connection, requests: Iterable[PayoutRequest]) -> _Earlier:
    keys: dict[str, set[str]] = {}
    for request in requests:
        keys.setdefault(request.client, set()).add(request.idempotency_key)
    return {
        (client, key): (row["payout_id"], json.loads(row["body"]))
        for client, its_keys in keys.items()
        for key, row in payouts.find_by_keys(connection, client, its_keys).items()
    }
