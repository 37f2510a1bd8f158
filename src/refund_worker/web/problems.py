"""Errors as RFC 9457 problems: one shape for all errors, without internal details."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.engine.intake.schemas import WRONG_FIELDS_MAX, shown_name, wrong_message
from refund_worker.errors import (
    InvalidRequest,
    NotFound,
    RefundWorkerError,
    Refusal,
    VelocityExceeded,
    WrongField,
    problem_object,
    problem_of_error,
)
from refund_worker.redaction import to_redacted
from refund_worker.web.rate_limit import quota_headers

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 1
INTERNAL = "an internal error occurred: repeat the request (with the same idempotency key), and report it if it stays"


class KeyMissing(Refusal):
    """The header Idempotency-Key is missing."""

    code, status = "idempotency_key_missing", 400


class Unauthenticated(RefundWorkerError):
    """The request has no valid API key."""

    code, status = "unauthenticated", 401


class SignatureMissing(Unauthenticated):
    """The key requires signed requests, and this request has no signature."""

    code = "signature_missing"


class SignatureInvalid(Unauthenticated):
    """The signature was made with another secret, or for another request."""

    code = "signature_invalid"


class SignatureStale(Unauthenticated):
    """The signature is right, but too old or in the future."""

    code = "signature_stale"


class Forbidden(RefundWorkerError):
    """The caller's role may not do this."""

    code, status = "forbidden", 403


class BodyTooLarge(Refusal):
    """The body has more bytes than the route accepts."""

    code, status = "body_too_large", 413


class Crowded(RefundWorkerError):
    """There is no memory for a body of this size while others are being processed; nothing was done."""

    code, status, retryable = "unavailable", 503, True


class NotJson(Refusal):
    """The Content-Type of the body is not application/json."""

    code, status = "unsupported_media_type", 415


class Encoded(NotJson):
    """The body has a Content-Encoding: it is compressed."""


class BadSignature(Refusal):
    """The event is not signed with one of our secrets, or not recently."""

    code, status = "invalid_signature", 400


# Codes for the errors that Starlette raises itself.
CODES = {404: "not_found", 405: "method_not_allowed"}


def problem(
    status: int, code: str, detail: str, *, retryable: bool = False, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a problem as an answer."""
    body = problem_object(status, code, detail, retryable=retryable)
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=PROBLEM_JSON)


def problem_of(error: RefundWorkerError) -> JSONResponse:
    """Return the problem for an error of this program; internal errors are logged and hidden."""
    if error.status >= 500 and not error.retryable:
        raise_alarm(log, Alarm.REQUEST_FAILED, "internal error %s: %s", error.code, to_redacted(error.message))
        return problem(500, "internal", INTERNAL)
    body = problem_of_error(error, error.message)
    return JSONResponse(body, error.status, headers=_headers_of(error), media_type=PROBLEM_JSON)


def _headers_of(error: RefundWorkerError) -> dict[str, str]:
    if error.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Encoded):
        return {"Accept-Encoding": "identity"}
    if not error.retryable:
        return {}
    if isinstance(error, VelocityExceeded):
        return {"Retry-After": str(error.retry_after_seconds), **quota_headers(error.quotas)}
    return {"Retry-After": str(RETRY_AFTER_SECONDS)}


def internal_problem() -> JSONResponse:
    """Return the problem for an unexpected error."""
    return problem(500, "internal", INTERNAL)


def install(app: FastAPI) -> None:
    """Install handlers so that every error of a route is answered as a problem."""

    @app.exception_handler(RefundWorkerError)
    async def ours(request: Request, error: RefundWorkerError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_of(_invalid(error))

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code)
        if code is None:
            return problem(error.status_code, "invalid_request", HTTPStatus(error.status_code).phrase)
        what = "there is nothing at this path" if code == "not_found" else f"{request.method} is not possible here"
        return problem(error.status_code, code, what, headers=error.headers)


def _invalid(error: RequestValidationError) -> RefundWorkerError:
    """Return the errors of the query, or that of the path."""
    wrong: list[WrongField] = []
    for each in error.errors()[:WRONG_FIELDS_MAX]:
        place, *names = each["loc"]
        if place == "path":
            return NotFound("there is nothing at this path")
        message = "this parameter is not known" if each["type"] == "extra_forbidden" else wrong_message(each)
        # The number of a repeated parameter's value is no part of its name.
        field = ".".join(shown_name(name) for name in names if not isinstance(name, int)) or str(place)
        wrong.append(WrongField(field, message))
    first = wrong[0]
    return InvalidRequest(f"{first.field}: {first.detail}", field=first.field, errors=tuple(wrong))
