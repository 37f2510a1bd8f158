"""The console as an application of its own below /console: its own guard, its own pages for what goes wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refund_worker.errors import RefundWorkerError
from refund_worker.web.console import (
    approvals,
    audit,
    batches,
    charts,
    customers,
    failures,
    overview,
    processors,
    refund_transaction,
    refunds,
)
from refund_worker.web.console import sign_in as sign_in_pages
from refund_worker.web.console.forms import sentence
from refund_worker.web.console.pages import PREFIX, Page
from refund_worker.web.console.permissions import PasswordNeeded, SignInNeeded, check_ruled, console_guard, session_of
from refund_worker.web.middleware import without_values
from refund_worker.web.problems import INTERNAL, log

_PARTS = (
    sign_in_pages,
    customers,
    refund_transaction,
    refunds,
    overview,
    failures,
    approvals,
    processors,
    batches,
    charts,
    audit,
)
ROUTERS = tuple(part.router for part in _PARTS)


def create_console() -> FastAPI:
    """The application; whoever mounts it at `PREFIX` gives it `state.door` and `state.hashing` before it serves.

    Raises `RuntimeError` for a route without a line in `access.RULES`.
    """
    check_ruled(ROUTERS)
    app = FastAPI(dependencies=[Depends(console_guard)], openapi_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router)
    _install(app)
    app.add_middleware(_LastResort)
    return app


class _LastResort:
    """ASGI middleware: what nothing else answers gets the console's own page, and a log without people's texts.

    Left to the framework, the error would be answered in plain text and go on to the server, which prints all of it.
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
            log.error("a page of the console broke: %s", type(error).__name__, exc_info=without_values(error))
            request = Request(scope, receive)
            if not hasattr(request.state, "session"):
                request.state.session = None
            await _error(request, 500, "internal", INTERNAL)(scope, receive, send)


async def to_console(request: Request) -> RedirectResponse:
    """The address that people type."""
    return RedirectResponse(PREFIX + "/", 307)


def _install(app: FastAPI) -> None:
    @app.exception_handler(SignInNeeded)
    async def sign_in(request: Request, error: SignInNeeded) -> Response:
        if request.method == "POST":
            # What was in a form is lost with the session; the page that it was on is not.
            return Page(request).go("/sign-in", next=came_from(request), done="ended")
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Page(request).go("/sign-in", next=wanted)

    @app.exception_handler(PasswordNeeded)
    async def confirm(request: Request, error: PasswordNeeded) -> HTMLResponse:
        return Page(request).show("confirm.html", 403, fields=Page(request).form, why=error.why)

    @app.exception_handler(RefundWorkerError)
    async def ours(request: Request, error: RefundWorkerError) -> HTMLResponse:
        if error.status >= 500 and not error.retryable:
            log.error("internal error %s: %s", error.code, error.message)
            return _error(request, 500, "internal", INTERNAL)
        return _error(request, error.status, error.code, error.message)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> HTMLResponse:
        first: dict[str, Any] = error.errors()[0]
        told = (
            f"This address is not whole, or its “{first['loc'][-1]}” is wrong. A link on a page leads to the right one."
        )
        return _error(request, 422, "invalid_request", told)

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> HTMLResponse:
        code = "not_found" if error.status_code == 404 else "invalid_request"
        what = "There is nothing at this address." if code == "not_found" else "This is not possible here."
        # No route, no guard: whoever is signed in still has the menu.
        if not hasattr(request.state, "session"):
            request.state.session = await session_of(request)
        return _error(request, error.status_code, code, what)


def came_from(request: Request) -> str | None:
    """The page of ours that the form was on, as far as the browser tells and it can be asked for again."""
    told = urlsplit(request.headers.get("referer", ""))
    if (told.scheme, told.netloc) != (request.url.scheme, request.url.netloc):
        return None
    path = told.path.removeprefix(PREFIX)
    # Where a refusal of `approve` or the like was shown, the refund itself is.
    for of_one in ("/refunds", "/batches"):
        parts = path.removeprefix(of_one).split("/")
        if path.startswith(of_one + "/") and len(parts) > 2 and parts[2] != "retry":
            return f"{PREFIX}{of_one}/{parts[1]}"
    return told.path + (f"?{told.query}" if told.query else "")


def _error(request: Request, status: int, code: str, message: str) -> HTMLResponse:
    return Page(request).show("error.html", status, code=code, message=sentence(message), status_code=status)
