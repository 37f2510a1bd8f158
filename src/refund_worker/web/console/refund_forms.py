"""What the panels that ask for refunds have in common: trying a request out, sending it, and saying what came of it."""

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
    """A request that is only looked at."""
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


def ask(page: Page, fields: Mapping[str, Any]) -> str:
    """The id of the refund that answers this form. Raises a `Refusal`."""
    body = parse_schema(RefundSchema, fields)
    return request_refund(page.context, page.identity, body, idempotency_key=key_of(page.form)).refund_id


def was_sent(page: Page) -> bool:
    """Whether this very form was accepted before: what it asks for then is that refund, whatever is left by now."""
    with page.context.database.read() as connection:
        return bool(refunds.find_by_keys(connection, page.identity.client, [key_of(page.form)]))


def accepted(page: Page, refund_id: str) -> str:
    """The word of `DONE` for a refund with money that was just accepted."""
    with page.context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id)
    return "approval" if refund.status is RefundStatus.AWAITING_APPROVAL else "asked"


def form_id(form: Mapping[str, str], error: RefundWorkerError | None) -> str:
    """The id of the form as it is shown again; a new one where the old one already stands for something else."""
    return new_request_id() if isinstance(error, KeyReused) else form.get("request_id") or new_request_id()
