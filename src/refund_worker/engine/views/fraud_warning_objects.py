"""Early fraud warnings as callers see them, each with the refund that it suggests."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from refund_worker.api_schema import FraudWarning, FraudWarningStatus, SuggestedRefund
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.store import accounts
from refund_worker.store.fraud_warnings import (
    RecordedWarning,
    WarningFilters,
    list_warnings,
    warnings_by_id,
    warnings_on,
)
from refund_worker.times import iso

Json = dict[str, Any]


def warning_page(connection: Connection, filters: WarningFilters) -> Json:
    """Return the warnings that pass the filters as {data, has_more}, the newest first.

    Raises `InvalidRequest` for a cursor that is no warning.
    """
    if filters.after is not None and not warnings_by_id(connection, [filters.after]):
        raise unknown_cursor(filters.after, "early fraud warning")
    found = list_warnings(connection, filters.one_more())
    return {"data": warning_views(connection, found[: filters.limit]), "has_more": len(found) > filters.limit}


def warnings_of_payments(connection: Connection, payment_ids: Sequence[str]) -> dict[str, list[FraudWarning]]:
    """Return the warnings about these payments by payment id, each list with the newest first."""
    found: defaultdict[str, list[FraudWarning]] = defaultdict(list)
    for view in warning_views(connection, warnings_on(connection, payment_ids)):
        found[view["payment_id"] or ""].append(view)
    return found


def warning_views(connection: Connection, warnings: Sequence[RecordedWarning]) -> list[FraudWarning]:
    """Return these warnings as the API shows them, with what is left of their payments now."""
    opened = [warning for warning in warnings if warning.is_open]
    if not opened:
        return [_view(warning, None) for warning in warnings]
    rooms = accounts.refundable_by_id(connection, {w.payment_id for w in opened if w.payment_id})
    owners = accounts.find_customers(connection, {w.customer_id for w in opened if w.customer_id})
    payable = {customer_id: account.payable for customer_id, account in owners.items()}
    return [
        _view(w, _suggested(rooms.get(w.payment_id or ""), payable.get(w.customer_id or "", 0)) if w.is_open else None)
        for w in warnings
    ]


def refund_command(warning: FraudWarning) -> str | None:
    """Return the command that requests the suggested refund, as far as it can be paid out, or None if nothing can."""
    suggested = warning["suggested_refund"]
    if suggested is None or not suggested["payable_credits"]:
        return None
    words = ["refunds", "create", "--kind", "withdrawal", "--to", "source", "--customer", warning["customer_id"] or ""]
    words += ["--credits", str(suggested["payable_credits"]), "--currency", suggested["currency"]]
    return shlex.join(["refund-worker", *words, "--reason", reason_for(warning)])


def reason_for(warning: FraudWarning) -> str:
    """Return the reason that forms and commands propose for the suggested refund."""
    return f"early fraud warning {warning['object_id']}"


def _status(warning: RecordedWarning) -> FraudWarningStatus:
    if warning.payment_id is None:
        return "unmatched"
    return "open" if warning.is_open else "closed"


def _view(warning: RecordedWarning, suggested: SuggestedRefund | None) -> FraudWarning:
    return {
        "id": warning.fraud_warning_id,
        "processor_account": warning.processor,
        "object_id": warning.object_id,
        "payment_id": warning.payment_id,
        "customer_id": warning.customer_id,
        "fraud_type": warning.fraud_type,
        "actionable": warning.actionable,
        "status": _status(warning),
        "suggested_refund": suggested,
        "warned_at": iso(warning.object_created_at),
        "created_at": iso(warning.recorded_at),
        "updated_at": iso(warning.updated_at),
    }


def _suggested(room: RefundablePayment | None, payable: int) -> SuggestedRefund | None:
    if room is None or not room.money_left or not room.credits_left:
        return None
    return {
        "amount_minor": room.money_left,
        "currency": room.currency,
        "credits": room.credits_left,
        "payable_credits": max(0, min(room.credits_left, payable)),
    }
