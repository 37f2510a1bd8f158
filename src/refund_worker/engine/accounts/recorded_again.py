"""Payments that are recorded again after they were closed as recorded wrong.

A closing frees the processor's id for a new record, but it brings no money back. So the new record gets the outside
refunds and disputes, and its `refunded_minor` must have the money of our own refunds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.claims.settle import give_back
from refund_worker.domain.claims.shares import ClaimedPayment
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.claims import Terms, payments_by_ref, settle_payments, write_settled
from refund_worker.errors import InvalidRequest, WrongField
from refund_worker.store import claims, payments


@dataclass(frozen=True, slots=True)
class ClosedRecords:
    """The closed payments that had the processor's ids of new records, and the customers whose payments they are."""

    by_ref: Mapping[tuple[str, str], frozenset[str]]
    owners: frozenset[str]
    names: Mapping[str, Sequence[str]]

    @classmethod
    def read(
        cls, connection: Connection, records: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
    ) -> ClosedRecords:
        """Read them; `names` are more ids of the new records at their processors, by payment_id."""
        found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        owners = set()
        for processor, by_ref in payments_by_ref(records, names).items():
            for ref, payment_id, customer_id in payments.closed_under(connection, processor, by_ref):
                found[processor, ref].add(payment_id)
                owners.add(customer_id)
        return cls({ref: frozenset(ids) for ref, ids in found.items()}, frozenset(owners), names)

    def of(self, connection: Connection, record: PaymentRecord) -> list[ClaimedPayment]:
        """Return the closed payments that had this record's ids, in the same currency."""
        ids = {payment_id for ref in self._refs(record) for payment_id in self.by_ref.get((record.processor, ref), ())}
        found = claims.claimed_payments(connection, sorted(ids)) if ids else []
        return [payment for payment in found if payment.currency == record.currency]

    def refusal(self, connection: Connection, record: PaymentRecord) -> InvalidRequest | None:
        """Return the refusal of a record whose `refunded_minor` is less than what our refunds of closed payments paid.

        Refunds of others that go over to the record count too, because `refunded_minor` stands for these first.
        """
        closed = self.of(connection, record)
        its = claims.claims_on(connection, [payment.payment_id for payment in closed]) if closed else {}
        paid: dict[str, int] = {}
        others: dict[str, Claim] = {}
        for payment in closed:
            kept = 0
            for claim in its.get(payment.payment_id, []):
                if _goes_over(payment, claim):
                    others[claim.claim_id] = claim
                elif claim.kind is ClaimKind.OUTSIDE_REFUND:
                    kept += claim.money_minor
            if payment.leg_minor + kept:
                paid[payment.payment_id] = payment.leg_minor + kept
        if not paid:
            return None
        for unmatched in claims.unmatched_claims(connection, record.processor, self._refs(record)).values():
            others |= {claim.claim_id: claim for claim in unmatched if claim.currency == record.currency}
        gone = [each.amount_minor for each in others.values() if each.is_live and each.kind is ClaimKind.OUTSIDE_REFUND]
        captured = record.amount_minor if record.captured_minor is None else record.captured_minor
        least = min(sum(paid.values()) + sum(gone), record.amount_minor, captured)
        return _too_little(record, least, paid, sum(gone)) if record.refunded_minor < least else None

    def free_claims(self, connection: Connection, record: PaymentRecord, terms: Terms) -> list[tuple[Claim, Claim]]:
        """Free the claims of closed payments that go over to the record, so that they are matched with it.

        The credits that a claim took or held are given back first. Of these, and of no others, the closing takes its
        share again, so that it ends as if it had been alone. Return the claims of closed payments that changed, before
        and after. The caller has locked the customers.
        """
        changed: list[tuple[Claim, Claim]] = []
        for payment in self.of(connection, record):
            stored = claims.claims_on(connection, [payment.payment_id]).get(payment.payment_id, [])
            freed = [claim for claim in stored if _goes_over(payment, claim)]
            if not freed:
                continue
            because = f"payment {payment.payment_id} was recorded again as {record.payment_id}"
            given = [(claim, give_back(claim, terms.now, terms.actor, because=because)) for claim in freed]
            write_settled(connection, given)
            claims.write_claims(connection, [_unmatched(done.claim, terms.now) for _, done in given])
            names = [(record.processor, record.processor_payment_id, claim.claim_id) for claim in freed]
            claims.insert_refs(connection, names)
            within = {payment.customer_id: sum(claim.held + claim.taken for claim in freed)}
            before = {claim.claim_id: claim for claim in stored}
            settled = settle_payments(connection, [payment.payment_id], replace(terms, within=within))
            changed += [(before[claim.claim_id], claim) for claim in settled]
        return changed

    def _refs(self, record: PaymentRecord) -> set[str]:
        return {record.processor_payment_id, *self.names.get(record.payment_id, ())}


def _goes_over(payment: ClaimedPayment, claim: Claim) -> bool:
    """Return True for a dispute, and for an outside refund that is live.

    An outside refund stays if a person linked it to a refund of ours, or named it as the payment of one.
    """
    if claim.kind is not ClaimKind.OUTSIDE_REFUND:
        return claim.kind is ClaimKind.DISPUTE
    is_ours = claim.refund_id is not None or claim.linked_minor or claim.object_id in payment.named_minor
    return claim.is_live and not is_ours


def _unmatched(claim: Claim, now: float) -> Claim:
    return replace(
        claim,
        payment_id=None,
        customer_id=None,
        explained_minor=0,
        earlier_minor=0,
        returned_minor=0,
        updated_at=now,
    )


def _too_little(record: PaymentRecord, least: int, paid: Mapping[str, int], others_minor: int) -> InvalidRequest:
    ours = sum(paid.values())
    others = f", and others refunded {others_minor}" if others_minor else ""
    wrong = (
        f"must be at least {least}: refunds over the closed payment {', '.join(sorted(paid))} "
        f"have paid or may have paid {ours} of {record.processor_payment_id}{others}"
    )
    error = WrongField("refunded_minor", wrong, "#/refunded_minor")
    return InvalidRequest(f"refunded_minor: {wrong}", field="refunded_minor", errors=(error,))
