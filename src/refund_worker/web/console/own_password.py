"""Your password: every signed-in person changes their own; the current one is asked for and checked as at sign-in."""

from __future__ import annotations

import hmac

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.engine.access import console_users
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.web.authorised import change_own_password
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.permissions import address_of, hashing_of

router = APIRouter()


@router.get("/password")
def ask_for_password(page: ThePage) -> HTMLResponse:
    """Show the form for a new password."""
    return _form(page)


@router.post("/password", response_model=None)
async def change_password(page: ThePage) -> Response:
    """Change the password of the signed-in person and end their other sessions."""
    assert page.session is not None
    current, new, again = (page.form.get(name, "") for name in ("current", "new", "again"))
    try:
        if not hmac.compare_digest(new.encode(), again.encode()):
            raise InvalidRequest("the new password and its repetition differ: enter both again", field="again")
        await hashing_of(page.request).run(
            address_of(page.request),
            change_own_password,
            page.context,
            page.session,
            current=current,
            new=new,
        )
    except RefundWorkerError as error:
        return _form(page, _told(error))
    return page.redirect("/password", done="password")


def _told(error: RefundWorkerError) -> RefundWorkerError:
    """Return the error with the field that it is about; the name is known here, so the password alone is wrong."""
    if isinstance(error, InvalidRequest):
        error.field = error.field if error.field == "again" else "new"
    elif isinstance(error, console_users.WrongPassword):
        error = console_users.WrongPassword("the current password is wrong", field="current")
    return error


def _form(page: Page, error: RefundWorkerError | None = None) -> HTMLResponse:
    """Show the form, always empty: a password is never sent back."""
    rules = {"shortest": console_users.PASSWORD_LENGTH_MIN, "longest": console_users.PASSWORD_LENGTH_MAX}
    answer = page.render("password.html", error.status if error else 200, error=error, **rules)
    if isinstance(error, console_users.TooManyTries):
        answer.headers["Retry-After"] = str(max(1, round(error.wait_seconds)))
    return answer
