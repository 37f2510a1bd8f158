"""Who may see and do what in the console, in one table; a route without a line in it keeps the program from starting.

Every form carries the session's token; an act with money needs a password given just now.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from refund_worker.engine import console_users
from refund_worker.engine.api_keys import Role
from refund_worker.engine.console_users import ConsoleSession
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.web.auth import APPROVE, OPERATE, READ, RECORD, REQUEST, lines_of
from refund_worker.web.console.forms import sentence
from refund_worker.web.door import Door
from refund_worker.web.problems import BodyTooLarge, Forbidden

FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """`roles` is None for what needs no session. `money` asks for the password where it was not given just now."""

    roles: frozenset[Role] | None
    money: bool = False


OPEN = Rule(None)
# Groups and queues are made over all clients' refunds.
OVERSEE = frozenset({Role.APPROVER, Role.OPERATOR, Role.ADMIN})

RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/static/{name}"): OPEN,
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): OPEN,
    ("POST", "/sign-out"): Rule(READ),
    ("GET", "/"): Rule(READ),
    ("GET", "/customers"): Rule(READ),
    ("GET", "/customer"): Rule(READ),
    ("GET", "/transactions"): Rule(READ),
    ("GET", "/refund-transaction"): Rule(REQUEST),
    ("POST", "/refund-transaction"): Rule(REQUEST, money=True),
    ("GET", "/refund-transaction/preview"): Rule(REQUEST),
    ("POST", "/refund-transaction/preview"): Rule(REQUEST),
    ("GET", "/delete-transaction"): Rule(RECORD),
    ("POST", "/delete-transaction"): Rule(RECORD, money=True),
    ("GET", "/add-credits"): Rule(RECORD),
    ("POST", "/add-credits"): Rule(RECORD, money=True),
    ("GET", "/return-money"): Rule(REQUEST),
    ("POST", "/return-money"): Rule(REQUEST, money=True),
    ("GET", "/refunds"): Rule(READ),
    ("GET", "/refunds.csv"): Rule(READ),
    ("GET", "/refunds/{refund_id}"): Rule(READ),
    ("GET", "/refunds/{refund_id}/retry"): Rule(OPERATE),
    ("POST", "/refunds/{refund_id}/approve"): Rule(APPROVE, money=True),
    ("POST", "/refunds/{refund_id}/reject"): Rule(APPROVE),
    ("POST", "/refunds/{refund_id}/cancel"): Rule(RECORD),
    ("POST", "/refunds/{refund_id}/retry"): Rule(OPERATE, money=True),
    ("POST", "/refunds/{refund_id}/resolve"): Rule(OPERATE, money=True),
    ("GET", "/failures"): Rule(OVERSEE),
    ("GET", "/failures/retry"): Rule(OPERATE),
    ("POST", "/failures/retry"): Rule(OPERATE, money=True),
    ("GET", "/failures/watch"): Rule(OVERSEE),
    ("GET", "/approvals"): Rule(OVERSEE),
    ("GET", "/batches"): Rule(READ),
    ("GET", "/batches/{batch_id}"): Rule(READ),
    ("GET", "/audit"): Rule(OVERSEE),
    ("POST", "/audit/verify"): Rule(OPERATE),
    ("GET", "/processors"): Rule(READ),
    ("POST", "/processors/pause"): Rule(OPERATE),
    ("POST", "/processors/resume"): Rule(OPERATE, money=True),
    ("GET", "/webhooks"): Rule(OPERATE),
    ("GET", "/figures"): Rule(OVERSEE),
    ("GET", "/settings"): Rule(OPERATE),
    ("GET", "/help"): Rule(READ),
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
    return rule.roles is None or (session is not None and session.identity.role in rule.roles)


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
    if rule.roles is None:
        _refuse_nul(request)
        return
    session = await session_of(request)
    if session is None:
        raise SignInNeeded("sign in first")
    request.state.session = session
    request.state.identity = session.identity
    if session.identity.role not in rule.roles:
        raise Forbidden(f"your role, {session.identity.role}, may not do this")
    _refuse_nul(request)
    if request.method == "POST":
        form = request.state.form
        if not hmac.compare_digest(form.pop("token", "").encode(), session.form_token.encode()):
            raise Forbidden("this form is from another session: open the page again and repeat it there")
        password = form.pop("password", None)
        if rule.money and not session.confirmed:
            await _confirm(request, session, password)


def _refuse_nul(request: Request) -> None:
    """Postgres takes no NUL in a text, wherever it would be compared. Raises `InvalidRequest`."""
    given = (request.scope["path"], *request.query_params.values(), *request.state.form.values())
    if any("\x00" in value for value in given):
        raise InvalidRequest("a text can't hold the sign NUL: take it out of the address or the field")


async def session_of(request: Request) -> ConsoleSession | None:
    """Who is signed in, if anybody is."""
    door: Door = request.app.state.door
    cookie = request.cookies.get(cookie_name(request), "")
    return await run_in_threadpool(console_users.find_session, door.context, cookie) if cookie else None


async def _confirm(request: Request, session: ConsoleSession, password: str | None) -> None:
    if password is None:
        raise PasswordNeeded
    door: Door = request.app.state.door
    address = address_of(request)
    try:
        await run_in_threadpool(console_users.confirm, door.context, session, password=password, address=address)
    except console_users.WrongPassword:
        # The name is on the page already: only one of the two can be wrong.
        raise PasswordNeeded("The password is wrong.") from None
    except console_users.TooManyTries as error:
        raise PasswordNeeded(sentence(error.message)) from None


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
