"""The act of each route of the console, in one table; the program does not start if a route has no line in it.

`engine/access/permissions.py` says who may do an act, for the API and the console alike. Every form carries the
session's token; an act that moves money or changes who may do what needs a password entered recently.
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
from refund_worker.engine.access.permissions import Act
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.logs import add_log_field
from refund_worker.web.auth import lines_of
from refund_worker.web.console.forms import sentence
from refund_worker.web.console.password_hashing import Hashing
from refund_worker.web.cookies import cookie_of
from refund_worker.web.dependencies import AppState
from refund_worker.web.problems import BodyTooLarge, Forbidden

FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 100
# Header of requests by which a page refreshes itself, without action by a person.
REFRESH = "X-Refresh"


class Open(Enum):
    """Routes that need no session."""

    TO_ALL = "to all"


Rule = Act | Open

# The act of each route; `engine/access/permissions.py` says who may do it, and whether it needs the password.
RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/static/{name}"): Open.TO_ALL,
    ("GET", "/sign-in"): Open.TO_ALL,
    ("POST", "/sign-in"): Open.TO_ALL,
    ("POST", "/sign-out"): Act.SIGN_OUT,
    ("GET", "/password"): Act.RENEW,
    ("POST", "/password"): Act.RENEW,
    ("GET", "/"): Act.READ,
    ("GET", "/search"): Act.READ,
    ("GET", "/customers"): Act.READ,
    ("GET", "/customer"): Act.READ,
    ("GET", "/payments"): Act.READ,
    ("GET", "/payment"): Act.READ,
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
    ("POST", "/split-correction"): Act.CORRECT,
    ("GET", "/refunds"): Act.READ,
    ("GET", "/refunds.csv"): Act.READ,
    ("GET", "/refunds/{refund_id}"): Act.READ,
    ("GET", "/refunds/{refund_id}/timeline.json"): Act.READ,
    ("GET", "/refunds/{refund_id}/retry"): Act.RETRY,
    ("POST", "/refunds/{refund_id}/approve"): Act.APPROVE,
    ("POST", "/refunds/{refund_id}/reject"): Act.REJECT,
    ("POST", "/refunds/{refund_id}/sync"): Act.SYNC,
    ("POST", "/refunds/{refund_id}/cancel"): Act.CANCEL,
    ("POST", "/refunds/{refund_id}/retry"): Act.RETRY,
    ("POST", "/refunds/{refund_id}/resolve"): Act.RESOLVE,
    ("GET", "/payees"): Act.READ,
    ("GET", "/payee"): Act.READ,
    ("GET", "/payee/statement"): Act.READ,
    ("GET", "/payee/statement.csv"): Act.READ,
    ("POST", "/payee/pause"): Act.PAUSE_PAYEE,
    ("POST", "/payee/resume"): Act.RESUME_PAYEE,
    ("POST", "/payee/destination"): Act.REVEAL,
    ("GET", "/pay-out"): Act.REQUEST,
    ("POST", "/pay-out"): Act.REQUEST,
    ("GET", "/payouts"): Act.READ,
    ("GET", "/payouts/{payout_id}"): Act.READ,
    ("POST", "/payouts/{payout_id}/approve"): Act.APPROVE,
    ("POST", "/payouts/{payout_id}/reject"): Act.REJECT,
    ("POST", "/payouts/{payout_id}/sync"): Act.SYNC,
    ("POST", "/payouts/{payout_id}/cancel"): Act.CANCEL,
    ("POST", "/payouts/{payout_id}/retry"): Act.RETRY,
    ("POST", "/payouts/{payout_id}/resolve"): Act.RESOLVE,
    ("GET", "/payout-runs"): Act.READ,
    ("POST", "/payout-runs"): Act.RUN_PAYOUTS,
    ("GET", "/payout-runs/{run_id}"): Act.READ,
    ("GET", "/payout-runs/{run_id}/rows.csv"): Act.READ,
    ("POST", "/payout-runs/{run_id}/approve"): Act.APPROVE,
    ("POST", "/payout-runs/{run_id}/cancel"): Act.CANCEL_RUN,
    ("GET", "/failures"): Act.READ,
    ("GET", "/failures/retry"): Act.RETRY,
    ("POST", "/failures/retry"): Act.RETRY,
    ("GET", "/failures/watch"): Act.READ,
    ("GET", "/approvals"): Act.READ,
    ("GET", "/approvals/approve"): Act.APPROVE,
    ("GET", "/approvals/reject"): Act.REJECT,
    ("POST", "/approvals/approve"): Act.APPROVE,
    ("POST", "/approvals/reject"): Act.REJECT,
    ("GET", "/selected/now"): Act.READ,
    ("GET", "/selected/retry"): Act.RETRY,
    ("GET", "/selected/approve"): Act.APPROVE,
    ("GET", "/selected/reject"): Act.REJECT,
    ("GET", "/selected/cancel"): Act.CANCEL,
    ("POST", "/selected/retry"): Act.RETRY,
    ("POST", "/selected/approve"): Act.APPROVE,
    ("POST", "/selected/reject"): Act.REJECT,
    ("POST", "/selected/cancel"): Act.CANCEL,
    ("GET", "/outside-refunds"): Act.READ,
    ("GET", "/outside-refunds/{claim_id}"): Act.READ,
    ("GET", "/disputes"): Act.READ,
    ("GET", "/disputes/{claim_id}"): Act.READ,
    ("GET", "/batches"): Act.READ,
    ("GET", "/batches/{batch_id}"): Act.READ,
    ("GET", "/audit"): Act.READ,
    ("GET", "/audit.csv"): Act.READ,
    ("POST", "/audit/verify"): Act.VERIFY,
    ("GET", "/processors"): Act.READ,
    ("POST", "/processors/pause"): Act.PAUSE,
    ("POST", "/processors/resume"): Act.RESUME,
    ("POST", "/outside-refunds/{claim_id}/decide"): Act.DECIDE,
    ("POST", "/outside-refunds/{claim_id}/link"): Act.LINK,
    ("POST", "/disputes/{claim_id}/decide"): Act.DECIDE,
    ("POST", "/payment/close"): Act.CLOSE,
    ("POST", "/customer/merge"): Act.MERGE,
    ("POST", "/customer/erase"): Act.ERASE,
    ("GET", "/customer.json"): Act.EXPORT,
    ("GET", "/reconciliations"): Act.READ,
    ("POST", "/reconciliations"): Act.RECONCILE,
    ("GET", "/reconciliations/{reconciliation_id}"): Act.READ,
    ("GET", "/reconciliations/{reconciliation_id}/differences.csv"): Act.READ,
    ("POST", "/reconciliations/{reconciliation_id}/apply"): Act.SETTLE,
    ("POST", "/reconciliations/{reconciliation_id}/acknowledge"): Act.SETTLE,
    ("GET", "/webhooks"): Act.INSPECT,
    ("GET", "/figures"): Act.READ,
    ("GET", "/system"): Act.READ,
    ("GET", "/notifications"): Act.INSPECT,
    ("POST", "/notifications/redeliver"): Act.REDELIVER,
    ("GET", "/settings"): Act.INSPECT,
    ("GET", "/users"): Act.MANAGE,
    ("GET", "/user"): Act.MANAGE,
    ("POST", "/user"): Act.MANAGE,
    ("GET", "/key"): Act.MANAGE,
    ("POST", "/key"): Act.MANAGE,
    ("GET", "/help"): Act.READ,
}


class SignInNeeded(RefundWorkerError):
    """The request has no session, or its session has ended."""

    code, status = "sign_in_needed", 401


class PasswordNeeded(RefundWorkerError):
    """The act needs the password, which was entered too long ago; `why` says what was wrong with a new one."""

    code, status = "password_needed", 403

    def __init__(self, act: Act, why: str = "") -> None:
        does = {Act.MANAGE: "changes who may do what", Act.REVEAL: "shows where a payee is paid"}
        self.does = does.get(act, "moves credits or money")
        super().__init__(f"enter your password again: this {self.does}")
        self.why = why


def check_ruled(routers: Iterable[APIRouter]) -> None:
    """Check that every route has a line in `RULES`. Raises `RuntimeError` with the routes that have none."""
    unruled = [line for router in routers for line in lines_of(router) if line not in RULES]
    if unruled:
        raise RuntimeError(f"no line in RULES for {unruled}: say who may use it")


def may(session: ConsoleSession | None, method: str, path: str) -> bool:
    """Return True if this session's role may use this route; pages hide the links to other routes."""
    rule = RULES[method, path]
    return rule is Open.TO_ALL or (session is not None and permissions.may(session.identity.role, rule))


