"""The act of each route of the API, in one table; the program does not start if a route has no line in it.

`engine/access/permissions.py` says who may do an act, for the API and the console alike.

Callers send `Authorization: Bearer KEY`, and for keys created with `--signed` also a signature of each request.
There is no default key: the command line creates the first one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from refund_worker.dangers import is_this_machine, without_port
from refund_worker.engine.access.api_keys import Identity, authenticate
from refund_worker.engine.access.permissions import Act, may, why_not
from refund_worker.engine.context import Context
from refund_worker.logs import add_log_field
from refund_worker.web.dependencies import AppState
from refund_worker.web.problems import Forbidden, Unauthenticated
from refund_worker.web.request_signatures import check_signature

# A revoked key stops working after at most this time; a busy client costs one look-up in it.
CACHE_SECONDS = 2.0
CACHED_KEYS_MAX = 10_000


class Open(Enum):
    """Routes that need no key."""

    TO_ALL = "to all"  # has nothing to protect, or has a signature of its own
    TO_LOOPBACK = "to loopback"  # for this machine without a key, for others with any key


Rule = Act | Open

WEBHOOKS = "/webhooks/"

# The act of each route; `engine/access/permissions.py` says who may do it.
ROLES: Mapping[tuple[str, str], Rule] = {
    ("POST", "/v1/payments"): Act.RECORD,
    ("GET", "/v1/payments"): Act.READ,
    ("GET", "/v1/payments/{payment_id}"): Act.READ,
    ("POST", "/v1/transactions"): Act.RECORD,
    ("DELETE", "/v1/transactions/{transaction_id}"): Act.DELETE,
    ("GET", "/v1/customers/{customer_id}"): Act.READ,
    ("GET", "/v1/customers/{customer_id}/transactions"): Act.READ,
    ("POST", "/v1/customers/{customer_id}/corrections"): Act.CORRECT,
    ("POST", "/v1/customers/{customer_id}/merge"): Act.MERGE,
    ("POST", "/v1/customers/{customer_id}/erase"): Act.ERASE,
    ("GET", "/v1/customers/{customer_id}/export"): Act.EXPORT,
    ("POST", "/v1/refunds"): Act.REQUEST,
    ("POST", "/v1/payees"): Act.PAYEES,
    ("GET", "/v1/payees"): Act.READ,
    ("GET", "/v1/payees/{payee_id}"): Act.READ,
    ("PUT", "/v1/payees/{payee_id}"): Act.PAYEES,
    ("GET", "/v1/payees/{payee_id}/destination"): Act.REVEAL,
    ("GET", "/v1/payees/{payee_id}/events"): Act.READ,
    ("GET", "/v1/payees/{payee_id}/statement"): Act.READ,
    ("POST", "/v1/payees/{payee_id}/pause"): Act.PAUSE_PAYEE,
    ("POST", "/v1/payees/{payee_id}/resume"): Act.RESUME_PAYEE,
    ("POST", "/v1/earnings"): Act.RECORD,
    ("GET", "/v1/earnings"): Act.READ,
    ("GET", "/v1/earnings/{earning_id}"): Act.READ,
    ("POST", "/v1/payouts"): Act.REQUEST,
    ("GET", "/v1/payouts"): Act.READ,
    ("POST", "/v1/payouts/preview"): Act.PREVIEW,
    ("GET", "/v1/payouts/{payout_id}"): Act.READ,
    ("GET", "/v1/payouts/{payout_id}/events"): Act.READ,
    ("POST", "/v1/payouts/{payout_id}/sync"): Act.SYNC,
    ("POST", "/v1/payouts/{payout_id}/approve"): Act.APPROVE,
    ("POST", "/v1/payouts/{payout_id}/reject"): Act.REJECT,
    ("POST", "/v1/payouts/{payout_id}/cancel"): Act.CANCEL,
    ("POST", "/v1/payouts/{payout_id}/retry"): Act.RETRY,
    ("POST", "/v1/payouts/{payout_id}/resolve"): Act.RESOLVE,
    ("GET", "/v1/refunds"): Act.READ,
    ("POST", "/v1/refunds/preview"): Act.PREVIEW,
    ("GET", "/v1/refunds/{refund_id}"): Act.READ,
    ("GET", "/v1/refunds/{refund_id}/events"): Act.READ,
    ("GET", "/v1/refunds/{refund_id}/waits"): Act.READ,
    ("GET", "/v1/search"): Act.READ,
    ("GET", "/v1/funds"): Act.READ,
    ("POST", "/v1/refunds/{refund_id}/sync"): Act.SYNC,
    ("POST", "/v1/refunds/{refund_id}/approve"): Act.APPROVE,
    ("POST", "/v1/refunds/{refund_id}/reject"): Act.REJECT,
    ("POST", "/v1/refunds/{refund_id}/cancel"): Act.CANCEL,
    ("POST", "/v1/refunds/{refund_id}/retry"): Act.RETRY,
    ("POST", "/v1/refunds/{refund_id}/resolve"): Act.RESOLVE,
    ("GET", "/v1/outside-refunds"): Act.READ,
    ("GET", "/v1/outside-refunds/{outside_refund_id}"): Act.READ,
    ("POST", "/v1/outside-refunds/{outside_refund_id}/decide"): Act.DECIDE,
    ("POST", "/v1/outside-refunds/{outside_refund_id}/link"): Act.LINK,
    ("POST", "/v1/disputes/{dispute_id}/decide"): Act.DECIDE,
    ("POST", "/v1/disputes/{dispute_id}/link"): Act.LINK,
    ("POST", "/v1/payments/{payment_id}/close"): Act.CLOSE,
    ("GET", "/v1/disputes"): Act.READ,
    ("GET", "/v1/disputes/{dispute_id}"): Act.READ,
    ("GET", "/v1/fraud-warnings"): Act.READ,
    ("POST", "/v1/refund-batches"): Act.REQUEST,
    ("GET", "/v1/refund-batches/{batch_id}"): Act.READ,
    ("POST", "/v1/processors/{name}/pause"): Act.PAUSE,
    ("POST", "/v1/processors/{name}/resume"): Act.RESUME,
    ("POST", "/v1/reconciliations"): Act.RECONCILE,
    ("GET", "/v1/reconciliations"): Act.READ,
    ("GET", "/v1/reconciliations/{reconciliation_id}"): Act.READ,
    ("GET", "/v1/reconciliations/{reconciliation_id}/differences"): Act.READ,
    ("POST", "/v1/reconciliations/{reconciliation_id}/differences/{n}/apply"): Act.SETTLE,
    ("POST", "/v1/reconciliations/{reconciliation_id}/differences/{n}/acknowledge"): Act.SETTLE,
    ("POST", "/v1/payout-runs"): Act.RUN_PAYOUTS,
    ("GET", "/v1/payout-runs"): Act.READ,
    ("GET", "/v1/payout-runs/{run_id}"): Act.READ,
    ("GET", "/v1/payout-runs/{run_id}/rows"): Act.READ,
    ("GET", "/v1/payout-runs/{run_id}/events"): Act.READ,
    ("POST", "/v1/payout-runs/{run_id}/approve"): Act.APPROVE,
    ("POST", "/v1/payout-runs/{run_id}/cancel"): Act.CANCEL_RUN,
    ("POST", "/webhooks/{account}"): Open.TO_ALL,
    ("GET", "/webhooks/{account}"): Open.TO_ALL,
    ("GET", "/healthz"): Open.TO_ALL,
    ("GET", "/readyz"): Open.TO_ALL,
    ("GET", "/openapi.json"): Open.TO_ALL,
    ("GET", "/docs"): Open.TO_ALL,
    ("GET", "/docs/errors"): Open.TO_ALL,
    ("GET", "/metrics"): Open.TO_LOOPBACK,
}


def rule_of(method: str, path: str) -> Rule | None:
    """Return who may use a route, or None if no caller may. Webhooks have no key: the processor's signature decides."""
    rule = ROLES.get((method, path))
    if rule is None and method == "POST" and path.startswith(WEBHOOKS):
        return Open.TO_ALL
    return rule


