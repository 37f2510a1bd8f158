"""Payees and earnings as the API, the command line and notifications show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.domain.payouts.earnings import Earning
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.errors import NotFound
from refund_worker.store.payouts import earnings, payees
from refund_worker.times import iso


def earning_view(earning: Earning) -> api_schema.Earning:
    """Return the earning, with what is clawed back of it."""
    return {
        "earning_id": earning.earning_id,
        "payee_id": earning.payee_id,
        "amount_minor": earning.amount_minor,
        "currency": earning.currency,
        "transaction_id": earning.transaction_id,
        "description": earning.description,
        "available_at": iso(earning.available_at),
        "clawed_back_minor": earning.clawed_back_minor,
        "created_at": iso(earning.created_at),
    }


def find_earning(connection: Connection, earning_id: str) -> api_schema.Earning:
    """Return the earning. Raises `NotFound`."""
    found = earnings.earnings_by_id(connection, [earning_id]).get(earning_id)
    if found is None:
        raise NotFound(f"earning {earning_id} is not known")
    return earning_view(found)


def earning_page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    payee_id: str | None = None,
    transaction_id: str | None = None,
) -> api_schema.Page[api_schema.Earning]:
    """Return earnings by id, also of one payee or one spend. Raises `InvalidRequest` for an unknown cursor."""
    if after is not None and not earnings.earnings_by_id(connection, [after]):
        raise unknown_cursor(after, "earning")
    found = earnings.page(connection, limit=limit + 1, after=after, payee_id=payee_id, transaction_id=transaction_id)
    return {"data": [earning_view(earning) for earning in found[:limit]], "has_more": len(found) > limit}


def payee_page(
    connection: Connection, now: float, *, limit: int, after: str | None = None, customer_id: str | None = None
) -> api_schema.Page[api_schema.Payee]:
    """Return payees by id, each with its sums at `now`. Raises `InvalidRequest` for an unknown cursor."""
    if after is not None and not payees.load(connection, [after]):
        raise unknown_cursor(after, "payee")
    found = payees.page(connection, limit=limit + 1, after=after, customer_id=customer_id)
    return {"data": payee_views(connection, found[:limit], now), "has_more": len(found) > limit}


def find_payee(connection: Connection, payee_id: str, now: float) -> api_schema.Payee:
    """Return the payee with its sums at `now`. Raises `NotFound`."""
    found = payees.load(connection, [payee_id])
    if not found:
        raise NotFound(f"payee {payee_id} is not known")
    return payee_views(connection, list(found.values()), now)[0]


def payee_views(connection: Connection, found: Sequence[Payee], now: float) -> list[api_schema.Payee]:
    """Return these payees, destinations masked."""
    pairs = payees.currencies_of(connection, [payee.payee_id for payee in found])
    sums: defaultdict[str, list[api_schema.PayeeBalance]] = defaultdict(list)
    for (payee_id, currency), balance in payees.balances(connection, pairs, now).items():
        sums[payee_id].append(_balance_view(currency, balance))
    return [_payee_view(payee, sorted(sums[payee.payee_id], key=lambda sum: sum["currency"])) for payee in found]


def _payee_view(payee: Payee, balances: list[api_schema.PayeeBalance]) -> api_schema.Payee:
    act_by, read_at = payee.verdict_act_by, payee.verdict_read_at
    return {
        "payee_id": payee.payee_id,
        "customer_id": payee.customer_id,
        "processor_account": payee.processor,
        "destination": {
            "id": payee.destination_id,
            "kind": str(payee.destination_kind),
            "masked": payee.destination_masked,
            "changed_at": iso(payee.destination_changed_at),
        },
        "currency": payee.currency,
        "country": payee.country,
        "method": payee.method.value,
        "status": payee.status.value,
        "status_reason": payee.status_reason,
        "needs": list(payee.verdict_needs),
        "act_by": None if act_by is None else iso(act_by),
        "read_at": None if read_at is None else iso(read_at),
        "paused_by": payee.paused_by,
        "balances": balances,
        "version": payee.version,
        "created_at": iso(payee.created_at),
        "updated_at": iso(payee.updated_at),
    }


def _balance_view(currency: str, balance: PayeeBalance) -> api_schema.PayeeBalance:
    return {
        "currency": currency,
        "payable_minor": balance.payable_minor,
        "held_minor": balance.held_minor,
        "debt_minor": balance.debt_minor,
        "in_flight_minor": balance.in_flight_minor,
        "paid_minor": balance.paid_minor,
        "earned_minor": balance.earned_minor,
        "clawed_back_minor": balance.clawed_back_minor,
    }
