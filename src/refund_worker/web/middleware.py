"""Around every request: its id, security headers, one log line, and a problem for unhandled errors."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import nullcontext

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.logs import log_fields
from refund_worker.tracing import HEADER, span
from refund_worker.web.access_log import FREQUENT, log_access
from refund_worker.web.cookies import taken_apart
from refund_worker.web.paths import routed
from refund_worker.web.problems import internal_problem, problem_of

log = logging.getLogger(__name__)

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
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, production: bool) -> None:
        self.app = app
        self.headers = SAFE_HEADERS | ({"Strict-Transport-Security": STRICT_TRANSPORT} if production else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = _as_meant(scope)
        request_id = _request_id(scope)
        traced = nullcontext() if scope["path"] in FREQUENT else span("HTTP", "server", _header(scope, HEADER))
        with log_fields(request_id=request_id), traced:
            await self._handle(scope, receive, send, request_id)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
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
            pass  # the client is gone
        except Exception as error:
            if status:
                raise
            raise_alarm(
                log,
                Alarm.REQUEST_FAILED,
                "request %s failed: %s",
                request_id,
                type(error).__name__,
                error=without_values(error),
            )
            answer = problem_of(error) if isinstance(error, RefundWorkerError) else internal_problem()
            await answer(scope, receive, send_with_headers)
        finally:
            log_access(scope, request_id, status, time.perf_counter() - started)


def _as_meant(scope: Scope) -> Scope:
    """Return the request normalised, which servers and frameworks leave to the application.

    By RFC 9110 the blanks around a header's value are not part of it; by RFC 3986 an encoded slash does not divide a
    path.
    """
    headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
    meant = {**scope, "headers": headers}
    if scope.get("raw_path", b"").startswith(API):
        meant["path"] = routed(scope["raw_path"])
    return meant


def _refuse_disguised(raw_path: bytes) -> None:
    """Refuse a path whose first segment is percent-encoded. Raises `NotFound`.

    This program and the rules of proxies decide by the beginning of the path as sent. An encoded /v1 would bypass both,
    and its ids would be decoded twice.
    """
    if b"%" in raw_path.lstrip(b"/").partition(b"/")[0]:
        raise NotFound("there is nothing at this path")


def _header(scope: Scope, wanted: str) -> str:
    found = next((value for name, value in scope["headers"] if name == wanted.lower().encode()), b"")
    return str(found.decode("latin-1"))


def _request_id(scope: Scope) -> str:
    text = _header(scope, REQUEST_ID)
    return text if _A_REQUEST_ID.fullmatch(text) else secrets.token_hex(12)


def without_values(error: Exception) -> Exception:
    """Return the error without the parameters that SQLAlchemy quotes: customers' texts must not reach the log."""
    if hasattr(error, "hide_parameters"):
        error.hide_parameters = True
    return error
