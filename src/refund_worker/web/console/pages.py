"""Rendering: templates that escape all values, and the values that every page needs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import DictLoader, Environment, StrictUndefined

from refund_worker.alarms import anchor_of
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.access.console_users import ConsoleSession
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.sync_refund import Access
from refund_worker.engine.views.failure_codes import explain, explain_payout
from refund_worker.engine.views.fraud_warning_objects import reason_for
from refund_worker.engine.views.money_format import money
from refund_worker.engine.views.runbook import code_anchor, payout_code_anchor
from refund_worker.processors.accounts import SHORT_FORM
from refund_worker.settings import Settings
from refund_worker.web.console import svg
from refund_worker.web.console.durations import age, span
from refund_worker.web.console.forms import error_message, sentence
from refund_worker.web.console.labels import (
    ACTION_LABELS,
    APPROVAL_LABELS,
    DONE,
    EVENT_LABELS,
    FAULT_LABELS,
    HOLD_LABELS,
    KIND_LABELS,
    PAYEE_ENTRY_LABELS,
    PAYOUT_ACTION_LABELS,
    PAYOUT_EVENT_LABELS,
    PURPOSE_LABELS,
    RESOLVE_TEXTS,
    ROW_LABELS,
    STATUS_LABELS,
    STATUS_TONES,
    STEP_LABELS,
    WEBHOOK_FAULT_LABELS,
    WEBHOOK_RESULT_LABELS,
    Done,
    message_label,
)
from refund_worker.web.console.permissions import REFRESH, is_secure, may
from refund_worker.web.console.runbook_links import alarm_anchor, prose
from refund_worker.web.console.timeline import in_money
from refund_worker.web.cookies import cookie_of
from refund_worker.web.dependencies import AppState
from refund_worker.web.template_files import read_templates

HERE = Path(__file__).parent
PREFIX = "/console"
# A message about a finished act is for the page that follows at once.
FLASH_SECONDS = 60
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    # Requests to this host carry the page they come from (`came_from` reads it); requests to other hosts do not.
    "Referrer-Policy": "same-origin",
}
STATIC: Mapping[str, tuple[bytes, str]] = {
    "console.css": ((HERE / "static" / "console.css").read_bytes(), "text/css; charset=utf-8"),
    "console.js": ((HERE / "static" / "console.js").read_bytes(), "text/javascript; charset=utf-8"),
    "icon.svg": ((HERE / "static" / "icon.svg").read_bytes(), "image/svg+xml"),
}
VERSION = hashlib.sha256(b"".join(content for content, _ in STATIC.values())).hexdigest()[:12]

# (path, name) in the order of the menu; pages that a role may not open are left out.
MENU = (
    (
        "Customers",
        (("/customers", "Manage Customers"), ("/transactions", "Transactions"), ("/payments", "Payments")),
    ),
    (
        "Refunds",
        (
            ("/", "Overview"),
            ("/refunds", "Refunds"),
            ("/failures", "Failures"),
            ("/approvals", "Approvals"),
            ("/outside-refunds", "Outside refunds"),
            ("/disputes", "Disputes"),
            ("/batches", "Batches"),
        ),
    ),
    ("Payouts", (("/payees", "Payees"), ("/payouts", "Payouts"), ("/payout-runs", "Runs"))),
    (
        "System",
        (
            ("/system", "Workers"),
            ("/figures", "Figures"),
            ("/processors", "Processors"),
            ("/reconciliations", "Reconciliation"),
            ("/webhooks", "Webhooks"),
            ("/notifications", "Notifications"),
            ("/audit", "Audit"),
            ("/users", "Users and keys"),
            ("/settings", "Settings"),
            ("/help", "Help"),
            ("/password", "Your password"),
        ),
    ),
)

# The menu entry to highlight on pages that are not in the menu.
BELOW = {
    "/customer": "/customers",
    "/payment": "/payments",
    "/add-credits": "/customers",
    "/return-money": "/customers",
    "/split-correction": "/customers",
    "/refund-transaction": "/transactions",
    "/delete-transaction": "/transactions",
    **{f"/selected/{action}": "/refunds" for action in ("retry", "approve", "reject", "cancel")},
    "/payee": "/payees",
    "/payee/statement": "/payees",
    "/payee/pause": "/payees",
    "/payee/resume": "/payees",
    "/payee/destination": "/payees",
    "/pay-out": "/payees",
    "/user": "/users",
    "/key": "/users",
}


def at(value: float | str | None) -> str:
    """Return a time (epoch seconds or ISO 8601) as text in UTC; the page's script adds the reader's time zone."""
    if value is None:
        return ""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(value: float | str | None) -> str:
    """Return a time (epoch seconds or ISO 8601) in ISO 8601, for the attribute `datetime`; "" for None."""
    return at(value).replace(" ", "T") + "Z" if value is not None else ""


def number(value: int) -> str:
    """Return the number with commas between thousands."""
    return f"{value:,}"


def signed(value: int) -> str:
    """Return the number with its sign, so that additions and removals differ without colour."""
    return f"+{value:,}" if value > 0 else f"\N{MINUS SIGN}{-value:,}" if value else "0"


def filled(template: str | None, id: str) -> str | None:
    """Return the address of a page elsewhere for this id, or None without a template."""
    return None if template is None else template.replace("{id}", quote(id, safe=""))


def short(text: str, length: int = 14) -> str:
    """Return the end of an id: ids made at the same time share their beginning."""
    return text if len(text) <= length else f"\N{HORIZONTAL ELLIPSIS}{text[-length + 1 :]}"


def link(path: str, **query: object) -> str:
    """Return a path of the console with a query; parameters that are None or empty are left out."""
    wanted = {name: value for name, value in query.items() if value not in (None, "", ())}
    return PREFIX + path + (f"?{urlencode(wanted, doseq=True)}" if wanted else "")


_environment = Environment(
    loader=DictLoader(read_templates(HERE / "templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    at=at,
    iso=iso,
    number=number,
    signed=signed,
    age=age,
    span=span,
    short=short,
    error_message=error_message,
    sentence=sentence,
    in_money=in_money,
    prose=prose,
    money=lambda a: money(a[0], a[1]),
)
_environment.globals.update(
    link=link,
    plot_width=svg.WIDTH,
    lines_width=svg.LINES_WIDTH,
    plot_height=svg.HEIGHT,
    money=money,
    explain=explain,
    explain_payout=explain_payout,
    code_anchor=code_anchor,
    payout_code_anchor=payout_code_anchor,
    alarm_anchor=alarm_anchor,
    anchor_of=anchor_of,
    version=VERSION,
    menu=MENU,
    status_labels=STATUS_LABELS,
    status_tones=STATUS_TONES,
    kind_labels=KIND_LABELS,
    purpose_labels=PURPOSE_LABELS,
    action_labels=ACTION_LABELS,
    payout_action_labels=PAYOUT_ACTION_LABELS,
    resolve_texts=RESOLVE_TEXTS,
    hold_labels=HOLD_LABELS,
    step_labels=STEP_LABELS,
    fault_labels=FAULT_LABELS,
    approval_labels=APPROVAL_LABELS,
    row_labels=ROW_LABELS,
    payee_entry_labels=PAYEE_ENTRY_LABELS,
    event_labels=EVENT_LABELS,
    payout_event_labels=PAYOUT_EVENT_LABELS,
    webhook_fault_labels=WEBHOOK_FAULT_LABELS,
    webhook_result_labels=WEBHOOK_RESULT_LABELS,
    message_label=message_label,
    reason_for=reason_for,
)


class Page:
    """One request to the console: its session, its form, and the ways to answer it."""

    def __init__(self, request: Request) -> None:
        state: AppState = request.app.state.shared
        self.request = request
        self.settings: Settings = state.settings
        self.context: Context = state.context
        self.access: Access = state.access
        self.session: ConsoleSession | None = getattr(request.state, "session", None)
        self.form: Mapping[str, str] = getattr(request.state, "form", {})

    @property
    def identity(self) -> Identity:
        """The signed-in user; the guard has already refused requests without a session."""
        assert self.session is not None
        return self.session.identity

    def may(self, method: str, path: str) -> bool:
        """Return True if the signed-in user may use this route."""
        return may(self.session, method, path)

    def render(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the rendered page; on top a message of `DONE` if the address names one for this page."""
        path = self.request.url.path.removeprefix(PREFIX) or "/"
        shared: dict[str, Any] = {
            "session": self.session,
            "token": self.session.form_token if self.session else "",
            "may": self.may,
            "allowed": [path for _, pages in MENU for path, _ in pages if self.may("GET", path)],
            "here": BELOW.get(path, path),
            "done": self._done(),
            "error": None,
            "search_text": "",
            "processor_url": self._processor_url,
            "customer_url": lambda id: filled(self.settings.customer_url_template, id),
            "environment": self.settings.environment,
        }
        text = _environment.get_template(template).render(shared | values)
        answer = HTMLResponse(text, status, headers=HEADERS)
        if shared["done"]:
            answer.delete_cookie(self._flash_cookie, secure=is_secure(self.request), httponly=True, samesite="strict")
        return answer

    def _processor_url(self, processor: str, id: str) -> str | None:
        """Return the address of an id at the processor that `PROCESSOR_URL_TEMPLATE` is for; others have none."""
        entry = self.context.accounts.entry_of(processor)
        elsewhere = entry is not None and entry.name == SHORT_FORM and not id.startswith(MANUAL_PREFIX)
        return filled(self.settings.processor_url_template, id) if elsewhere else None

    def _done(self) -> Done | None:
        """Return the message that the redirect to this address left, once and only in the session that acted.

        A page that refreshes itself takes no message away.
        """
        if REFRESH in self.request.headers:
            return None
        name, _, seal = cookie_of(self.request, self._flash_cookie).partition(".")
        here = self.request.url.path + (f"?{self.request.url.query}" if self.request.url.query else "")
        return DONE.get(name) if name and hmac.compare_digest(seal.encode(), self._seal(name, here).encode()) else None

    @property
    def _flash_cookie(self) -> str:
        return ("__Host-" if is_secure(self.request) else "") + "refund_worker_done"

    def _seal(self, name: str, address: str) -> str:
        """Bind a message to the session and to the address that shows it: no link and no other page can."""
        key = self.session.form_token if self.session else ""
        return hmac.new(key.encode(), f"{name} {address}".encode(), "sha256").hexdigest()

    def redirect(self, path: str, *, done: str | None = None, **query: object) -> RedirectResponse:
        """Redirect with 303 after a form, so that a reload of the next page does not send the form again.

        `done` is the key of the message in `DONE` that the next page shows once.
        """
        address = link(path, **query)
        answer = RedirectResponse(address, 303, headers=HEADERS)
        if done is not None:
            value, secure = f"{done}.{self._seal(done, address)}", is_secure(self.request)
            answer.set_cookie(
                self._flash_cookie, value, FLASH_SECONDS, path="/", secure=secure, httponly=True, samesite="strict"
            )
        return answer


async def _page(request: Request) -> Page:
    return Page(request)


ThePage = Annotated[Page, Depends(_page)]


# A row number in an address, limited to the range that a database can store.
RowNumber = Annotated[int, Query(ge=-(2**63), le=2**63 - 1)]


def new_request_id() -> str:
    """Return a new id for one form; a form sent twice is one request."""
    return secrets.token_urlsafe(18)
