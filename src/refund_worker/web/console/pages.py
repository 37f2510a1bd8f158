"""Rendering: templates with everything escaped, and what every page needs."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.access.console_users import ConsoleSession
from refund_worker.engine.context import Context
from refund_worker.engine.views.failure_codes import explain
from refund_worker.engine.views.money_format import money
from refund_worker.settings import Settings
from refund_worker.web.console import svg
from refund_worker.web.console.forms import said, sentence
from refund_worker.web.console.labels import (
    ACTION_WORDS,
    DONE,
    EVENT_WORDS,
    KIND_WORDS,
    STATUS_TONES,
    STATUS_WORDS,
    Done,
    whose_words,
)
from refund_worker.web.console.permissions import may
from refund_worker.web.console.timeline import in_money
from refund_worker.web.dependencies import Door

HERE = Path(__file__).parent
PREFIX = "/console"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    # A form's page is told where it came from on this host, nobody else anything.
    "Referrer-Policy": "same-origin",
}
STATIC: Mapping[str, tuple[bytes, str]] = {
    "console.css": ((HERE / "static" / "console.css").read_bytes(), "text/css; charset=utf-8"),
    "console.js": ((HERE / "static" / "console.js").read_bytes(), "text/javascript; charset=utf-8"),
    "icon.svg": ((HERE / "static" / "icon.svg").read_bytes(), "image/svg+xml"),
}
VERSION = hashlib.sha256(b"".join(content for content, _ in STATIC.values())).hexdigest()[:12]

# (path, what it is called) in the order of the menu; what a role may not open is left out.
MENU = (
    ("Customers", (("/customers", "Manage Customers"), ("/transactions", "Transactions"))),
    (
        "Refunds",
        (
            ("/", "Overview"),
            ("/refunds", "Refunds"),
            ("/failures", "Failures"),
            ("/approvals", "Approvals"),
            ("/batches", "Batches"),
        ),
    ),
    (
        "System",
        (
            ("/figures", "Figures"),
            ("/processors", "Processors"),
            ("/webhooks", "Webhooks"),
            ("/audit", "Audit"),
            ("/settings", "Settings"),
            ("/help", "Help"),
        ),
    ),
)

# Where in the menu one is on pages that have no line of their own in it.
BELOW = {
    "/customer": "/customers",
    "/add-credits": "/customers",
    "/return-money": "/customers",
    "/refund-transaction": "/transactions",
    "/delete-transaction": "/transactions",
}


def at(value: float | str | None) -> str:
    """A time in UTC; the page's script adds the reader's own time to it."""
    if value is None:
        return ""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(value: float | str | None) -> str:
    return at(value).replace(" ", "T") + "Z" if value is not None else ""


def number(value: int) -> str:
    return f"{value:,}"


def signed(value: int) -> str:
    """With its sign, so that what was taken is told apart from what was given without colour."""
    return f"+{value:,}" if value > 0 else f"\N{MINUS SIGN}{-value:,}" if value else "0"


def age(seconds: float | None) -> str:
    """About how long, in its two largest units."""
    if seconds is None:
        return "\N{EN DASH}"
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def short(text: str, length: int = 14) -> str:
    """The end of an id: its beginning is the time, which ids made together share."""
    return text if len(text) <= length else f"\N{HORIZONTAL ELLIPSIS}{text[-length + 1 :]}"


def link(path: str, **query: object) -> str:
    """A path of the console with a query; what is None or empty is left out."""
    wanted = {name: value for name, value in query.items() if value not in (None, "", ())}
    return PREFIX + path + (f"?{urlencode(wanted, doseq=True)}" if wanted else "")


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
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
    short=short,
    said=said,
    sentence=sentence,
    in_money=in_money,
    money=lambda a: money(a[0], a[1]),
)
_environment.globals.update(
    link=link,
    plot_width=svg.WIDTH,
    lines_width=svg.LINES_WIDTH,
    plot_height=svg.HEIGHT,
    money=money,
    explain=explain,
    version=VERSION,
    menu=MENU,
    status_words=STATUS_WORDS,
    status_tones=STATUS_TONES,
    kind_words=KIND_WORDS,
    action_words=ACTION_WORDS,
    event_words=EVENT_WORDS,
    whose_words=whose_words,
)


class Page:
    """One request to the console: who asks, what was sent, and how it is answered."""

    def __init__(self, request: Request) -> None:
        door: Door = request.app.state.door
        self.request = request
        self.settings: Settings = door.settings
        self.context: Context = door.context
        self.session: ConsoleSession | None = getattr(request.state, "session", None)
        self.form: Mapping[str, str] = getattr(request.state, "form", {})

    @property
    def identity(self) -> Identity:
        """Who is signed in; the guard lets nobody else come this far."""
        assert self.session is not None
        return self.session.identity

    def may(self, method: str, path: str) -> bool:
        return may(self.session, method, path)

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """The page; a message of `DONE` on top where the address names one."""
        path = self.request.url.path.removeprefix(PREFIX) or "/"
        shared: dict[str, Any] = {
            "session": self.session,
            "token": self.session.form_token if self.session else "",
            "may": self.may,
            "allowed": [path for _, pages in MENU for path, _ in pages if self.may("GET", path)],
            "here": BELOW.get(path, path),
            "done": self._done(),
            "error": None,
            "environment": self.settings.environment,
        }
        text = _environment.get_template(template).render(shared | values)
        return HTMLResponse(text, status, headers=HEADERS)

    def _done(self) -> Done | None:
        """What the address says was just done, where this is the page for it."""
        done = DONE.get(self.request.query_params.get("done", ""))
        route = self.request.scope.get("route")
        return done if done and route is not None and route.path_format == done.page else None

    def go(self, path: str, **query: object) -> RedirectResponse:
        """See there: what was sent is done, and reloading the next page sends nothing again."""
        return RedirectResponse(link(path, **query), 303, headers=HEADERS)


async def _page(request: Request) -> Page:
    return Page(request)


ThePage = Annotated[Page, Depends(_page)]


# A number of a row in an address: what no database can hold is no row's.
RowNumber = Annotated[int, Query(ge=-(2**63), le=2**63 - 1)]


def new_request_id() -> str:
    """Of one form: sent twice, it is one request."""
    return secrets.token_urlsafe(18)
