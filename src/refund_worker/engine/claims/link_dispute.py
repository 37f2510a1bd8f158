"""Link a lost dispute to the spend that the customer charged back: payees give back their share of it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.decision import Event
from refund_worker.domain.ledger import EntryKind
from refund_worker.engine.claims.recording import change_claims
from refund_worker.engine.context import Context
from refund_worker.engine.payees.clawbacks import settle_clawbacks
from refund_worker.errors import ActionNotAllowed, ChangedMeanwhile, NotFound, UnknownTransaction
from refund_worker.store import accounts, claims, ledger, timeline

LINKED = "dispute_linked"


def link_dispute(context: Context, claim_id: str, *, transaction_id: str, actor: str, reason: str) -> Claim:
    """Link a lost dispute to the spend that it charged back, and return its claim. The same link changes nothing.

    The credits of the dispute's share count as returned of the spend, at most what is left of it, as long as the
    dispute is lost: if its money is reinstated, payees get their share again. The customer's credits stay as they are.

    Raises `NotFound`, `UnknownTransaction` if it is no spend of the dispute's customer, and `ActionNotAllowed` if the
    dispute is not lost, has no payment that we know, or is linked to another spend.
    """
    found = _find(context, claim_id)
    if found.payment_id is None:
        raise ActionNotAllowed(f"{claim_id} has no payment that we know: record its payment first")

    def change(connection: Connection) -> None:
        claim = claims.find_claim(connection, claim_id, ClaimKind.DISPUTE)
        assert claim is not None
        if claim.payment_id != found.payment_id:
            raise ChangedMeanwhile(f"{claim_id} is of payment {claim.payment_id} now: look at it again")
        if claim.transaction_id == transaction_id:
            return
        if claim.transaction_id is not None:
            raise ActionNotAllowed(f"{claim_id} is linked to {claim.transaction_id}")
        if claim.phase is not Phase.TAKEN:
            raise ActionNotAllowed(f"{claim_id} is not lost: it is {claim.object_status} at the processor")
        _check_spend(connection, claim, transaction_id)
        now = context.clock(connection)
        claims.write_claims(connection, [replace(claim, transaction_id=transaction_id, updated_at=now)])
        detail: dict[str, str | int | None] = {
            "claim_id": claim_id,
            "transaction_id": transaction_id,
            "credits": claim.credits,
        }
        timeline.insert_events(connection, [(None, Event(LINKED, actor, reason=reason, detail=detail))], now)
        settle_clawbacks(connection, [transaction_id], now, actor, notify=context.notify)

    change_claims(context, found.payment_id, change, actor=actor)
    return _find(context, claim_id)


def _find(context: Context, claim_id: str) -> Claim:
    with context.database.read() as connection:
        claim = claims.find_claim(connection, claim_id, ClaimKind.DISPUTE)
    if claim is None:
        raise NotFound(f"dispute {claim_id} is not known")
    return claim


def _check_spend(connection: Connection, claim: Claim, transaction_id: str) -> None:
    """Raise `UnknownTransaction` unless this is a spend of the dispute's customer, who may have been merged since."""
    row = ledger.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    ids = {claim.customer_id, *accounts.ids_of(connection, claim.customer_id or "")}
    if row is None or row["kind"] != EntryKind.SPEND or row["customer_id"] not in ids:
        told = f"{transaction_id} is no spend of customer {claim.customer_id}"
        raise UnknownTransaction(told, field="transaction_id")