def lines_of(router: APIRouter) -> Iterable[tuple[str, str]]:
    """Yield (method, path) of every route, as the table names them. Raises `RuntimeError` for other kinds of routes."""
    for route in router.routes:
        if not isinstance(route, APIRoute):
            raise RuntimeError(f"{route} is not a route that can be guarded")
        for method in sorted(route.methods or ()):
            yield method, route.path_format


def check_guarded(routers: Iterable[APIRouter]) -> None:
    """Check that every route has a line in the table. Raises `RuntimeError` with the routes that have none."""
    unguarded = [line for router in routers for line in lines_of(router) if rule_of(*line) is None]
    if unguarded:
        raise RuntimeError(f"no line in ROLES for {unguarded}: say who may use it")


class KeyCache:
    """Cache of identities by the hash of the presented key, for `CACHE_SECONDS`; holds valid keys only."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Identity, float]] = {}

    def find(self, presented: str) -> Identity | None:
        """Return the identity of a key, or None if it is not cached or its time is over."""
        identity, until = self._known.get(_digest(presented), (None, 0.0))
        if identity is None or time.monotonic() >= until:
            return None
        return identity

    def keep(self, presented: str, identity: Identity) -> None:
        """Store the identity of a valid key."""
        if len(self._known) >= CACHED_KEYS_MAX:
            self._known.clear()
        self._known[_digest(presented)] = (identity, time.monotonic() + CACHE_SECONDS)


def _digest(presented: str) -> bytes:
    return hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()


async def guard(request: Request) -> None:
    """Check the caller and its role before every route, and before the body is read.

    Raises `Unauthenticated` (401) or `Forbidden` (403).
    """
    rule = rule_of(request.method, request.scope["route"].path_format)
    if rule is None:
        raise Forbidden("no role may use this")
    if rule is Open.TO_ALL or (rule is Open.TO_LOOPBACK and _is_from_this_machine(request)):
        return
    identity = await _identified(request)
    if isinstance(rule, Act) and not may(identity.role, rule):
        raise Forbidden(why_not(identity.role, rule))
    request.state.identity = identity
    add_log_field("actor", identity.actor)


def _is_from_this_machine(request: Request) -> bool:
    """Return True if the request comes directly from this machine.

    A request that a proxy on this machine passes on counts as foreign, and so does one that names another host: any web
    page can point a name of its own at this machine and have the browser here send requests to it (DNS rebinding).
    """
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    if forwarded or request.client is None or request.client.host not in ("127.0.0.1", "::1"):
        return False
    hosts = request.headers.getlist("host")
    return len(hosts) == 1 and hosts[0] != "" and is_this_machine(without_port(hosts[0]))


async def _identified(request: Request) -> Identity:
    values = request.headers.getlist("authorization")
    scheme, _, presented = (values[0] if len(values) == 1 else "").partition(" ")
    presented = presented.strip()
    if scheme.lower() != "bearer" or not presented:
        raise Unauthenticated("send an API key: Authorization: Bearer KEY")
    cache: KeyCache = request.app.state.keys
    identity = cache.find(presented)
    if identity is None:
        state: AppState = request.app.state.shared
        identity = await run_in_threadpool(_checked_identity, state.context, presented)
        cache.keep(presented, identity)
    if identity.signing_secret is not None:
        check_signature(request, identity.signing_secret)
    return identity


def _checked_identity(context: Context, presented: str) -> Identity:
    with context.database.read() as connection:
        identity = authenticate(connection, presented)
    if identity is None:
        raise Unauthenticated("the API key is unknown, revoked or expired: use a valid key")
    return identity


async def _identity_of(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


Caller = Annotated[Identity, Depends(_identity_of)]
