"""Users and keys: who may sign in and which API keys exist, with the acts that change them. Only for admins.

A user and a key are created with the command line, because their secrets are shown only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.engine.access.api_keys import ConsoleRole, list_keys
from refund_worker.engine.access.people import linked_to, list_people
from refund_worker.engine.access.permissions import CONSOLE_ROLES
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store.access import persons
from refund_worker.web import authorised
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import ShortText

router = APIRouter()
# Keys that a page shows: all that work, and the latest of the others.
KEYS = 200

Json = dict[str, Any]


@router.get("/users")
def show_users_and_keys(page: ThePage) -> HTMLResponse:
    """Show all users, and the API keys: those that work first."""
    keys = sorted(list_keys(page.context), key=lambda key: key["status"] != "active")
    shown = [key for number, key in enumerate(keys) if number < KEYS or key["status"] == "active"]
    return page.render("users.html", people=list_people(page.context), keys=shown, more=len(keys) - len(shown))


@router.get("/user")
def show_user(page: ThePage, name: ShortText) -> HTMLResponse:
    """Show one user and what can be changed."""
    return _user_page(page, name)


@router.post("/user", response_model=None)
def change_user(page: ThePage) -> Response:
    """Change the role of a user, disable or enable the user, or forget the user's wrong passwords."""
    name, act = page.form.get("name", ""), page.form.get("act", "")
    who = page.identity
    try:
        if act == "role":
            user = authorised.set_role(page.context, who, name, page.form.get("role", ""))
        elif act == "disable":
            user = authorised.disable_user(page.context, who, name)
        elif act == "enable":
            user = authorised.enable_user(page.context, who, name)
        elif act == "unlock":
            user = authorised.unlock_user(page.context, who, name)
        else:
            raise InvalidRequest("choose what to do with the user", field="act")
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _user_page(page, name, error)
    if user["name"] == who.name and (user["role"] != ConsoleRole.ADMIN or user["status"] != "active"):
        return page.redirect("/", done=act)  # this page is no longer theirs
    return page.redirect("/user", name=user["name"], done=act)


def _user_page(page: Page, name: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    person = _one(list_people(page.context), "name", name, "user")
    status = error.status if error else 200
    return page.render("user.html", status, u=person, roles=CONSOLE_ROLES.items(), error=error)


@router.get("/key")
def show_key(page: ThePage, id: ShortText) -> HTMLResponse:
    """Show one API key, without its secrets, and what can be changed."""
    key = _one(list_keys(page.context), "key_id", id, "key")
    with page.context.database.read() as connection:
        links = persons.links(connection)
    return page.render("key.html", k=key, persons=linked_to(f"{key['client']}/{key['name']}", links))


@router.post("/key")
def revoke_key(page: ThePage) -> Response:
    """Revoke an API key; the second press of the button finds it revoked."""
    key = _one(list_keys(page.context), "key_id", page.form.get("id", ""), "key")
    if key["status"] != "revoked":
        authorised.revoke_key(page.context, page.identity, key["key_id"])
    return page.redirect("/key", id=key["key_id"], done="revoked")


def _one(found: list[Json], field: str, value: str, what: str) -> Mapping[str, Any]:
    for each in found:
        if each[field] == value:
            return each
    raise NotFound(f"there is no such {what}")
