"""The documents of the routes, for /openapi.json. `api_schema` says which fields an answer has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from typing_extensions import TypedDict  # before Python 3.12 Pydantic reads no other

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
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/WrongField"}},
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


WRONG_FIELD_SCHEMA: dict[str, Any] = {
    "title": "WrongField",
    "description": "One wrong field of the request.",
    "type": "object",
    "required": ["field", "detail"],
    "properties": {
        "field": {"type": "string", "description": "The name of the field or of the parameter of the query."},
        "detail": {"type": "string", "description": "What is wrong with it, for people."},
        "pointer": {"type": "string", "description": "Its place in the body, a JSON pointer such as #/customer_id."},
    },
}


class Received(TypedDict):
    """A webhook event is stored."""

    received: bool


class Health(TypedDict):
    """The process serves requests."""

    status: Literal["ok"]


# FastAPI adds these for its own 422, which no route of ours answers.
_OF_FASTAPI = {"HTTPValidationError", "ValidationError"}


def forbid_other_fields(schemas: Mapping[str, dict[str, Any]]) -> None:
    """Say in each answer's schema that it has the listed fields and no other. A `TypedDict` cannot say that itself."""
    for name, schema in schemas.items():
        if name not in _OF_FASTAPI and schema.get("type") == "object":
            schema["additionalProperties"] = False


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
    answers: Mapping[int, Any],
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
    return document({200: Received}, (400, 413), schema=schema, parameters=(signature,), guarded=False)
