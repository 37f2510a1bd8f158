"""The documents of the routes, for /openapi.json. `api_schema` says which fields an answer has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from typing_extensions import TypedDict  # before Python 3.12 Pydantic reads no other

from refund_worker.engine.intake.schemas import Schema
from refund_worker.processors.base import Webhooks
from refund_worker.web.csv_answers import CSV
from refund_worker.web.problems import PROBLEM_JSON

AT = "2026-11-23T09:00:00Z"
REFUND_ID = "rf_019aafc2d1a05c1e7f00aa11b2"

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `code` is stable; `retryable` says if the same call can succeed later.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
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
        "type": "/docs/errors#exceeds_refundable",
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


def _header(description: str, example: object, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}, "example": example}


# Headers of answers, by name.
HEADERS: dict[str, Any] = {
    "Accept-Encoding": _header("The encoding of a body that is taken.", "identity"),
    "ETag": _header("The refund's version, for If-Match.", '"3"'),
    "Idempotent-Replayed": _header("true if the same key and body were known: nothing new was done.", "true"),
    "Location": _header("The path of what was created.", f"/v1/refunds/{REFUND_ID}"),
    "RateLimit": _header(
        "What is left of each velocity limit that is set (draft-ietf-httpapi-ratelimit-headers): `r`, until after `t` "
        "seconds some of it is free again.",
        '"refunds";r=9;t=86400',
    ),
    "RateLimit-Policy": _header(
        "The velocity limits that are set, for each actor, customer and payment: `q` within `w` seconds. `refunds` "
        "counts refunds, `amount` the minor units of a currency.",
        '"refunds";q=10;w=86400, "amount";q=50000;w=86400;qu="minor-units"',
    ),
    "Retry-After": _header("Seconds until the same call may succeed.", 1, "integer"),
    "WWW-Authenticate": _header("How to authenticate.", "Bearer"),
    "X-Request-ID": _header("The request's id in our log; a request may bring its own.", "6f1c0a9be2d34c7788a1b2c3"),
}
_OF_EVERY_ANSWER = ("X-Request-ID",)
LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
_OF_PROBLEMS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    415: ("Accept-Encoding",),
    429: ("Retry-After", *LIMIT_HEADERS),
    503: ("Retry-After",),
}


def document(
    answers: Mapping[int, Any],
    problems: Iterable[int] = (),
    *,
    body: type[Schema] | None = None,
    schema: dict[str, Any] | None = None,
    example: Any = None,
    parameters: Iterable[Mapping[str, Any]] = (),
    headers: Mapping[int, Iterable[str]] | None = None,
    body_required: bool = True,
    guarded: bool = True,
    csv: bool = False,
) -> Document:
    """Return the description of a route. A guarded route may also answer 401 and 403; every route may answer 503.

    `headers` names the headers of each answer, in addition to those that every answer or problem has. With `csv`, a
    good answer may also be a CSV file.
    """
    statuses = set(problems) | {503} | ({401, 403} if guarded else set())
    extra: dict[str, Any] = {} if guarded else {"security": []}
    if body is not None or schema is not None:
        shape = schema or (schema_of(body) if body else {})
        content = {"schema": shape} | ({"example": example} if example is not None else {})
        extra["requestBody"] = {"required": body_required, "content": {"application/json": content}}
        statuses |= {413, 415, 422}
    if parameters:
        extra["parameters"] = [dict(parameter) for parameter in parameters]
    found: dict[int | str, dict[str, Any]] = {
        status: {
            "model": shape,
            "description": HTTPStatus(status).phrase,
            "headers": _headers((headers or {}).get(status, ())),
        }
        | ({"content": {CSV: {"schema": {"type": "string"}}}} if csv else {})
        for status, shape in answers.items()
    }
    return Document(extra, found | {status: _problem(status) for status in sorted(statuses)})


def schema_of(body: type[Schema]) -> dict[str, Any]:
    """Return the schema of a request's body under its public name, such as RefundRequest."""
    name = body.__name__.removesuffix("Schema").removesuffix("Body") + "Request"
    whole = body.model_json_schema(mode="validation") | {"title": name}
    definitions = whole.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(whole, definitions)
    return inlined


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema with its definitions in their places: a request's body is described in one piece."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    name = str(part.get("$ref", "")).removeprefix("#/$defs/")
    if name in definitions:
        return _inlined(definitions[name], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted((*_OF_EVERY_ANSWER, *names))}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(_OF_PROBLEMS.get(status, ())),
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def webhook_of_account_document() -> Document:
    """Return the description of the route that takes the webhook events of any account."""
    text = (
        "An event, as the account's processor sends and signs it. The header of its signature is the processor's own."
    )
    schema = {"type": "object", "properties": {}, "title": "AccountEvent", "description": text}
    return document({200: Received}, (400, 404, 413), schema=schema, example={}, guarded=False)


def webhook_document(processor: str, webhooks: Webhooks) -> Document:
    """Return the description of the route that takes a processor's webhook events."""
    signature = {
        "name": webhooks.signature_header,
        "in": "header",
        "required": True,
        "schema": {"type": "string"},
        "description": "The processor's signature of the body.",
        "example": webhooks.signature_example,
    }
    name = processor.capitalize()
    text = f"An event of {name}. Only its name and kind are read; then the worker asks {name} what happened."
    schema = {**webhooks.event_schema, "title": f"{name}Event", "description": text}
    return document({200: Received}, (400, 413), schema=schema, parameters=(signature,), guarded=False)
