"""Settle the claims on payments: compute each share again, and hold, take or give back credits accordingly.

Only this module changes a customer's account for a claim. It locks the customers, so that two changes of one payment
follow each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.claims.claim import Claim, ClaimKind, ShortfallRule
from refund_worker.domain.claims.settle import Settled, give_back, settle
from refund_worker.domain.claims.shares import ClaimedPayment, explain, shares
from refund_worker.domain.decision import SYSTEM
from refund_worker.domain.ledger import EntryKind, Posting
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.context import Context
from refund_worker.engine.payees.clawbacks import settle_clawbacks
from refund_worker.store import accounts, claims
from refund_worker.store import ledger as ledger_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The time (epoch seconds), the rule for shortfalls, and the person or program that caused the change.

    `recoverable` are the credits, by customer id, that legs have just released: a claim takes of these what it was
    missing before. The same goes for credits that an earlier claim on the same payment gives back. `lessened` are the
    ids of claims of which the caller knows that their money became less: their shares may shrink. `within`, where it is
    given, are the most credits that a claim may take now of the customer. With `notify`, notifications about what
    payees give back are stored.
    """

    now: float
    rule: ShortfallRule
    actor: str = SYSTEM
    recoverable: Mapping[str, int] = field(default_factory=dict)
    lessened: frozenset[str] = frozenset()
    within: Mapping[str, int] = field(default_factory=dict)
    notify: bool = False

    @classmethod
    def of(cls, context: Context, now: float, actor: str = SYSTEM) -> Terms:
        """Return the terms with the rule of the settings."""
        return cls(now=now, rule=ShortfallRule(context.policy.shortfall), actor=actor, notify=context.notify)


def settle_payments(connection: Connection, payment_ids: Collection[str], terms: Terms) -> list[Claim]:
    """Settle all claims on these payments and write what changed; return the changed claims as they are now."""
    owners = {payment.customer_id for payment in claims.claimed_payments(connection, payment_ids)}
    customers = accounts.lock_customers(connection, owners)
    # Only now, under the locks: what other transactions took of these payments must count.
    payments = claims.claimed_payments(connection, payment_ids)
    stored = claims.claims_on(connection, payment_ids)
    recoverable = dict(terms.recoverable)
    changed: list[Claim] = []
    for payment in payments:
        its_claims = {claim.claim_id: claim for claim in stored.get(payment.payment_id, [])}
        its_changes = _settle_payment(payment, list(its_claims.values()), customers, recoverable, terms)
        write_settled(connection, its_changes)
        its_claims |= {done.claim.claim_id: done.claim for _, done in its_changes}
        claims.write_room(connection, _room(payment.payment_id, list(its_claims.values())))
        changed += [done.claim for _, done in its_changes]
    linked = {claim.transaction_id for claim in changed if claim.transaction_id}
    settle_clawbacks(connection, linked, terms.now, terms.actor, notify=terms.notify)
    return changed


def _settle_payment(
    payment: ClaimedPayment,
    stored: Sequence[Claim],
    customers: dict[str, CustomerAccount],
    recoverable: dict[str, int],
    terms: Terms,
) -> list[tuple[Claim, Settled]]:
    """Return each changed claim with what follows; `customers` and `recoverable` are kept up to date."""
    customer_id = payment.customer_id
    explained = explain(payment, stored)
    pairs = list(zip(stored, explained, strict=True))
    lessened = terms.lessened | {claim.claim_id for before, claim in pairs if claim.money_minor < before.money_minor}
    wanted = shares(payment, explained, lessened)
    changes = []
    released: dict[str, int] = {}
    # Claims that end or become less come first. Later claims may lack what they give back: they found it held. Earlier
    # ones do not, and what was written off then must not be taken of a later purchase.
    for before, claim in sorted(pairs, key=lambda pair: pair[1].is_live and pair[1].claim_id not in lessened):
        account = customers[customer_id]
        done = settle(
            replace(claim, customer_id=customer_id),
            wanted.get(claim.claim_id, 0),
            available=min(account.available, terms.within.get(customer_id, account.available)),
            now=terms.now,
            rule=terms.rule,
            recoverable=recoverable.get(customer_id, 0)
            + sum(credits for claim_id, credits in released.items() if claim_id < claim.claim_id),
            actor=terms.actor,
        )
        if done.claim == before and not done.customer:
            continue
        customers[customer_id] = account.after(done.customer)
        more = customers[customer_id].available - account.available
        if more > 0:
            released[claim.claim_id] = more
        recoverable[customer_id] = _without(released, recoverable.get(customer_id, 0), -more)
        changes.append((before, replace(done, claim=replace(done.claim, updated_at=terms.now))))
    return changes


