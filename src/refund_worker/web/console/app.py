"""The console as a separate application under /console, with its own guard and its own error pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.errors import RefundWorkerError
from refund_worker.web.console import (
    approvals,
    audit,
    batches,
    charts,
    claims,
    corrections,
    customers,
    download,
    failures,
    overview,
    own_password,
    pay_out,
    payees,
    payments,
    payout_runs,
    payouts,
    people,
    processors,
    reconciliations,
    refund_transaction,
    refunds,
    search,
    selection,
    system,
    transactions,
    webhooks,
)
from refund_worker.web.console import sign_in as sign_in_pages
from refund_worker.web.console.forms import sentence
from refund_worker.web.console.pages import PREFIX, Page
from refund_worker.web.console.permissions import PasswordNeeded, SignInNeeded, check_ruled, console_guard, session_of
from refund_worker.web.middleware import without_values
from refund_worker.web.problems import log

_PARTS = (
    sign_in_pages,
    own_password,
    customers,
    payments,
    transactions,
    corrections,
    refund_transaction,
    refunds,
    download,
    payees,
    pay_out,
    payouts,
    payout_runs,
    selection,
    search,
    overview,
    system,
    webhooks,
    failures,
    approvals,
    claims,
    processors,
    reconciliations,
    batches,
    charts,
    audit,
    people,
)
# A person has no idempotency key; the forms have one of their own.
NOT_SHOWN = "An internal error occurred. Try again: a form that is sent twice acts once. Report it if it stays."
ROUTERS = tuple(part.router for part in _PARTS)


def create_console() -> FastAPI:
    """Return the application; its parent mounts it at `PREFIX` and sets `state.shared` and `state.hashing` first.

    Raises `RuntimeError` for a route without a line in `permissions.RULES`.
    """
    check_ruled(ROUTERS)
    app = FastAPI(dependencies=[Depends(console_guard)], openapi_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router)
    _install(app)
    app.add_middleware(_LastResort)
    return app


class _LastResort:
    """ASGI middleware that answers unhandled errors with the console's error page and logs them without customer data.

    The framework alone would answer in plain text and pass the error to the server, which prints all of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            raise_alarm(
                log,
                Alarm.REQUEST_FAILED,
                "a page of the console failed: %s",
                type(error).__name__,
                error=without_values(error),
            )
            request = Request(scope, receive)
            if not hasattr(request.state, "session"):
                request.state.session = None
            await _error(request, 500, "internal", NOT_SHOWN)(scope, receive, send)


async def to_console(request: Request) -> RedirectResponse:
    """Redirect the address without a slash at its end, which people type, to the console."""
    return RedirectResponse(PREFIX + "/", 307)


def _install(app: FastAPI) -> None:
    @app.exception_handler(SignInNeeded)
    async def sign_in(request: Request, error: SignInNeeded) -> Response:
        if request.method == "POST":
            # The input of the form is lost with the session, but its page can be opened again after signing in.
            return Page(request).redirect("/sign-in", next=came_from(request), done="ended")
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Page(request).redirect("/sign-in", next=wanted)

    @app.exception_handler(PasswordNeeded)
    async def confirm(request: Request, error: PasswordNeeded) -> HTMLResponse:
        return Page(request).render("confirm.html", 403, fields=Page(request).form, why=error.why, does=error.does)

    @app.exception_handler(RefundWorkerError)
    async def ours(request: Request, error: RefundWorkerError) -> HTMLResponse:
        if error.status >= 500 and not error.retryable:
            raise_alarm(log, Alarm.REQUEST_FAILED, "internal error %s: %s", error.code, error.message)
            return _error(request, 500, "internal", NOT_SHOWN)
        return _error(request, error.status, error.code, error.message)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> HTMLResponse:
        first: dict[str, Any] = error.errors()[0]
        message = (
            f"This address is incomplete, or its “{first['loc'][-1]}” is wrong. Use a link on one of the pages instead."
        )
        return _error(request, 422, "invalid_request", message)

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> HTMLResponse:
        code = "not_found" if error.status_code == 404 else "invalid_request"
        what = "There is nothing at this address." if code == "not_found" else "This is not possible here."
        # Without a route no guard has run: look the session up here, so that a signed-in user still has the menu.
        if not hasattr(request.state, "session"):
            request.state.session = await session_of(request)
        return _error(request, error.status_code, code, what)


def came_from(request: Request) -> str | None:
    """Return the console page that sent the form, from the Referer header, or None if none can be reopened.

    The schemes differ behind a proxy that ends TLS, and so may the hosts: then the browser's own word counts.
    """
    referer = urlsplit(request.headers.get("referer", ""))
    same_origin = request.headers.get("sec-fetch-site") == "same-origin"
    if not same_origin and referer.netloc != request.url.netloc:
        return None
    path, query = referer.path, referer.query
    # The page after a refused act stands at an address that takes only forms, such as `…/approve`: its parent opens.
    while path.startswith(PREFIX + "/") and not _opens(request, path.removeprefix(PREFIX)):
        path, query = path.rpartition("/")[0], ""
    return path + (f"?{query}" if query else "")


def _opens(request: Request, path: str) -> bool:
    """Return True if a person can open this page of the console by its address."""
    asked = {**request.scope, "method": "GET", "path": PREFIX + path}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)


def _error(request: Request, status: int, code: str, message: str) -> HTMLResponse:
    return Page(request).render("error.html", status, code=code, message=sentence(message), status_code=status)
