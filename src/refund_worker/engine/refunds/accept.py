"""Accept requests: check, reserve and store in one commit, one request or many at a time.

The customers' rows are locked first, so that two requests that together exceed what is available cannot both pass.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from refund_worker.domain.acceptance import (
    CustomerAccount,
    RefundableTransaction,
    accept,
    accepted,
    maximum_credits,
)
from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import Decision, Policy
from refund_worker.domain.limits import Limits, Usage, check_velocity, needs_approval, quotas
from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.payee import Payee
from refund_worker.domain.placement import RequestedPayee
from refund_worker.domain.refund import Refund, RefundRequest
from refund_worker.engine.context import Context
from refund_worker.engine.refunds import address_hash
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.limit_usage import usage_before
from refund_worker.errors import KeyReused, Quota, Refusal
from refund_worker.metrics import REFUNDS_ACCEPTED, count
from refund_worker.store import accounts, refunds
from refund_worker.store.payouts import payees
from refund_worker.store.reporting import daily_stats
from refund_worker.times import day_of

log = logging.getLogger(__name__)

EMAIL = "instructions_email"

# Two requests are the same if these fields are equal. The person who asked is not compared. The time is only checked
# and not stored. The address is stored as a salted hash, which outlives it.
LATER_FIELDS = (EMAIL, "destinations", "payee_id")
BODY_FIELDS = (
    *("kind", "to", "customer_id", "transaction_id", "credits", "currency", "reason", "note", "metadata"),
    *LATER_FIELDS,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The refund that answers a request; `replayed` is True if an earlier request under the same key made it.

    `quotas` has what is left of each velocity limit after a new refund.
    """

    refund_id: str
    replayed: bool
    quotas: tuple[Quota, ...] = ()


def nothing_more(connection: Connection, answers: Sequence[Accepted | Refusal]) -> None:
    """Store no answers: the default for `keep` of `request_refunds`."""


def request_refunds(
    context: Context,
    requests: Sequence[RefundRequest],
    keep: Callable[[Connection, Sequence[Accepted | Refusal]], None] = nothing_more,
) -> list[Accepted | Refusal]:
    """Accept a batch in one commit and wake the workers. Return one answer for each request, in order.

    `keep` stores the answers in the same commit. Raises `Unavailable` if the database cannot be used; then nothing was
    stored.
    """

    def work(connection: Connection) -> list[Accepted | Refusal]:
        answers = accept_requests(connection, context, requests)
        keep(connection, answers)
        return answers

    for _ in range(3):
        try:
            answers = context.database.run(work)
            break
        except IntegrityError:
            # Another transaction took one of the keys between our read and our insert: the next try can see it.
            continue
    else:
        answers = context.database.run(work)
    new = _log_accepted(requests, answers)
    if new:
        context.publish(new, any(request.bulk for request in requests))
    return answers


def _log_accepted(requests: Iterable[RefundRequest], answers: Iterable[Accepted | Refusal]) -> list[str]:
    """Log one line for each new refund; return their ids."""
    new = []
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, Accepted) and not answer.replayed:
            new.append(answer.refund_id)
            fields = {"refund_id": answer.refund_id, "actor": request.actor, "client": request.client}
            log.info("refund accepted", extra=fields)
            count(REFUNDS_ACCEPTED, request.kind, request.to)
    return new


class Terms(Protocol):
    """The parts of a `Context` that accepting requests needs."""

    @property
    def policy(self) -> Policy:
        """Return the rules for refunds; accepting uses the allocation."""

    @property
    def payout_policy(self) -> PayoutPolicy:
        """Return the rules for payouts; accepting uses the limits, for a withdrawal to a payee."""

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


def accept_requests(
    connection: Connection, context: Terms, requests: Sequence[RefundRequest]
) -> list[Accepted | Refusal]:
    """Accept a batch like `request_refunds`, but inside the caller's transaction and without waking workers."""
    now = context.clock(connection)
    batch = BatchAccounts()
    requests = batch.load(connection, requests, context.policy, context.limits, now)
    # Only now, under the customers' locks: a request that waited for the first one with its key must see that one.
    answers, decisions = _answered(context, requests, batch, _earlier(connection, requests), now)
    apply(connection, decisions, now, notify=context.notify)
    again = [request for request, answer in zip(requests, answers, strict=True) if _is_replay(answer)]
    daily_stats.count_repeats(connection, day_of(now), (request.customer_id for request in again))
    return answers


