"""JSON objects of the contract for callers and operators, the same at every entry point."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping

from refund_worker import api_schema
from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.account_names import processor_of
from refund_worker.domain.allocation import Payable, payable_by_currency
from refund_worker.domain.decision import Policy
from refund_worker.domain.processor_replies import NO_DETAILS, RefundDetails
from refund_worker.domain.refund import MISMATCH_SEPARATOR, Leg, LegStatus, Refund
from refund_worker.domain.state_machine import available_actions, waits_for_customer
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.engine.views.leg_texts import texts_in_force
from refund_worker.errors import NotFound
from refund_worker.redaction import masked_email
from refund_worker.store import accounts, ledger, refunds
from refund_worker.store import timeline as store_timeline
from refund_worker.times import iso

Json = dict[str, Any]
RECENT_CORRECTIONS = 10
_STATEMENTS: Mapping[str, Literal["credit", "vanishes"]] = {"credit": "credit", "vanishes": "vanishes"}


def refund_view(refund: Refund) -> api_schema.Refund:
    """Return one refund with its legs; amounts in minor units, one entry for each currency."""
    return {
        "id": refund.refund_id,
        "status": refund.status.value,
        "kind": refund.kind.value,
        "to": "payout" if refund.payee_id is not None else refund.to.value,
        "payee_id": refund.payee_id,
        "customer_id": refund.customer_id,
        "transaction_id": refund.transaction_id,
        "credits": refund.credits,
        "amounts": _amounts(refund),
        "legs": [leg_view(leg, refund.legs) for leg in refund.legs],
        "reason": refund.reason,
        "note": refund.note,
        "metadata": dict(refund.metadata),
        "idempotency_key": refund.idempotency_key,
        "client": refund.client,
        "actor": refund.requested_by,
        "requested_by": refund.requested_by_note,
        "destinations": refund.destinations.split(",") if refund.destinations else None,  # type: ignore[typeddict-item]
        "instructions_email": masked_email(refund.instructions_email) if refund.instructions_email else None,
        "failure_code": refund.failure_code,
        "failure_message": refund.failure_message,
        "available_actions": [action.value for action in available_actions(refund)],
        "version": refund.version,
        "created_at": iso(refund.created_at),
        "updated_at": iso(refund.updated_at),
    }


def _amounts(refund: Refund) -> list[api_schema.Amount]:
    sums: dict[str, api_schema.Amount] = {}
    for leg in refund.legs:
        line = sums.setdefault(leg.currency, {"currency": leg.currency, "requested_minor": 0, "succeeded_minor": 0})
        line["requested_minor"] += leg.amount_minor if leg.replaces is None else 0
        line["succeeded_minor"] += leg.amount_minor if leg.status is LegStatus.SUCCEEDED else 0
    return list(sums.values())


def leg_view(leg: Leg, legs: Sequence[Leg] = ()) -> api_schema.Leg:
    """Return one leg; amounts in minor units. `legs` are all legs of its refund."""
    report, texts = leg.report, texts_in_force()
    details = report.details if report else NO_DETAILS
    expected, text = texts.expected_by(leg), texts.of(leg, [other for other in legs if other.replaces == leg.leg_id])
    return {
        "leg_id": leg.leg_id,
        "payment_id": leg.payment_id,
        "processor": processor_of(leg.processor),
        "processor_account": leg.processor,
        "amount_minor": leg.amount_minor,
        "currency": leg.currency,
        "credits": leg.credits,
        "status": leg.status.value,
        "processor_refund_id": leg.processor_refund_id,
        "attempts": leg.attempts,
        "failure_code": leg.failure_code,
        "blocked_by": list(leg.blocked_by),
        "unreturnable_minor": leg.unreturnable_minor,
        "processor_status": None if report is None else (report.status or "").partition(MISMATCH_SEPARATOR)[0] or None,
        "pending_reason": details.pending_reason,
        "next_action": _next_action(leg, details),
        "trace": _trace(details),
        "statement": _STATEMENTS.get(details.statement or ""),
        "expected_by": {"earliest": iso(expected[0].timestamp()), "latest": iso(expected[1].timestamp())}
        if expected
        else None,
        "customer_text": text.customer,
        "staff_text": text.staff,
    }


def _trace(details: RefundDetails) -> api_schema.Trace | None:
    if details.trace_kind is None:
        return None
    return {"kind": details.trace_kind, "value": details.trace_value, "status": details.trace_status}


def _next_action(leg: Leg, details: RefundDetails) -> api_schema.NextAction | None:
    if not waits_for_customer(leg):
        return None
    return {
        "email_sent_to": details.emailed_to,
        "email_sent_at": None if details.emailed_at is None else iso(details.emailed_at),
        "expires_at": None if details.act_by is None else iso(details.act_by),
    }


def event_view(row: RowMapping) -> api_schema.Event:
    """Return one event of the timeline: what, when, who, why."""
    detail = json.loads(row["detail"])
    return {
        "at": iso(row["at"]),
        "what": row["kind"],
        "who": row["actor"],
        "why": row["reason"] or detail.get("reason"),
        "leg_id": row["leg_id"],
        "from": row["from_status"],
        "to": row["to_status"],
        "alarm": row["alarm"],
        "detail": detail,
    }


def transaction_view(row: RowMapping) -> api_schema.Transaction:
    """Return one entry of a customer's Transactions list; `credits` is signed."""
    entry: api_schema.Transaction = {
        "transaction_id": row["transaction_id"],
        "kind": row["kind"],
        "credits": row["credits"],
        "refers_to": row["refers_to"],
        "refund_id": row["refund_id"],
        "description": row["description"],
        "occurred_at": iso(row["occurred_at"]),
    }
    purpose = row.get("purpose")  # the audit trail has only what is sealed
    if purpose is not None:
        entry["purpose"] = purpose
    return entry


