"""Around every request: its id, headers for safety, one line in the log, and a problem where all else failed."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.redaction import to_redacted
from refund_worker.web.cookies import taken_apart
from refund_worker.web.paths import routed
from refund_worker.web.problems import internal_problem, problem_of

log = logging.getLogger("refund_worker.web")
access_log = logging.getLogger("refund_worker.web.access")

# The console keeps ids out of its paths.
API = b"/v1/"
REQUEST_ID = "X-Request-ID"
_A_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STRICT_TRANSPORT = "max-age=31536000"


class Edge:
    """ASGI middleware. The log holds the caller, method, path without the query, status and time: no body,
    and no header but what a trusted proxy tells of the address."""

    def __init__(self, app: ASGIApp, *, production: bool) -> None:
        self.app = app
        self.headers = SAFE_HEADERS | ({"Strict-Transport-Security": STRICT_TRANSPORT} if production else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = _as_meant(scope)
        request_id = _request_id(scope)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                headers[REQUEST_ID] = request_id
            await send(message)

        try:
            scope = taken_apart(scope)
            _refuse_disguised(scope.get("raw_path", b""))
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # nobody is there to hear an answer
        except Exception as error:
            if status:
                raise
            log.error("request %s broke: %s", request_id, type(error).__name__, exc_info=without_values(error))
            answer = problem_of(error) if isinstance(error, RefundWorkerError) else internal_problem()
            await answer(scope, receive, send_with_headers)
        finally:
            access_log.info(_line(scope, request_id, status, time.perf_counter() - started))


def _as_meant(scope: Scope) -> Scope:
    """The request as its grammar means it: RFC 9110 says that blanks around a header's value are no part of it, and RFC
    3986 that an encoded slash divides no path. Servers and frameworks leave both to us."""
    headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
    meant = {**scope, "headers": headers}
    if scope.get("raw_path", b"").startswith(API):
        meant["path"] = routed(scope["raw_path"])
    return meant


def _refuse_disguised(raw_path: bytes) -> None:
    """Where a path leads is told by how it begins as it was sent: here, and in the rules of proxies. Spelled in code,
    /v1 would lead past both, and its ids would be decoded twice. Raises `NotFound`."""
    if b"%" in raw_path.lstrip(b"/").partition(b"/")[0]:
        raise NotFound("there is nothing at this path")


def _request_id(scope: Scope) -> str:
    wanted = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
    text = str(wanted.decode("latin-1"))
    return text if _A_REQUEST_ID.fullmatch(text) else secrets.token_hex(12)


def without_values(error: Exception) -> Exception:
    """SQLAlchemy's errors quote the statement's parameters: customers' texts are not for the log."""
    if hasattr(error, "hide_parameters"):
        error.hide_parameters = True
    return error


def _line(scope: Scope, request_id: str, status: int, seconds: float) -> str:
    identity = scope.get("state", {}).get("identity")
    return json.dumps(
        {
            "method": scope["method"],
            "path": to_redacted(scope["path"][:200]),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_id": request_id,
            "actor": identity.actor if identity else None,
            "address": scope["client"][0] if scope.get("client") else None,
        }
    )
