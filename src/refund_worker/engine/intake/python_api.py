"""The Python API: request a refund or a payout inside the caller's transaction; it commits or rolls back with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from refund_worker.domain.decision import Policy
from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.context import new_id
from refund_worker.engine.intake.payee_schemas import PayoutSchema
from refund_worker.engine.intake.schemas import RefundSchema, parse_schema, read_destinations
from refund_worker.engine.payouts.accept import BODY_FIELDS, AcceptedPayout, accept_payouts
from refund_worker.engine.refunds.accept import Accepted, accept_requests
from refund_worker.engine.refunds.limit_usage import limits_of
from refund_worker.errors import Refusal
from refund_worker.processors.accounts import accounts_of
from refund_worker.setting_values import read_amounts
from refund_worker.settings import Settings, load_settings
from refund_worker.store import database
from refund_worker.store.database import begin_for_real, in_schema

# Fields of a request that identify the requester, not the request.
ASKED_BY = ("idempotency_key", "client", "actor", "requested_at", "bulk", "left_seen")

PAYOUT_FIELDS = (*BODY_FIELDS, "requested_by")


@dataclass(frozen=True, slots=True)
class _Terms:
    """The settings that acceptance needs, without a database or processors of our own."""

    policy: Policy
    payout_policy: PayoutPolicy
    limits: Limits
    notify: bool
    clock: Callable[[Connection], float] = database.now
    new_id: Callable[[str], str] = new_id


def request_refund(
    session: Session | Connection, request: RefundRequest, *, settings: Settings | None = None
) -> Accepted:
    """Accept `request` in the transaction of `session` and return the refund's id; processing starts after the
    commit. The customer is locked until then (on SQLite all of the database), so call it late in your transaction.

    The caller's code is trusted. `request.actor` is recorded as given, counts against the limits, and cannot
    approve. `request.requested_by` is only a note. The same key and body again returns the same refund, with
    `replayed` True.

    Raises a `Refusal` (its `code` says why) and then has written nothing; the transaction stays usable. Raises
    `UnsafeSavepoint` on SQLite inside a savepoint that may have no enclosing transaction. `settings` default to the
    environment's.
    """
    settings = settings or load_settings()
    values = {name: value for name, value in asdict(request).items() if name not in ASKED_BY}
    values |= {"kind": str(request.kind), "to": str(request.to)}
    if isinstance(request.destinations, str):
        values["destinations"] = read_destinations(request.destinations)
    checked = parse_schema(RefundSchema, values).request(
        idempotency_key=request.idempotency_key,
        client=request.client,
        actor=request.actor,
        bulk=request.bulk,
        requested_at=request.requested_at,
    )
    policy = Policy(allocation=settings.allocation)
    payouts = PayoutPolicy(calls=policy) if checked.payee_id is None else _payout_policy(settings)
    terms = _Terms(policy, payouts, limits_of(settings), settings.notify_url is not None)
    connection = _begun(session)
    try:
        with connection.begin_nested(), in_schema(connection, settings.database_schema):
            (answer,) = accept_requests(connection, terms, [checked])
    except IntegrityError:
        # Another transaction stored the key between our check and our insert: now its row is visible.
        with connection.begin_nested(), in_schema(connection, settings.database_schema):
            (answer,) = accept_requests(connection, terms, [checked])
    if isinstance(answer, Refusal):
        raise answer
    return answer


@dataclass(frozen=True, slots=True)
class _PayoutTerms:
    """The settings that the acceptance of a payout needs, without a database or processors of our own."""

    payout_policy: PayoutPolicy
    limits: Limits
    notify: bool
    clock: Callable[[Connection], float] = database.now
    new_id: Callable[[str], str] = new_id


def request_payout(
    session: Session | Connection, request: PayoutRequest, *, settings: Settings | None = None
) -> AcceptedPayout:
    """Accept `request` in the transaction of `session` and return the payout's id; processing starts after the commit.

    The payee is locked until then. All else is as for `request_refund`.
    """
    settings = settings or load_settings()
    values = {name: value for name, value in asdict(request).items() if name in PAYOUT_FIELDS and value is not None}
    checked = parse_schema(PayoutSchema, values).request(
        idempotency_key=request.idempotency_key, client=request.client, actor=request.actor, bulk=request.bulk
    )
    terms = _PayoutTerms(_payout_policy(settings), limits_of(settings), settings.notify_url is not None)
    connection = _begun(session)
    try:
        with connection.begin_nested(), in_schema(connection, settings.database_schema):
            (answer,) = accept_payouts(connection, terms, [checked])
    except IntegrityError:
        # As for a refund: another transaction stored the key in between.
        with connection.begin_nested(), in_schema(connection, settings.database_schema):
            (answer,) = accept_payouts(connection, terms, [checked])
    if isinstance(answer, Refusal):
        raise answer
    return answer


def _payout_policy(settings: Settings) -> PayoutPolicy:
    """Return the limits on payouts, and the rules of the accounts that pay out: all that acceptance depends on."""
    accounts = accounts_of(settings)
    return PayoutPolicy(
        calls=Policy(processors=accounts.payout_rules),
        routes=accounts.routes,
        minimum_minor=read_amounts(settings.payout_minimum),
        maximum_minor=read_amounts(settings.payout_maximum),
    )


def _begun(session: Session | Connection) -> Connection:
    """Return the caller's connection, with a transaction that the database has really begun."""
    outermost = session.get_bind() if isinstance(session, Session) else session
    if isinstance(outermost, Connection):
        # This comes first: a session that joins an existing connection begins with a savepoint.
        begin_for_real(outermost)
    if isinstance(session, Connection):
        return session
    connection = session.connection()
    begin_for_real(connection)
    return connection