def _without(released: dict[str, int], recoverable: int, used: int) -> int:
    """Return what is left of `recoverable` credits; what was used beyond them comes off those that claims released."""
    beyond = max(0, used - recoverable)
    for claim_id, credits in released.items():
        released[claim_id] -= min(beyond, credits)
        beyond -= min(beyond, credits)
    return recoverable - max(0, min(used, recoverable))


def write_settled(connection: Connection, changes: Sequence[tuple[Claim, Settled]]) -> None:
    """Write changed claims, their entries, and the changes of the customers' accounts."""
    claims.write_claims(connection, [done.claim for _, done in changes])
    postings = [_linked(connection, done.claim, posting) for _, done in changes for posting in done.postings]
    ledger_store.insert_postings(connection, postings)
    for _, done in changes:
        accounts.change_customers(connection, {done.claim.customer_id or "": done.customer})


def _linked(connection: Connection, claim: Claim, posting: Posting) -> Posting:
    """Return the entry; a reversal names the claim's first entry of its payment.

    The first entry of all may be of a payment that was closed, and of another customer.
    """
    first = claim.posting_id(1)
    if posting.kind is not EntryKind.REVERSAL or posting.refers_to != first:
        return posting
    ids = [claim.posting_id(number + 1) for number in range(claim.postings)]
    its_first = ledger_store.first_about(connection, ids, claim.payment_id or "") or first
    text = posting.description.replace(first, its_first, 1)
    return replace(posting, refers_to=its_first, description=text)


def _room(payment_id: str, current: Sequence[Claim]) -> claims.ClaimedRoom:
    live = [claim for claim in current if claim.takes_room]
    return claims.ClaimedRoom(
        payment_id,
        minor=sum(claim.money_minor for claim in live),
        credits=sum(claim.credits for claim in live),
        outside_minor=sum(claim.money_minor for claim in live if claim.kind is ClaimKind.OUTSIDE_REFUND),
        returned_minor=sum(claim.returned_minor for claim in current),
        open_disputes=sum(claim.is_open_dispute for claim in live),
    )


def settle_named(connection: Connection, payment_ids: Collection[str], reference: str, terms: Terms) -> None:
    """Give back what the refund of others with this object id took of the payments, and settle their claims again."""
    accounts.lock_customers(connection, {p.customer_id for p in claims.claimed_payments(connection, payment_ids)})
    named = [
        claim
        for its in claims.claims_on(connection, payment_ids).values()
        for claim in its
        if claim.kind is ClaimKind.OUTSIDE_REFUND and claim.object_id == reference and claim.is_live
    ]
    if named:
        because = f"a person named {reference} as the payment of a refund"
        given = [(claim, give_back(claim, terms.now, terms.actor, because=because)) for claim in named]
        write_settled(connection, given)
        settle_payments(connection, payment_ids, terms)


def match_claims(
    connection: Connection, recorded: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]], terms: Terms
) -> list[tuple[Claim | None, Claim]]:
    """Give new payments the claims that came before they were recorded, and settle all claims on them.

    `names` are more ids of them at their processors. Return each settled claim, before and after.
    """
    matched = {record.payment_id for record in recorded if record.refunded_minor}
    before: dict[str, Claim] = {}
    placed: dict[str, Claim] = {}
    for processor, by_ref in payments_by_ref(recorded, names).items():
        for ref, its in claims.unmatched_claims(connection, processor, by_ref).items():
            for claim in its:
                if claim.currency == by_ref[ref].currency:
                    before[claim.claim_id] = claim
                    placed[claim.claim_id] = replace(claim, payment_id=by_ref[ref].payment_id)
    claims.write_claims(connection, placed.values())
    matched |= {claim.payment_id for claim in placed.values() if claim.payment_id}
    if not matched:
        return []
    return [(before.get(claim.claim_id), claim) for claim in settle_payments(connection, sorted(matched), terms)]


def payments_by_ref(
    recorded: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, PaymentRecord]]:
    """Return, by processor, the payment for each of the processor's ids; `names` are more ids by payment_id."""
    found: defaultdict[str, dict[str, PaymentRecord]] = defaultdict(dict)
    for record in recorded:
        for ref in (*names.get(record.payment_id, ()), record.processor_payment_id):
            found[record.processor][ref] = record
    return found


def recover(connection: Connection, released: Mapping[str, int], payment_ids: Collection[str], terms: Terms) -> None:
    """Let claims take what they lack of the credits that legs have just released, before the customers can spend them.

    `released` are these credits by customer id; `payment_ids` are the payments whose legs released room.
    """
    affected = claims.payments_to_settle(connection, sorted(released), sorted(payment_ids))
    if affected:
        settle_payments(connection, affected, replace(terms, recoverable=released))
