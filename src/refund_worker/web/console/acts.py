"""The acts on one refund or payout: those that a role may do, and the reference of a manual payment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.api_keys import ConsoleRole, Role
from refund_worker.engine.access.permissions import ACT_OF, may, roles_who_may
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.views.api_objects import Json
from refund_worker.web.console.pages import Page
from refund_worker.web.schemas import ResolveBody


def possible(page: Page, available: Sequence[str], barred: str | None) -> Json:
    """Return what the page of a refund or payout shows of the available actions.

    `barred` is why this person cannot be the second one, None if nothing bars it.
    """
    allowed = [each for each in available if may(page.identity.role, ACT_OF[Action(each)])]
    others: list[tuple[str, list[Role | ConsoleRole]]] = [
        (each, roles_who_may(ConsoleRole, ACT_OF[Action(each)])) for each in available if each not in allowed
    ]
    return {
        "actions": [each for each in allowed if not (barred and each == Action.APPROVE)],
        "not_allowed": others,
        "why_not_approve": barred if Action.APPROVE in allowed else None,
    }


def reference_of(form: Mapping[str, str], reason: str) -> str | None:
    """Return the reference of the manual payment, or None if the money goes back. Raises `InvalidRequest`."""
    fields: Json = {"reason": reason, "outcome": form.get("outcome", "")}
    if form.get("reference", "").strip():
        fields["reference"] = form["reference"]
    body = parse_schema(ResolveBody, fields)
    return body.reference
