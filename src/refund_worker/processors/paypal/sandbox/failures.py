"""The server's errors, and the faults that it can have: answers that are lost, late or not its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from typing import Any

from aiohttp import web

from refund_worker.processors.paypal.sandbox.book import Refusal

RETRY_AFTER_SECONDS = 3
SLOW_SECONDS = 2.0
HANG_SECONDS_MAX = 60.0
NOT_EXECUTED = ("409", "429", "error503", "lost")
_NAMES = {400: "INVALID_REQUEST", 401: "AUTHENTICATION_FAILURE", 403: "NOT_AUTHORIZED", 404: "RESOURCE_NOT_FOUND"}
_MESSAGES = {
    "INVALID_REQUEST": "Request is not well-formed, syntactically incorrect, or violates schema.",
    "AUTHENTICATION_FAILURE": "Authentication failed due to missing authorization header, or invalid authentication "
    "credentials.",
    "NOT_AUTHORIZED": "Authorization failed due to insufficient permissions.",
    "RESOURCE_NOT_FOUND": "The specified resource does not exist.",
    "RESOURCE_CONFLICT": "The server has detected a conflict while processing this request.",
    "UNPROCESSABLE_ENTITY": "The requested action could not be performed, semantically incorrect, or failed business "
    "validation.",
    "INTERNAL_SERVER_ERROR": "An internal server error occurred.",
    "SERVICE_UNAVAILABLE": "Service Unavailable.",
}


def invalid_token() -> web.Response:
    """Return the answer to a call without a good token."""
    body = {"error": "invalid_token", "error_description": "Token signature verification failed"}
    return web.json_response(body, status=401)


def error_answer(
    status: int, issue: str, field_name: str = "", *, name: str = "", headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error of the API: its name, and the issue if there is one."""
    more = {409: "RESOURCE_CONFLICT", 422: "UNPROCESSABLE_ENTITY", 500: "INTERNAL_SERVER_ERROR"}
    name = name or (_NAMES | more).get(status, "SERVICE_UNAVAILABLE")
    debug_id = secrets.token_hex(7)
    body: dict[str, Any] = {"name": name, "debug_id": debug_id}
    if name in _MESSAGES:
        body["message"] = _MESSAGES[name]
    if issue:
        detail = {"issue": issue} | ({"field": field_name} if field_name else {})
        body["details"] = [detail]
    return web.json_response(body, status=status, headers={"PayPal-Debug-Id": debug_id, **(headers or {})})


async def broken_answer(request: web.Request, fault: str, answer: dict[str, Any]) -> web.StreamResponse:
    """Spoil the answer to a request that was executed."""
    if fault == "error500":
        return error_answer(500, "")
    if fault == "proxy":
        return web.Response(status=403, text="<html>blocked</html>", content_type="text/html")
    if fault == "slow":
        await asyncio.sleep(SLOW_SECONDS)
        return web.json_response(answer, status=201)
    if fault == "timeout":
        await asyncio.sleep(HANG_SECONDS_MAX)
    if fault == "cut":
        text = json.dumps(answer)
        response = web.StreamResponse(status=201, headers={"Content-Length": str(len(text))})
        with contextlib.suppress(ConnectionError):  # the client has gone already
            await response.prepare(request)
            await response.write(text[: len(text) // 2].encode())
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def is_not_executed(fault: str) -> bool:
    """Return True if nothing happens at a request that meets this fault."""
    return fault in NOT_EXECUTED or fault.startswith("issue:")


def not_executed(request: web.Request, fault: str) -> web.StreamResponse:
    """Return the answer to a request that is not executed. Raises `Refusal`."""
    if fault == "409":
        raise Refusal("PREVIOUS_REQUEST_IN_PROGRESS")
    if fault.startswith("issue:"):
        raise Refusal(fault.removeprefix("issue:"))
    if fault == "429":
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return error_answer(429, "", name="RATE_LIMIT_REACHED", headers=headers)
    if fault == "error503":
        return error_answer(503, "")
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