def cookie_name(request: Request) -> str:
    """Return the name of the session cookie; with https it has the prefix that binds it to this host."""
    return "__Host-refund_worker" if is_secure(request) else "refund_worker"


def is_secure(request: Request) -> bool:
    """Return True if the connection uses TLS; in production it does, here or at a proxy in front."""
    state: AppState = request.app.state.shared
    return request.url.scheme == "https" or state.settings.environment == "production"


async def console_guard(request: Request) -> None:
    """Check session, role, form token and, for acts that move money, the password before every route.

    Raises `SignInNeeded`, `PasswordNeeded`, `Forbidden` or `InvalidRequest`.
    """
    rule = RULES.get((request.method, request.scope["route"].path_format))
    if rule is None:
        raise Forbidden("no role may use this")
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
    add_log_field("actor", session.identity.actor)
    if not permissions.may(session.identity.role, rule):
        raise Forbidden(permissions.why_not(session.identity.role, rule))
    _refuse_nul(request)
    if request.method == "POST":
        form = request.state.form
        if not hmac.compare_digest(form.pop("token", "").encode(), session.form_token.encode()):
            raise Forbidden("this form is from another session: open the page again and repeat it there")
        password = form.pop("password", None)
        if permissions.needs_password(rule) and not session.confirmed:
            await _confirm(request, session, rule, password)


