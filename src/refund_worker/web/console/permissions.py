"""Which act each route of the console does, in one table; a route without a line in it keeps the program from starting.

Who may do an act is told by `engine/access/permissions.py`, for the API and the console alike. Every form carries the
session's token; an act with money needs a password given just now.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from enum import Enum
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from refund_worker.engine.access import console_users, permissions
from refund_worker.engine.access.console_users import ConsoleSession
from refund_worker.engine.access.permissions import Act, users_who_may
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.web.auth import lines_of
from refund_worker.web.console.forms import sentence
from refund_worker.web.console.password_hashing import Hashing
from refund_worker.web.cookies import cookie_of
from refund_worker.web.dependencies import Door
from refund_worker.web.problems import BodyTooLarge, Forbidden

FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 100
# What a page says that fetches itself again with nobody pressing anything.
REFRESH = "X-Refresh"


class Open(Enum):
    """Routes that need no session."""

    TO_ALL = "to all"


Rule = Act | Open

# Which act each route does; who may do it, and with the password or without, stands in `engine/access/permissions.py`.
RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/static/{name}"): Open.TO_ALL,
    ("GET", "/sign-in"): Open.TO_ALL,
    ("POST", "/sign-in"): Open.TO_ALL,
    ("POST", "/sign-out"): Act.SIGN_OUT,
    ("GET", "/"): Act.READ,
    ("GET", "/customers"): Act.READ,
    ("GET", "/customer"): Act.READ,
    ("GET", "/transactions"): Act.READ,
    ("GET", "/refund-transaction"): Act.REQUEST,
    ("POST", "/refund-transaction"): Act.REQUEST,
    ("GET", "/refund-transaction/preview"): Act.PREVIEW,
    ("POST", "/refund-transaction/preview"): Act.PREVIEW,
    ("GET", "/delete-transaction"): Act.DELETE,
    ("POST", "/delete-transaction"): Act.DELETE,
    ("GET", "/add-credits"): Act.CORRECT,
    ("POST", "/add-credits"): Act.CORRECT,
    ("GET", "/return-money"): Act.REQUEST,
    ("POST", "/return-money"): Act.REQUEST,
    ("GET", "/refunds"): Act.READ,
    ("GET", "/refunds.csv"): Act.READ,
    ("GET", "/refunds/{refund_id}"): Act.READ,
    ("GET", "/refunds/{refund_id}/retry"): Act.RETRY,
    ("POST", "/refunds/{refund_id}/approve"): Act.APPROVE,
    ("POST", "/refunds/{refund_id}/reject"): Act.REJECT,
    ("POST", "/refunds/{refund_id}/cancel"): Act.CANCEL,
    ("POST", "/refunds/{refund_id}/retry"): Act.RETRY,
    ("POST", "/refunds/{refund_id}/resolve"): Act.RESOLVE,
    ("GET", "/failures"): Act.READ,
    ("GET", "/failures/retry"): Act.RETRY,
    ("POST", "/failures/retry"): Act.RETRY,
    ("GET", "/failures/watch"): Act.READ,
    ("GET", "/approvals"): Act.READ,
    ("GET", "/batches"): Act.READ,
    ("GET", "/batches/{batch_id}"): Act.READ,
    ("GET", "/audit"): Act.READ,
    ("POST", "/audit/verify"): Act.VERIFY,
    ("GET", "/processors"): Act.READ,
    ("POST", "/processors/pause"): Act.PAUSE,
    ("POST", "/processors/resume"): Act.RESUME,
    ("GET", "/webhooks"): Act.INSPECT,
    ("GET", "/figures"): Act.READ,
    ("GET", "/settings"): Act.INSPECT,
    ("GET", "/help"): Act.READ,
}


class SignInNeeded(RefundWorkerError):
    """There is no session, or it has ended."""

    code, status = "sign_in_needed", 401


class PasswordNeeded(RefundWorkerError):
    """An act with money, and the password was given too long ago; `why` where it was given wrong."""

    code, status = "password_needed", 403

    def __init__(self, why: str = "") -> None:
        super().__init__("give your password again: this moves credits or money")
        self.why = why


def check_ruled(routers: Iterable[APIRouter]) -> None:
    """Raises `RuntimeError` naming routes without a line in the table."""
    unruled = [line for router in routers for line in lines_of(router) if line not in RULES]
    if unruled:
        raise RuntimeError(f"no line in RULES for {unruled}: say who may use it")


def may(session: ConsoleSession | None, method: str, path: str) -> bool:
    """Whether this session's role may use this route; what it may not, it is not shown."""
    rule = RULES[method, path]
    return rule is Open.TO_ALL or (session is not None and permissions.may(session.identity.role, rule))


