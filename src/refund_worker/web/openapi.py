"""Shapes of the answers, for /openapi.json. The engine's views build the objects themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from refund_worker.domain.refund import Kind, LegStatus, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.intake.schemas import Schema
from refund_worker.processors.base import Webhooks
from refund_worker.web.problems import PROBLEM_JSON

AT = "2026-11-23T09:00:00Z"
REFUND_ID = "rf_019aafc2d1a05c1e7f00aa11"

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `code` is stable; `retryable` says if the same call can succeed later.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "retryable": {"type": "boolean"},
        "field": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "string"}},
    },
    "example": {
        "type": "urn:refund-worker:problem:exceeds_refundable",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "30 of 50 credits of tx-1 are left to refund",
        "code": "exceeds_refundable",
        "retryable": False,
    },
}


class Shape(BaseModel):
    """Base of all answers: exactly these fields, all required."""

    model_config = ConfigDict(extra="forbid")


class AmountShape(Shape):
    """Amounts of a refund in one currency, in minor units."""

    currency: str
    requested_minor: int
    succeeded_minor: int


class LegShape(Shape):
    """One leg of a refund; amounts are in minor units."""

    leg_id: str
    payment_id: str
    processor: str
    amount_minor: int
    currency: str
    credits: int
    status: LegStatus
    processor_refund_id: str | None
    attempts: int
    failure_code: str | None
    blocked_by: list[str]
    unreturnable_minor: int


class RefundShape(Shape):
    """A refund."""

    id: str
    status: RefundStatus
    kind: Kind
    to: To
    customer_id: str
    transaction_id: str | None
    credits: int
    amounts: list[AmountShape]
    legs: list[LegShape]
    reason: str
    note: str | None
    metadata: dict[str, str]
    idempotency_key: str
    client: str
    actor: str
    requested_by: str | None
    failure_code: str | None
    failure_message: str | None
    available_actions: list[Action]
    version: int
    created_at: str
    updated_at: str


class RefundListShape(Shape):
    """A page of refunds."""

    data: list[RefundShape]
    has_more: bool


class EventShape(Shape):
    """One event of a refund's timeline."""

    at: str
    what: str
    who: str
    why: str | None
    leg_id: str | None
    from_: str | None
    to: str | None
    alarm: bool
    detail: dict[str, Any]

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: name.rstrip("_"))


class EventListShape(Shape):
    """The timeline of a refund."""

    data: list[EventShape]
    has_more: bool


class PaymentWordShape(Shape):
    """A payment as its processor reports it."""

    captured_minor: int | None
    currency: str
    live: bool | None
    disputed: bool | None
    refunded_minor: int | None
    read_at: str


class PaymentShape(Shape):
    """A payment as it was recorded; amounts are in minor units."""

    payment_id: str
    customer_id: str
    processor: str
    processor_payment_id: str
    amount_minor: int
    currency: str
    credits: int
    captured_at: str
    captured_minor: int | None = None  # these two only if the caller sent them
    refunded_minor: int | None = None


class PaymentReadShape(PaymentShape):
    """A payment as it was recorded, with the processor's report."""

    captured_minor: int
    refunded_minor: int
    verified: bool | None
    processor_says: PaymentWordShape | None


class TransactionShape(Shape):
    """One entry of a customer's Transactions list."""

    transaction_id: str
    kind: str
    credits: int
    refers_to: str | None
    refund_id: str | None
    description: str
    occurred_at: str


class TransactionListShape(Shape):
    """A page of Transactions."""

    data: list[TransactionShape]
    has_more: bool


class CustomerShape(Shape):
    """A customer's balance and recent corrections, in credits."""

    customer_id: str
    balance: int
    available: int
    payable: int
    recent_corrections: list[TransactionShape]


class PlannedLegShape(Shape):
    """One leg that a refund would have."""

    payment_id: str
    processor: str
    amount_minor: int
    currency: str
    credits: int
    unreturnable_minor: int = 0  # only if it is not zero


class RefusalShape(Shape):
    """The reason why a request would be refused."""

    code: str
    message: str


class PolicyShape(Shape):
    """The rules that apply to a request."""

    needs_approval: bool
    approval_threshold_minor: int | None
    allocation: str


class PreviewShape(Shape):
    """The effect that a request would have."""

    would_be: Literal["accepted"] | RefusalShape
    credits: int | None
    maximum_credits: int
    legs: list[PlannedLegShape]
    amounts: list[AmountShape]
    balance_before: int | None
    balance_after: int | None
    policy: PolicyShape


class RejectShape(Shape):
    """A refused row of a batch; `index` counts from 0."""

    index: int
    code: str
    message: str


class BatchShape(Shape):
    """A batch and its progress."""

    batch_id: str
    status: Literal["taking_in", "complete", "stopped"]
    message: str | None
    accepted: int
    replayed: int
    rejected: list[RejectShape]
    refunds_by_status: dict[str, int]
    created_at: str
    updated_at: str


class SwitchShape(Shape):
    """The switch of a processor."""

    name: str
    paused: bool
    paused_by: str | None
    paused_at: str | None
    paused_until: str | None
    code: str | None
    reason: str | None


class ReceivedShape(Shape):
    """The answer to a webhook event."""

    received: bool


class HealthShape(Shape):
    """The answer of a health check."""

    status: Literal["ok"]


@dataclass(frozen=True, slots=True)
class Document:
    """Description of a route for FastAPI: `extra` is its body, `responses` its answers by status."""

    extra: dict[str, Any]
    responses: dict[int | str, dict[str, Any]]


HEADER_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "description": "One for each intent: the same key and body again gives the same answer and does nothing new.",
    "example": "order-1001-refund-1",
}
HEADER_VERSION = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The version that the caller has read; 412 if the refund has changed since.",
    "example": '"3"',
}


def document(
    answers: Mapping[int, type[Shape]],
    problems: Iterable[int] = (),
    *,
    body: type[Schema] | None = None,
    schema: dict[str, Any] | None = None,
    example: Any = None,
    parameters: Iterable[Mapping[str, Any]] = (),
    body_required: bool = True,
    guarded: bool = True,
) -> Document:
    """Return the description of a route. A guarded route may also answer 401 and 403; every route may answer 503."""
    statuses = set(problems) | {503} | ({401, 403} if guarded else set())
    extra: dict[str, Any] = {} if guarded else {"security": []}
    if body is not None or schema is not None:
        shape = schema or (body.model_json_schema(mode="validation") if body else {})
        content = {"schema": shape} | ({"example": example} if example is not None else {})
        extra["requestBody"] = {"required": body_required, "content": {"application/json": content}}
        statuses |= {413, 415, 422}
    if parameters:
        extra["parameters"] = [dict(parameter) for parameter in parameters]
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": shape, "description": HTTPStatus(status).phrase} for status, shape in answers.items()
    }
    return Document(extra, found | {status: _problem(status) for status in sorted(statuses)})


def _problem(status: int) -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def webhook_document(webhooks: Webhooks) -> Document:
    """Return the description of the route that takes a processor's webhook events."""
    signature = {
        "name": webhooks.signature_header,
        "in": "header",
        "required": True,
        "schema": {"type": "string"},
        "example": webhooks.signature_example,
    }
    schema = dict(webhooks.event_schema)
    return document({200: ReceivedShape}, (400, 413), schema=schema, parameters=(signature,), guarded=False)
