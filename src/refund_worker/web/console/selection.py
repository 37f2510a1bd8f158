"""Selected rows of the list of refunds: one action on all of them, after a page that confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from refund_worker.domain.state_machine import Action
from refund_worker.engine.views import api_objects
from refund_worker.errors import RefundWorkerError
from refund_worker.store import refunds
from refund_worker.web.console import decide_many
from refund_worker.web.console.decide_many import Offer
from refund_worker.web.console.pages import Page, ThePage, link
from refund_worker.web.console.query import SearchText

router = APIRouter()
# Rows of one page of the list: no more can be selected together.
PAGE = 50
# `resolve` is missing: its outcome and its reference differ for each refund.
ACTIONS = (Action.RETRY, Action.APPROVE, Action.REJECT, Action.CANCEL)
BACK_MAX = 2_000
LEAD = "The refunds that you selected in the list."


async def _selected(
    selected: Annotated[list[SearchText], Query(max_length=PAGE)] = [],  # noqa: B006 - FastAPI makes a new one
    back: Annotated[str, Query(max_length=BACK_MAX)] = "",
) -> tuple[list[str], str]:
    """Return the selected ids, each once, and the query of the list that they were selected in."""
    return list(dict.fromkeys(selected)), back


Selected = Annotated[tuple[list[str], str], Depends(_selected)]


def actions_of(page: Page) -> list[str]:
    """Return the actions that this person may take on selected refunds; without one, rows cannot be selected."""
    return [str(action) for action in ACTIONS if page.may("POST", f"/selected/{action}")]


def _offer(back: str) -> Offer:
    # The field can hold anything. The link is built from its parts, so it always leads to the list of refunds.
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(back[:BACK_MAX]):
        query.setdefault(name, []).append(value)
    fields = {"back": back[:BACK_MAX]}
    return Offer("/selected", link("/refunds", **query), "Refunds", LEAD, fields, most=PAGE)


def _ask(
    page: Page, action: Action, ids: Sequence[str], back: str, error: RefundWorkerError | None = None
) -> HTMLResponse:
    with page.context.database.read() as connection:
        loaded = {refund.refund_id: refund for refund in refunds.load(connection, ids)}
        visible = {each: r for each, r in loaded.items() if page.identity.sees in (None, r.client)}
        found = [visible[refund_id] for refund_id in ids if refund_id in visible]
        barred = decide_many.why_not_now(connection, page, action, found)
    unknown = [refund_id for refund_id in ids if refund_id not in visible]
    return decide_many.ask(page, action, _offer(back), found, barred, unknown=unknown, status_if_empty=422, error=error)


def _add(action: Action) -> None:
    @router.get(f"/selected/{action}", name=f"ask_to_{action}_selected")
    def ask(page: ThePage, selected: Selected) -> HTMLResponse:
        return _ask(page, action, *selected)

    @router.post(f"/selected/{action}", name=f"{action}_selected")
    def decide(page: ThePage) -> HTMLResponse:
        back = page.form.get("back", "")
        offer = _offer(back)
        try:
            decided = decide_many.read_form(page, offer)
        except RefundWorkerError as error:
            return _ask(page, action, decide_many.ids_in(page.form)[:PAGE], back, error)
        return decide_many.decide(page, action, offer, decided)


@router.get("/selected/now")
def statuses_now(
    page: ThePage,
    refund: Annotated[list[SearchText], Query(max_length=decide_many.MANY_MAX)] = [],  # noqa: B006 - FastAPI makes a new one
) -> HTMLResponse:
    """Show the statuses of these refunds: the result of a decision about many renews its own from here."""
    with page.context.database.read() as connection:
        found = refunds.load(connection, list(dict.fromkeys(refund)))
    shown = [api_objects.refund_view(each) for each in found if page.identity.sees in (None, each.client)]
    return page.render("decided_now.html", refunds=shown)


for _action in ACTIONS:
    _add(_action)