def _refuse_nul(request: Request) -> None:
    """Refuse NUL characters, which Postgres accepts in no text. Raises `InvalidRequest`."""
    texts = (request.scope["path"], *request.query_params.values(), *request.state.form.values())
    if any("\x00" in value for value in texts):
        raise InvalidRequest("a text cannot contain the NUL character: remove it from the address or the field")


async def session_of(request: Request) -> ConsoleSession | None:
    """Return the session of the request's cookie, or None without a valid one."""
    state: AppState = request.app.state.shared
    cookie = cookie_of(request, cookie_name(request))
    if not cookie:
        return None
    seen = REFRESH not in request.headers
    return await run_in_threadpool(console_users.find_session, state.context, cookie, seen=seen)


async def _confirm(request: Request, session: ConsoleSession, act: Act, password: str | None) -> None:
    if password is None:
        raise PasswordNeeded(act)
    state: AppState = request.app.state.shared
    try:
        await hashing_of(request).run(
            address_of(request), console_users.confirm, state.context, session, password=password
        )
    except console_users.WrongPassword:
        # The user is already known here, so the message may say that it is the password that is wrong.
        raise PasswordNeeded(act, "The password is wrong.") from None
    except console_users.TooManyTries as error:
        raise PasswordNeeded(act, sentence(error.message)) from None


def hashing_of(request: Request) -> Hashing:
    """Return the password checks of this process."""
    hashing: Hashing = request.app.state.hashing
    return hashing


def address_of(request: Request) -> str:
    """Return the client's address, or "unknown"."""
    return request.client.host if request.client else "unknown"


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form sent by the console's own pages.

    Raises `BodyTooLarge`, `InvalidRequest` (also for a field that is there twice) or `Forbidden`.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("forms are accepted only from the console's own pages")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidRequest("only the console's own forms are accepted here")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise BodyTooLarge(f"a form has at most {FORM_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidRequest("the form cannot be read") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidRequest("a field was sent twice")
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
