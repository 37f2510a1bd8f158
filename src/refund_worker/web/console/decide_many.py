"""Decisions about many refunds at once: the page that confirms them, and the result of each.

The page Approvals offers them for one customer or batch, the list of refunds for the selected rows.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from refund_worker.domain.refund import NOT_YET_POSTED, Refund
from refund_worker.domain.state_machine import ACTIONS, Action, available_actions
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_codes import explain
from refund_worker.errors import InvalidRequest, RefundWorkerError, StaleVersion, Unavailable
from refund_worker.store import refunds
from refund_worker.web.authorised import act_on_refund
from refund_worker.web.console.forms import Why, error_message, key_of, required_text, whole
from refund_worker.web.console.labels import STATUS_LABELS
from refund_worker.web.console.pages import Page, new_request_id

# Refunds of one decision about many. Each is decided in a transaction of its own, while the person waits.
MANY_MAX = 200
# After this many seconds no further refund is begun: the thread is needed by others, and the person can press again.
MANY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Offer:
    """The page that offers a decision about many.

    `address` is the path above the actions, `back` the link to the page with its filters, `fields` are sent with the
    form, and `most` is the number of refunds that one form may name.
    """

    address: str
    back: str
    name: str
    lead: str
    fields: Mapping[str, str] = field(default_factory=dict)
    most: int = MANY_MAX


def why_not_now(connection: Connection, page: Page, action: Action, found: Sequence[Refund]) -> dict[str, str]:
    """Return why the person cannot take `action` on a refund, by refund id, for those where it is so."""
    persons: Mapping[str, str] = {}
    if action is Action.APPROVE:
        persons = why_not_approve(connection, page.identity.actor, {refund.requested_by for refund in found})
    reasons = {refund.refund_id: _why_not(action, refund, persons) for refund in found}
    return {refund_id: why for refund_id, why in reasons.items() if why is not None}


def _why_not(action: Action, refund: Refund, persons: Mapping[str, str]) -> str | None:
    if action not in available_actions(refund):
        # A later cancel depends on the parts of the refund, and not on its status alone.
        statuses = NOT_YET_POSTED if action is Action.CANCEL else ACTIONS[action]
        possible = " or ".join(f"“{STATUS_LABELS[status]}”" for status in sorted(statuses))
        possible += ", or while a part of it waits for the customer" if action is Action.CANCEL else ""
        return f"its status is “{STATUS_LABELS[refund.status]}”; this is possible only while it is {possible}"
    if action is Action.RETRY and any(leg.blocked_by for leg in refund.legs):
        # Only the page of one refund shows the other refunds that a retry accepts as seen.
        return "its payment was also refunded outside this program: check it and retry it on its own page"
    return persons.get(refund.requested_by)


def ask(
    page: Page,
    action: Action,
    offer: Offer,
    found: Sequence[Refund],
    barred: Mapping[str, str],
    *,
    unknown: Sequence[str] = (),
    more: bool = False,
    status_if_empty: int = 200,
    error: RefundWorkerError | None = None,
) -> HTMLResponse:
    """Show which refunds would be changed, with their number and their sums, and which not and why."""
    free = [refund for refund in found if refund.refund_id not in barred]
    views = [api_objects.refund_view(refund) for refund in free]
    sums: Counter[str] = Counter()
    for view in views:
        for amount in view["amounts"]:
            sums[amount["currency"]] += amount["requested_minor"]
    left_out = [(api_objects.refund_view(each), barred[each.refund_id]) for each in found if each.refund_id in barred]
    values: Json = {"action": str(action), "offer": offer, "refunds": views, "sums": sorted(sums.items()), "more": more}
    values |= {"left_out": left_out, "unknown": unknown}
    values |= {"ids": " ".join(f"{refund.refund_id}:{refund.version}" for refund in free)}
    values |= {"request_id": new_request_id(), "reason": page.form.get("reason", "")}
    if action is Action.RETRY:
        values["unhelped"] = sum(1 for refund in free if not explain(refund.failure_code).retry_helps)
    status = 200 if found or unknown else status_if_empty
    return page.render("decide_many.html", error.status if error else status, error=error, **values)


@dataclass(frozen=True, slots=True)
class Decided:
    """A form about many refunds, checked: the versions that the person saw by refund id, the reason, and the key."""

    versions: Mapping[str, int]
    reason: str
    key: str


def read_form(page: Page, offer: Offer) -> Decided:
    """Return what the form decides. Raises `InvalidRequest`."""
    form = page.form
    key = key_of(form)
    reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
    return Decided(versions_in(form, offer.most), reason, key)


def ids_in(form: Mapping[str, str]) -> list[str]:
    """Return the ids of the refunds that a form names."""
    return [part.rpartition(":")[0] for part in form.get("ids", "").split()]


def versions_in(form: Mapping[str, str], most: int) -> dict[str, int]:
    """Return the versions by refund id that a form names. Raises `InvalidRequest`."""
    pairs = [part.rpartition(":") for part in form.get("ids", "").split()]
    if not 0 < len(pairs) <= most or any(not refund_id for refund_id, _, _ in pairs):
        raise InvalidRequest("the form names no refunds: open the page again")
    return {refund_id: whole({"version": version}, "version", "Version") for refund_id, _, version in pairs}


def decide(page: Page, action: Action, offer: Offer, decided: Decided) -> HTMLResponse:
    """Act on each refund that the person saw, and show each result. The same form again changes nothing twice."""
    results, again = _decide_each(page, action, decided)
    found: dict[str, object] = {}
    # The results say what was decided before the database went away, so they are shown without it as well.
    with contextlib.suppress(Unavailable), page.context.database.read() as connection:
        shown = [r for r in refunds.load(connection, list(decided.versions)) if page.identity.sees in (None, r.client)]
        found = {each.refund_id: api_objects.refund_view(each) for each in shown}
    values: Json = {"action": str(action), "results": results, "refunds": found, "offer": offer}
    done = sum(1 for why in results.values() if why is None)
    values |= {"decided": done, "again": again, "reason": decided.reason}
    values |= {"request_id": page.form["request_id"], "ids": page.form["ids"]}
    return page.render("decided_many.html", **values)


def _decide_each(page: Page, action: Action, decided: Decided) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return why each refund is not decided, None for one that is, and those to try again: not known, or not tried.

    The first one that finds no database ends it: each further one would wait as long. `MANY_SECONDS` ends it as well.
    """
    results: dict[str, str | None] = {}
    again: dict[str, str] = {}
    until = time.monotonic() + MANY_SECONDS
    for refund_id, version in decided.versions.items():
        if time.monotonic() >= until:
            break
        try:
            results[refund_id] = _decide_one(page, action, refund_id, version, decided)
        except Unavailable as error:
            results[refund_id] = error_message(error)
            again[refund_id] = "not known"
            break
    else:
        return results, {}
    again |= dict.fromkeys(decided.versions.keys() - results.keys(), "not tried")
    return dict.fromkeys(decided.versions) | dict.fromkeys(again, "Press the button below.") | results, again


def _decide_one(page: Page, action: Action, refund_id: str, version: int, decided: Decided) -> str | None:
    """Return None if it is decided, by this form or by the same form before, otherwise why not.

    Raises `Unavailable`.
    """
    who = page.identity
    its_key = Key(who.client, f"{decided.key}-{refund_id}")
    terms: Json = {"reason": decided.reason, "version": version, "key": its_key, "one_by_one": False}
    try:
        act_on_refund(page.context, who, refund_id, action, **terms)
    except Unavailable:
        raise
    except StaleVersion:
        return "It has changed since you opened the list: open the refund and decide there."
    except RefundWorkerError as error:
        return error_message(error)
    return None
