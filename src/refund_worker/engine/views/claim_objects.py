"""Outside refunds and disputes as callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from refund_worker.api_schema import Dispute, OutsideRefund, OutsideStatus
from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase, decided_as
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.errors import NotFound
from refund_worker.store.claims import ClaimFilters, find_claim, list_claims, refunds_that_name
from refund_worker.times import iso

Json = dict[str, Any]
NAMES = {ClaimKind.OUTSIDE_REFUND: "outside refund", ClaimKind.DISPUTE: "dispute", ClaimKind.CLOSE: "closing"}


def find(connection: Connection, claim_id: str, kind: ClaimKind) -> Claim:
    """Return the claim that is shown among those of this kind. Raises `NotFound`."""
    claim = find_claim(connection, claim_id, *decided_as(kind))
    if claim is None:
        raise NotFound(f"{NAMES[kind]} {claim_id} is not known")
    return claim


def claim_page(connection: Connection, filters: ClaimFilters) -> Json:
    """Return the claims that pass the filters as {data, has_more}, the newest first.

    Raises `InvalidRequest` for a cursor that is no claim of this kind.
    """
    after = filters.after
    if after is not None and find_claim(connection, after, *decided_as(filters.kind)) is None:
        raise unknown_cursor(after, NAMES[filters.kind])
    found = list_claims(connection, filters.one_more())
    return {"data": claim_views(connection, found[: filters.limit]), "has_more": len(found) > filters.limit}


def outside_status(claim: Claim) -> OutsideStatus:
    """Return the status of an outside refund."""
    if claim.refund_id is not None:
        return "linked"
    if claim.payment_id is None:
        return "unmatched"
    if claim.needs_decision:
        return "needs_decision"
    match claim.phase:
        case Phase.TAKEN:
            return "posted"
        case Phase.RELEASED:
            return "failed"
        case _:
            return "pending"


def claim_views(connection: Connection, found: Sequence[Claim]) -> list[OutsideRefund | Dispute]:
    """Return outside refunds and disputes as the API shows them.

    An outside refund that a person named as the manual payment of a refund is shown as linked to it.
    """
    named = refunds_that_name(connection, [claim.claim_id for claim in found])
    shown = [replace(claim, refund_id=named.get(claim.claim_id, claim.refund_id)) for claim in found]
    return [_dispute(claim) if claim.kind is ClaimKind.DISPUTE else _outside_refund(claim) for claim in shown]


def claim_view(connection: Connection, claim: Claim) -> OutsideRefund | Dispute:
    """Return what `claim_views` does, for one claim."""
    return claim_views(connection, [claim])[0]


def _outside_refund(claim: Claim) -> OutsideRefund:
    return {
        "id": claim.claim_id,
        "processor_account": claim.processor,
        "object_id": claim.object_id,
        "payment_id": claim.payment_id,
        "customer_id": claim.customer_id,
        "amount_minor": claim.amount_minor,
        "currency": claim.currency,
        "credits": claim.credits,
        "shortfall": claim.shortfall,
        "status": outside_status(claim),
        "refund_id": claim.refund_id,
        "created_at": iso(claim.recorded_at),
        "updated_at": iso(claim.updated_at),
    }


def _dispute(claim: Claim) -> Dispute:
    return {
        "id": claim.claim_id,
        "processor_account": claim.processor,
        "object_id": claim.object_id,
        "payment_id": claim.payment_id,
        "customer_id": claim.customer_id,
        "amount_minor": claim.amount_minor,
        "currency": claim.currency,
        "reason": claim.reason,
        "status": claim.object_status,
        "due_by": None if claim.due_by is None else iso(claim.due_by),
        "credits_held": claim.held,
        "credits_taken": claim.taken,
        "shortfall": claim.shortfall,
        "needs_decision": claim.needs_decision,
        "transaction_id": claim.transaction_id,
        "created_at": iso(claim.recorded_at),
        "updated_at": iso(claim.updated_at),
    }