def cookie_name(request: Request) -> str:
    """With the prefix that ties a cookie to this very host, where there is https."""
    return "__Host-refund_worker" if is_secure(request) else "refund_worker"


def is_secure(request: Request) -> bool:
    """In production there is TLS, here or in front of us."""
    door: Door = request.app.state.door
    return request.url.scheme == "https" or door.settings.environment == "production"


async def console_guard(request: Request) -> None:
    """Before every route: session, role, form token and, where money moves, the password."""
    rule = RULES.get((request.method, request.scope["route"].path_format))
    if rule is None:
        raise Forbidden("nobody may use this")
    request.state.session = None
    request.state.form = await _form(request) if request.method == "POST" else {}
    if rule is Open.TO_ALL:
        _refuse_nul(request)
        return
    session = await session_of(request)
    if session is None:
        raise SignInNeeded("sign in first")
    request.state.session = session
    request.state.identity = session.identity
    if not permissions.may(session.identity.role, rule):
        others = ", ".join(users_who_may(rule))
        raise Forbidden(f"your role, {session.identity.role}, may not do this. Roles that may: {others}")
    _refuse_nul(request)
    if request.method == "POST":
        form = request.state.form
        if not hmac.compare_digest(form.pop("token", "").encode(), session.form_token.encode()):
            raise Forbidden("this form is from another session: open the page again and repeat it there")
        password = form.pop("password", None)
        if permissions.needs_password(rule) and not session.confirmed:
            await _confirm(request, session, password)


def _refuse_nul(request: Request) -> None:
    """Postgres takes no NUL in a text, wherever it would be compared. Raises `InvalidRequest`."""
    given = (request.scope["path"], *request.query_params.values(), *request.state.form.values())
    if any("\x00" in value for value in given):
        raise InvalidRequest("a text can't hold the sign NUL: take it out of the address or the field")


async def session_of(request: Request) -> ConsoleSession | None:
    """Who is signed in, if anybody is."""
    door: Door = request.app.state.door
    cookie = cookie_of(request, cookie_name(request))
    if not cookie:
        return None
    seen = REFRESH not in request.headers
    return await run_in_threadpool(console_users.find_session, door.context, cookie, seen=seen)


async def _confirm(request: Request, session: ConsoleSession, password: str | None) -> None:
    if password is None:
        raise PasswordNeeded
    door: Door = request.app.state.door
    try:
        await hashing_of(request).run(
            address_of(request), console_users.confirm, door.context, session, password=password
        )
    except console_users.WrongPassword:
        # The name is on the page already: only one of the two can be wrong.
        raise PasswordNeeded("The password is wrong.") from None
    except console_users.TooManyTries as error:
        raise PasswordNeeded(sentence(error.message)) from None


def hashing_of(request: Request) -> Hashing:
    """Where this process looks at passwords."""
    hashing: Hashing = request.app.state.hashing
    return hashing


def address_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form sent from our own pages, each once. Raises `BodyTooLarge`, `InvalidRequest`, `Forbidden`."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("forms are taken only from the console's own pages")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidRequest("this takes only the console's own forms")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise BodyTooLarge(f"a form has at most {FORM_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidRequest("the form can't be read") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidRequest("a field came twice")
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