class DryRun:
    """A trial run that answers as accepting would. Each request counts what the earlier ones would have reserved.

    Nothing is stored. The trial reservations are kept in this object, so no transaction has to stay open from one batch
    to the next. It keeps the accounts and the keys of all requests so far in memory, about a kilobyte for each request.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # minor units of the accepted refunds, by currency
        self._accounts = BatchAccounts()
        self._taken: _Earlier = {}

    def accept_requests(
        self, connection: Connection, context: Terms, requests: Sequence[RefundRequest]
    ) -> list[Accepted | Refusal]:
        """Return the answers as of now, in order. Nothing is written, and the customers stay locked."""
        now = context.clock(connection)
        requests = self._accounts.load(connection, requests, context.policy, context.limits, now)
        taken = {key: self._taken[key] for key in map(_key_of, requests) if key in self._taken}
        taken |= _earlier(connection, requests)
        answers, decisions = _answered(context, requests, self._accounts, taken, now)
        for decision in decisions:
            refund = decision.after
            body = json.loads(decision.request_body or "{}")
            self._taken[refund.client, refund.idempotency_key] = (refund.refund_id, body)
            for leg in refund.legs:
                self.asked[leg.currency] += leg.amount_minor
        return answers


def _answered(
    context: Terms,
    requests: Sequence[RefundRequest],
    batch: BatchAccounts,
    taken: _Earlier,
    now: float,
) -> tuple[list[Accepted | Refusal], list[Decision]]:
    """Return the answers in order, and the decisions that accept the new refunds. The accounts must be loaded."""
    answers: list[Accepted | Refusal] = []
    decisions: list[Decision] = []
    for request in requests:
        body = body_of(request)
        earlier = taken.get(_key_of(request))
        try:
            if earlier is not None:
                answers.append(_same_again(request, body, *earlier))
                continue
            text = json.dumps(body | {EMAIL: address_hash.of(request.instructions_email)}, sort_keys=True)
            decision = batch.accept(request, text, context, now)
        except Refusal as refusal:
            answers.append(refusal)
            continue
        refund_id = decision.after.refund_id
        taken[_key_of(request)] = (refund_id, body)
        decisions.append(decision)
        left = quotas(decision.after, batch.usage, context.limits)
        answers.append(Accepted(refund_id, replayed=False, quotas=left))
    return answers, decisions


def _is_replay(answer: Accepted | Refusal) -> bool:
    return isinstance(answer, Accepted) and answer.replayed


def body_of(request: RefundRequest) -> dict[str, Any]:
    """Return the fields that are compared when an idempotency key is used again."""
    values = asdict(request)
    return {name: values[name] for name in BODY_FIELDS}


# (client, key) → (refund, its body)
_Earlier = dict[tuple[str, str], tuple[str, Mapping[str, Any]]]


def _key_of(request: RefundRequest) -> tuple[str, str]:
    return request.client, request.idempotency_key


def _earlier(connection: Connection, requests: Iterable[RefundRequest]) -> _Earlier:
    keys: dict[str, set[str]] = {}
    for request in requests:
        keys.setdefault(request.client, set()).add(request.idempotency_key)
    found: _Earlier = {}
    for client, its_keys in keys.items():
        for key, row in refunds.find_by_keys(connection, client, its_keys).items():
            # A merge changes the customer of a refund, and never the body that was sent.
            found[client, key] = (row["refund_id"], json.loads(row["body"]) | {"customer_id": row["customer_id"]})
    return found


def _same_again(
    request: RefundRequest, body: Mapping[str, Any], refund_id: str, earlier: Mapping[str, Any]
) -> Accepted:
    # Texts that were erased are no longer there, and cannot be compared; `reason` is always one of them. A body of an
    # earlier version has no address and no destinations.
    whole = "reason" in earlier
    compared = (name for name in BODY_FIELDS if name in earlier or (name in LATER_FIELDS and whole))
    different = tuple(name for name in compared if not _is_equal(name, body[name], earlier.get(name)))
    if different:
        raise KeyReused(request.idempotency_key, different)
    return Accepted(refund_id, replayed=True)


def _is_equal(name: str, value: object, earlier: object) -> bool:
    """Return True if a field has the value of an earlier body. A body of an earlier version has no address."""
    return address_hash.is_of(value, earlier) if name == EMAIL else value == earlier


class BatchAccounts:
    """The accounts that a batch of requests touches. They change as requests of the batch are accepted."""

    def __init__(self) -> None:
        self.customers: dict[str, CustomerAccount] = {}
        self.payments: dict[str, dict[str, RefundablePayment]] = {}
        self.unfiltered: dict[str, dict[str, RefundablePayment]] = {}  # with what their accounts forbid
        self.payees: dict[str, Payee] = {}
        self.transactions: dict[str, RefundableTransaction] = {}
        self.usage = Usage()
        self.actors: set[str] = set()

    def load(
        self,
        connection: Connection,
        requests: Sequence[RefundRequest],
        policy: Policy,
        limits: Limits,
        now: float,
        *,
        lock: bool = True,
    ) -> list[RefundRequest]:
        """Read the accounts that are not loaded yet, and lock them. Accounts that are loaded keep their changes.

        Return the requests, each with the id of the customer's account: a merged customer's is that of the surviving
        one. A preview stores nothing and needs no lock.
        """
        asked = {request.customer_id for request in requests} - self.customers.keys()
        found = accounts.lock_customers(connection, asked) if lock else accounts.read_customers(connection, asked)
        customers = found.keys() - self.customers.keys()
        self.customers |= {customer: found[customer] for customer in customers}
        merged = accounts.survivors(connection, asked - found.keys())
        customers |= asked - merged.keys()
        for customer, its in accounts.refundable_payments(connection, customers).items():
            self.payments[customer] = {p.payment_id: p for p in usable_payments(its, policy, now)}
            self.unfiltered[customer] = {p.payment_id: p for p in its}
        named = {request.payee_id for request in requests if request.payee_id} - self.payees.keys()
        self.payees |= payees.load(connection, named)
        transactions = {
            request.transaction_id for request in requests if request.transaction_id
        } - self.transactions.keys()
        self.transactions |= accounts.refundable_transactions(connection, transactions)
        actors = {request.actor for request in requests} - self.actors
        # Only now, under the customers' locks: two requests that together exceed a limit must not both see it unused.
        self.usage.add_all(usage_before(connection, customers, actors, limits, now))
        self.actors |= actors
        return [replace(r, customer_id=merged.get(r.customer_id, r.customer_id)) for r in requests]

    def accept(self, request: RefundRequest, request_body: str, context: Terms, now: float) -> Decision:
        """Decide on one request. Its reservation counts for the next one. Raises a `Refusal` if it is not accepted."""
        refund = self.refund_of(request, context.new_id("rf"), context, now)
        decision = accepted(refund, request_body, needs_approval=needs_approval(refund, self.usage, context.limits))
        self._reserve(decision)
        self.usage.add(decision.after)
        return decision

    def refund_of(self, request: RefundRequest, refund_id: str, context: Terms, now: float) -> Refund:
        """Return the refund that the request would become. Reserve nothing. Raises a `Refusal`."""
        refund = accept(
            request,
            refund_id=refund_id,
            customer=self.customers.get(request.customer_id),
            transaction=self.transactions.get(request.transaction_id or ""),
            payments=self._payments_of(request),
            now=now,
            allocation=context.policy.allocation,
            payee=self._payee_of(request, context),
        )
        check_velocity(refund, self.usage, context.limits)
        return refund

    def maximum_credits(self, request: RefundRequest, context: Terms) -> int:
        """Return the most credits that the request could ask for: no larger one is accepted."""
        customer, payee = self.customers.get(request.customer_id), self._payee_of(request, context)
        if customer is None or (request.payee_id is not None and payee is None):
            return 0
        transaction = self.transactions.get(request.transaction_id or "")
        payments = self._payments_of(request)
        return maximum_credits(request, customer, transaction, payments, context.policy.allocation, payee)

    def _payments_of(self, request: RefundRequest) -> list[RefundablePayment]:
        return list(self.payments.get(request.customer_id, {}).values())

    def _payee_of(self, request: RefundRequest, context: Terms) -> RequestedPayee | None:
        """Return the payee that the request names, or None if it names none of the customer's."""
        payee = self.payees.get(request.payee_id or "")
        if payee is None or payee.customer_id != request.customer_id:
            return None
        unfiltered = self.unfiltered.get(request.customer_id, {})
        policy = context.payout_policy
        return RequestedPayee(
            payee_id=payee.payee_id,
            currency=payee.currency,
            payments=tuple(unfiltered.values()),
            minimum_minor=policy.minimum_for(payee.processor, payee.currency),
            maximum_minor=policy.maximum_for(payee.processor, payee.currency),
        )

    def _reserve(self, decision: Decision) -> None:
        refund = decision.after
        if refund.transaction_id and decision.transaction_credits:
            transaction = self.transactions[refund.transaction_id]
            self.transactions[refund.transaction_id] = replace(
                transaction, taken=transaction.taken + decision.transaction_credits
            )
        self.customers[refund.customer_id] = self.customers[refund.customer_id].after(decision.customer)
        for payments in (self.payments, self.unfiltered):
            its_payments = payments.get(refund.customer_id, {})
            for payment_id, delta in decision.payments.items():
                its_payments[payment_id] = its_payments[payment_id].after_reserving(delta.credits, delta.minor)
