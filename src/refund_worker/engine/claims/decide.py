"""A person's decision about credits that a claim would take and that the customer had spent already."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.claims.claim import SHORTFALL_DECIDED, Claim, ClaimKind, ShortfallRule, decided_as
from refund_worker.domain.claims.settle import decide
from refund_worker.domain.decision import Event
from refund_worker.engine.accounts.claims import write_settled
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.claim_messages import announce_claims
from refund_worker.errors import ActionNotAllowed, NotFound
from refund_worker.store import accounts, claims, timeline

DECISIONS = (ShortfallRule.WRITE_OFF, ShortfallRule.DEBT)


def decide_claim(
    context: Context, claim_id: str, *, kind: ClaimKind, decision: ShortfallRule, actor: str, reason: str
) -> Claim:
    """Write the missing credits of a claim off, or make them a debt; return the claim.

    `kind` is a dispute or an outside refund. The latter stands for earlier refunds and closed payments too. The same
    decision again changes nothing. Raises `NotFound`, and `ActionNotAllowed` if nothing is to be decided.
    """

    def work(connection: Connection) -> Claim:
        now = context.clock(connection)
        account, claim = _locked(connection, claim_id, kind)
        if claim.rule is decision and claim.decided_by is not None:
            return claim
        if account is None or not claim.needs_decision:
            raise ActionNotAllowed(f"nothing is to be decided about {claim_id}")
        done = decide(claim, decision, now=now, actor=actor)
        write_settled(connection, [(claim, done)])
        announce_claims(connection, context, [(claim, done.claim)], now)
        event = Event(
            SHORTFALL_DECIDED,
            actor,
            reason=reason,
            detail={"claim_id": claim_id, "credits": claim.missing, "decision": str(decision)},
        )
        timeline.insert_events(connection, [(None, event)], now)
        return done.claim

    return context.database.run(work)


def _locked(connection: Connection, claim_id: str, kind: ClaimKind) -> tuple[CustomerAccount | None, Claim]:
    """Return the claim under its customer's lock. Raises `NotFound`."""
    found = claims.find_claim(connection, claim_id, *decided_as(kind))
    if found is None:
        raise NotFound(f"{claim_id} is not known")
    customers = accounts.lock_customers(connection, [found.customer_id] if found.customer_id else [])
    claim = claims.find_claim(connection, claim_id, *decided_as(kind))
    assert claim is not None
    return customers.get(claim.customer_id or ""), claim
