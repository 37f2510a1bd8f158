"""Sign-in and sign-out, and the static files that every page loads."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from refund_worker.engine.access import console_users
from refund_worker.engine.access.console_users import ConsoleSession
from refund_worker.engine.access.permissions import CONSOLE_ROLES
from refund_worker.errors import NotFound
from refund_worker.web.console.pages import HEADERS, PREFIX, STATIC, VERSION, Page, ThePage
from refund_worker.web.console.permissions import address_of, cookie_name, hashing_of, is_secure, session_of
from refund_worker.web.cookies import cookie_of
from refund_worker.web.problems import Forbidden

router = APIRouter()

# Before there is a session, this cookie ties the sign-in form to the browser.
FORM_COOKIE = "refund_worker_sign_in"


@router.get("/static/{name}")
def static(name: str, v: str = "") -> Response:
    """Return a static file; browsers cache it for good if the address has the current version."""
    if name not in STATIC:
        raise NotFound("there is nothing at this path")
    content, kind = STATIC[name]
    lasting = "public, max-age=31536000, immutable" if v == VERSION else "no-cache"
    return Response(content, media_type=kind, headers=HEADERS | {"Cache-Control": lasting})


@router.get("/sign-in", response_model=None)
async def ask_to_sign_in(page: ThePage, next: str = "") -> Response:
    """Show the sign-in form; redirect a person who is signed in already to the page."""
    if await session_of(page.request) is not None:
        return RedirectResponse(_safe(next), 303, headers=HEADERS)
    return _form(page, next)


@router.post("/sign-in", response_model=None)
async def sign_in(page: ThePage) -> Response:
    """Begin a session and redirect to the page that the person wanted."""
    form = page.form
    next, name = form.get("next", ""), form.get("name", "")
    known = cookie_of(page.request, _form_cookie(page))
    if not known or not hmac.compare_digest(form.get("token", "").encode(), known.encode()):
        session = await session_of(page.request)
        if session is not None and session.identity.name == name:
            return RedirectResponse(_safe(next), 303, headers=HEADERS)  # signed in meanwhile, in another tab
        return _form(page, next, name, Forbidden(_why_no_token(page, known, session)))
    try:
        password, address = form.get("password", ""), address_of(page.request)
        cookie = await hashing_of(page.request).run(
            address, console_users.sign_in, page.context, name=name, password=password, address=address
        )
    except (console_users.WrongPassword, console_users.TooManyTries) as error:
        return _form(page, next, name, error)
    answer = RedirectResponse(_safe(next), 303, headers=HEADERS)
    _set_cookie(page, answer, cookie_name(page.request), cookie)
    answer.delete_cookie(_form_cookie(page), secure=is_secure(page.request), httponly=True, samesite="strict")
    return answer


def _why_no_token(page: Page, cookie: str, session: ConsoleSession | None) -> str:
    """Return why the form cannot be accepted: it came without the cookie that its page had set."""
    if session is not None:
        return f"you are signed in as {session.identity.name} in another tab: sign out there first"
    if cookie:
        return "this form is from an earlier visit: it is renewed now, so sign in again"
    sent_from = urlsplit(page.request.headers.get("origin") or page.request.headers.get("referer") or "")
    if is_secure(page.request) and sent_from.scheme == "http":
        return "browsers send the console's cookies only over https: open this page with https:// and sign in there"
    return "your browser sent no cookie: allow cookies for this site, then sign in again"


@router.post("/sign-out")
def sign_out(page: ThePage) -> RedirectResponse:
    """End the session in the database and delete its cookie."""
    assert page.session is not None
    console_users.sign_out(page.context, page.session)
    page.session = None
    answer = page.redirect("/sign-in", done="signed_out")
    answer.delete_cookie(cookie_name(page.request), secure=is_secure(page.request), httponly=True, samesite="lax")
    return answer


def _form(
    page: Page,
    next: str,
    name: str = "",
    error: console_users.WrongPassword | console_users.TooManyTries | Forbidden | None = None,
) -> HTMLResponse:
    token = cookie_of(page.request, _form_cookie(page)) or secrets.token_urlsafe(24)
    status = error.status if error else 200
    answer = page.render(
        "sign_in.html", status, token=token, next=next, name=name, roles=CONSOLE_ROLES.items(), error=error
    )
    _set_cookie(page, answer, _form_cookie(page), token, strict=True)
    if isinstance(error, console_users.TooManyTries):
        answer.headers["Retry-After"] = str(max(1, round(error.wait_seconds)))
    return answer


def _form_cookie(page: Page) -> str:
    return ("__Host-" if is_secure(page.request) else "") + FORM_COOKIE


def _set_cookie(page: Page, answer: Response, name: str, value: str, *, strict: bool = False) -> None:
    """Set a cookie. The session's is SameSite=Lax, so that a link in a chat opens the page and not the sign-in form."""
    secure = is_secure(page.request)
    answer.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="strict" if strict else "lax")


def _safe(next: str) -> str:
    """Return `next` if it is a page of the console, otherwise the overview: no redirect leaves the console.

    Browsers resolve dot segments, also percent-encoded ones. Something in front of us might decode a second time.
    """
    path = next.partition("#")[0].partition("?")[0]
    *folders, page = unquote(path).split("/")[1:] or [""]
    plain = not {"", ".", ".."} & {*folders, page or "-"} and "%25" not in path and "\\" not in unquote(path)
    return next if plain and next.startswith(PREFIX + "/") and next.isprintable() and next.isascii() else PREFIX + "/"