def customer_view(
    account: CustomerAccount,
    payable: Iterable[Payable],
    corrections: list[api_schema.Transaction],
    merged_ids: list[str],
    erased_at: float | None,
) -> api_schema.Customer:
    """Return the customer's balance object.

    `available` is the part of the balance that is not held for an accepted withdrawal; `payable` is the part that
    can be paid out. `payable_by_currency` is the most that one more correction and its withdrawal can pay out in each
    currency: without the credits that earlier corrections took off and that are still to be paid out.
    """
    return {
        "customer_id": account.customer_id,
        "balance": account.balance,
        "available": account.available,
        "payable": account.payable,
        "payable_by_currency": [
            {"currency": part.currency, "credits": part.credits, "amount_minor": part.amount_minor} for part in payable
        ],
        "recent_corrections": corrections,
        "merged_ids": merged_ids,
        "erased_at": None if erased_at is None else iso(erased_at),
    }


def find_refund(connection: Connection, refund_id: str, *, client: str | None = None) -> Refund:
    """Return the refund. Raises `NotFound`, also for another client's refund if `client` is given."""
    found = refunds.load(connection, [refund_id])
    if not found or (client is not None and found[0].client != client):
        raise NotFound(f"refund {refund_id} is not known")
    return found[0]


def timeline(connection: Connection, refund_id: str) -> list[api_schema.Event]:
    """Return the events of a refund, oldest first."""
    return [event_view(row) for row in store_timeline.events_of(connection, refund_id)]


def customer(connection: Connection, customer_id: str, policy: Policy) -> api_schema.Customer:
    """Return balance, what can be paid out, and recent corrections. Raises `NotFound`."""
    account = accounts.find_customer(connection, customer_id)
    if account is None:
        raise NotFound(f"customer {customer_id} is not known")
    ids = accounts.ids_of(connection, account.customer_id)
    rows = ledger.corrections_of(connection, ids, limit=RECENT_CORRECTIONS)
    most = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
    payments = accounts.payments_for(connection, account.customer_id, most, policy)
    parts = payable_by_currency(most, payments, policy.allocation)
    return customer_view(
        account, parts, [transaction_view(row) for row in rows], ids[1:], accounts.erased_at(connection, ids[0])
    )


def transactions(
    connection: Connection, customer_id: str, *, limit: int = 100, after: str | None = None
) -> api_schema.Page[api_schema.Transaction]:
    """Return the Transactions list, newest first, as {data, has_more}.

    Raises `NotFound` for the customer, `InvalidRequest` for a cursor that is not one of the customer's transactions.
    """
    account = accounts.find_customer(connection, customer_id)
    if account is None:
        raise NotFound(f"customer {customer_id} is not known")
    ids = accounts.ids_of(connection, account.customer_id)
    if after is not None:
        last = ledger.transactions_by_id(connection, [after]).get(after)
        if last is None or last["customer_id"] not in ids:
            raise unknown_cursor(after, f"transaction of {customer_id}")
    rows = ledger.transactions_of(connection, ids, limit=limit + 1, after=after)
    return {"data": [transaction_view(row) for row in rows[:limit]], "has_more": len(rows) > limit}


def list_refunds(connection: Connection, filters: refunds.Filters) -> api_schema.Page[api_schema.Refund]:
    """Return refunds in the order of the filters, as {data, has_more}.

    Raises `InvalidRequest` for a cursor that is not a visible refund.
    """
    after = filters.starting_after
    if after is not None and not refunds.is_there(connection, after, filters.client):
        raise unknown_cursor(after, "refund that you can see")
    ids = refunds.find_ids(connection, filters)
    found = refunds.load(connection, ids[: filters.limit])
    in_order = sorted(found, key=lambda refund: refund.refund_id, reverse=not filters.oldest_first)
    return {"data": [refund_view(refund) for refund in in_order], "has_more": len(ids) > filters.limit}
