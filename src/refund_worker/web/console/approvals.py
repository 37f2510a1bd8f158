"""Approvals: refunds that wait for a second person, why each waits, and the decision about many at once."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from refund_worker.domain.refund import Refund, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.refunds.approval_reasons import why_approval
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.errors import InvalidRequest, RefundWorkerError, StaleVersion, Unavailable
from refund_worker.store import refunds
from refund_worker.web.authorised import act_on_refund
from refund_worker.web.console.forms import Why, error_message, key_of, required_text, whole
from refund_worker.web.console.pages import Page, ThePage, new_request_id
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE = 50
# Refunds of one decision about many. Each is decided in a transaction of its own, while the person waits.
MANY_MAX = 200
# After this many seconds no further refund is begun: the thread is needed by others, and the person can press again.
MANY_SECONDS = 20.0


async def _chosen(customer_id: SearchText = "", batch_id: SearchText = "") -> Mapping[str, str]:
    """Return the filter in the address."""
    return {"customer_id": customer_id.strip(), "batch_id": batch_id.strip()}


Chosen = Annotated[Mapping[str, str], Depends(_chosen)]


@router.get("/approvals")
def approvals(page: ThePage, chosen: Chosen, starting_after: SearchText | None = None) -> HTMLResponse:
    """Show the refunds that wait for a second person, the oldest first, and why each waits."""
    with page.context.database.read() as connection:
        found, more = _waiting(connection, page, chosen, PAGE, starting_after)
        why_not = _why_not(connection, page, found)
        reasons = why_approval(connection, found, page.context.limits)
    values: Json = {"found": [api_objects.refund_view(refund) for refund in found], "more": more, "chosen": chosen}
    values |= {"why_not": why_not, "reasons": reasons, "limits": page.context.limits}
    return page.render("approvals.html", **values)


def _waiting(
    connection: Connection, page: Page, chosen: Mapping[str, str], limit: int, after: str | None = None
) -> tuple[list[Refund], str | None]:
    """Return the oldest refunds that wait, and the id of the last one if there are more."""
    wanted = refunds.Filters(
        statuses=(RefundStatus.AWAITING_APPROVAL,),
        customer_id=chosen["customer_id"] or None,
        batch_id=chosen["batch_id"] or None,
        client=page.identity.sees,
        limit=limit,
        starting_after=after,
        oldest_first=True,
    )
    ids = refunds.find_ids(connection, wanted)
    return refunds.load(connection, ids[:limit]), ids[limit - 1] if len(ids) > limit else None


def _why_not(connection: Connection, page: Page, found: list[Refund]) -> dict[str, str]:
    return why_not_approve(connection, page.identity.actor, {refund.requested_by for refund in found})


def _add_decision(action: Action) -> None:
    @router.get(f"/approvals/{action}", name=f"ask_to_{action}_many")
    def ask(page: ThePage, chosen: Chosen) -> HTMLResponse:
        return _ask(page, action, chosen)

    @router.post(f"/approvals/{action}", name=f"{action}_many")
    def decide(page: ThePage) -> HTMLResponse:
        return _decide(page, action)


for _action in (Action.APPROVE, Action.REJECT):
    _add_decision(_action)


def _ask(page: Page, action: Action, chosen: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    """Show the refunds of one customer or batch that would be decided, their number and their sums."""
    if not any(chosen.values()):
        raise InvalidRequest("choose a customer or a batch on the page Approvals: many are decided only together")
    with page.context.database.read() as connection:
        found, more = _waiting(connection, page, chosen, MANY_MAX)
        why_not = _why_not(connection, page, found) if action is Action.APPROVE else {}
    mine = [refund for refund in found if refund.requested_by not in why_not]
    views = [api_objects.refund_view(refund) for refund in mine]
    sums: Counter[str] = Counter()
    for view in views:
        for amount in view["amounts"]:
            sums[amount["currency"]] += amount["requested_minor"]
    values: Json = {
        "action": str(action),
        "chosen": chosen,
        "refunds": views,
        "sums": sorted(sums.items()),
        "more": more,
    }
    values |= {"barred": len(found) - len(mine), "why_not": sorted(set(why_not.values()))}
    values |= {"ids": " ".join(f"{refund.refund_id}:{refund.version}" for refund in mine)}
    values |= {"request_id": new_request_id(), "reason": page.form.get("reason", "")}
    return page.render("approve_many.html", error.status if error else 200, error=error, **values)


def _decide(page: Page, action: Action) -> HTMLResponse:
    """Decide about each refund that the person saw, and show each result. The same form again decides nothing twice."""
    form = page.form
    chosen = {name: form.get(name, "") for name in ("customer_id", "batch_id")}
    try:
        key = key_of(form)
        reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
        versions = _versions(form.get("ids", ""))
    except RefundWorkerError as error:
        return _ask(page, action, chosen, error)
    results, again = _decide_each(page, action, versions, reason, key)
    found: dict[str, object] = {}
    # The results say what was decided before the database went away, so they are shown without it as well.
    with contextlib.suppress(Unavailable), page.context.database.read() as connection:
        found = {each.refund_id: api_objects.refund_view(each) for each in refunds.load(connection, list(versions))}
    values: Json = {"action": str(action), "results": results, "refunds": found, "chosen": chosen}
    values |= {"decided": sum(1 for why in results.values() if why is None), "again": again, "reason": reason}
    values |= {"request_id": form["request_id"], "ids": form["ids"]}
    return page.render("approved_many.html", **values)


def _decide_each(
    page: Page, action: Action, versions: Mapping[str, int], reason: str, key: str
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return why each refund is not decided, None for one that is, and those to try again: not known, or not tried.

    The first one that finds no database ends it: each further one would wait as long. `MANY_SECONDS` ends it as well.
    """
    results: dict[str, str | None] = {}
    again: dict[str, str] = {}
    until = time.monotonic() + MANY_SECONDS
    for refund_id, version in versions.items():
        if time.monotonic() >= until:
            break
        try:
            results[refund_id] = _decide_one(page, action, refund_id, version, reason, key)
        except Unavailable as error:
            results[refund_id] = error_message(error)
            again[refund_id] = "not known"
            break
    else:
        return results, {}
    again |= dict.fromkeys(versions.keys() - results.keys(), "not tried")
    return dict.fromkeys(versions) | dict.fromkeys(again, "Press the button below.") | results, again


def _decide_one(page: Page, action: Action, refund_id: str, version: int, reason: str, key: str) -> str | None:
    """Return None if it is decided, by this form or by the same form before, otherwise why not.

    Raises `Unavailable`.
    """
    who = page.identity
    its_key = Key(who.client, f"{key}-{refund_id}")
    try:
        act_on_refund(page.context, who, refund_id, action, reason=reason, version=version, key=its_key)
    except Unavailable:
        raise
    except StaleVersion:
        return "It has changed since you opened the list: open the refund and decide there."
    except RefundWorkerError as error:
        return error_message(error)
    return None


def _versions(text: str) -> dict[str, int]:
    """Return the versions by refund id that a form names. Raises `InvalidRequest`."""
    pairs = [part.rpartition(":") for part in text.split()]
    if not 0 < len(pairs) <= MANY_MAX or any(not refund_id for refund_id, _, _ in pairs):
        raise InvalidRequest("the form names no refunds: open the page again")
    return {refund_id: whole({"version": version}, "version", "Version") for refund_id, _, version in pairs}
