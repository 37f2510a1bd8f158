"""Shared parts of the forms that request refunds: preview a request, send it, and report the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from refund_worker.domain.refund import Kind, RefundRequest, RefundStatus, To
from refund_worker.engine.intake.schemas import RefundSchema, parse_schema
from refund_worker.engine.views import api_objects
from refund_worker.errors import KeyReused, RefundWorkerError
from refund_worker.store import refunds
from refund_worker.web.authorised import request_refund
from refund_worker.web.console.forms import key_of
from refund_worker.web.console.pages import Page, new_request_id


def trial(page: Page, kind: Kind, to: To, entry: RowMapping, **options: Any) -> RefundRequest:
    """Return a request for a preview only."""
    return RefundRequest(
        idempotency_key="preview",
        kind=kind,
        to=to,
        customer_id=entry["customer_id"],
        transaction_id=entry["transaction_id"],
        reason="preview",
        client=page.identity.client,
        actor=page.identity.actor,
        **options,
    )


def ask(page: Page, fields: Mapping[str, Any], *, left_seen: int | None = None) -> str:
    """Request the refund of this form and return the refund's id. Raises a `Refusal`, or `ChangedMeanwhile` if another
    number of credits is left of the transaction.
    """
    body = parse_schema(RefundSchema, fields)
    key = key_of(page.form)
    return request_refund(page.context, page.identity, body, idempotency_key=key, left_seen=left_seen).refund_id


def was_sent(page: Page) -> bool:
    """Return True if this form was accepted before; it then returns its refund, whatever is left to refund now."""
    with page.context.database.read() as connection:
        return bool(refunds.find_by_keys(connection, page.identity.client, [key_of(page.form)]))


def accepted(page: Page, refund_id: str) -> str:
    """Return the key of `DONE` for a money refund that was just accepted."""
    with page.context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id)
    return "approval" if refund.status is RefundStatus.AWAITING_APPROVAL else "asked"


def form_id(form: Mapping[str, str], error: RefundWorkerError | None) -> str:
    """Return the id for the form when it is shown again; a new id if another request already used the old one."""
    return new_request_id() if isinstance(error, KeyReused) else form.get("request_id") or new_request_id()
