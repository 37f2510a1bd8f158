"""Apply one claim to its customer: hold credits, take them off the balance, or give them back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refund_worker.domain.claims.claim import (
    ENTRY_KIND,
    MONEY_ACCOUNT,
    Claim,
    ClaimKind,
    Phase,
    ShortfallRule,
)
from refund_worker.domain.decision import SYSTEM, AccountDelta
from refund_worker.domain.ledger import (
    CREDITS,
    ISSUED,
    REDEEMED,
    EntryKind,
    Posting,
    customer_account,
    processor_account,
    transfer,
)
from refund_worker.domain.money import as_text

NOTHING = AccountDelta()
_REASON = {
    ClaimKind.OUTSIDE_REFUND: "refunded in the paying system",
    ClaimKind.DISPUTE: "lost in a dispute",
    ClaimKind.CLOSE: "of a payment that was closed",
    ClaimKind.EARLIER_REFUND: "returned before the payment was recorded",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """A claim afterwards, the signed change of its customer's account, and the entries to post."""

    claim: Claim
    customer: AccountDelta = NOTHING
    postings: tuple[Posting, ...] = ()

    def then(self, other: Settled) -> Settled:
        """Return both steps as one."""
        return Settled(other.claim, self.customer + other.customer, (*self.postings, *other.postings))


def settle(
    claim: Claim,
    credits: int,
    *,
    available: int,
    now: float,
    rule: ShortfallRule,
    recoverable: int = 0,
    actor: str = SYSTEM,
) -> Settled:
    """Return what the claim holds, takes or gives back now.

    `credits` is its share and `available` what the customer can spend. `rule` is for credits that are missing when the
    claim takes its share; what was decided before about this claim stays. `recoverable` are credits that a leg or an
    earlier claim has just released: what was missing before is taken of these, and of no others.
    """
    if claim.phase is Phase.TAKEN:
        return _take(claim, credits, available, now, rule, recoverable, actor)
    if claim.phase is Phase.HOLDING:
        given = give_back(claim, now, actor) if claim.taken or claim.posted_minor else Settled(claim)
        return given.then(_hold(replace(given.claim, credits=credits), available + given.customer.balance))
    return give_back(claim, now, actor)


def _hold(claim: Claim, available: int) -> Settled:
    """Return the claim after it holds what is missing, or frees what is more than its share."""
    more = min(claim.credits - claim.held, max(0, available))
    return Settled(replace(claim, held=claim.held + more), AccountDelta(held=more, withdrawn=more))


def _take(
    claim: Claim, credits: int, available: int, now: float, rule: ShortfallRule, recoverable: int, actor: str
) -> Settled:
    first = _before_taking(claim, credits, available, now, actor)
    claim, available = first.claim, available + first.customer.balance - first.customer.held
    decided = claim.missing if claim.rule else 0
    wanted = credits - claim.held - claim.taken - decided
    there = min(wanted, max(0, available))
    recovered = min(decided, recoverable, max(0, available - there))
    after = replace(claim, credits=credits, held=0, rule=claim.rule or rule)
    owed = wanted - there if after.rule is ShortfallRule.DEBT else 0
    return first.then(_taken(after, claim.held, there + recovered, owed, now, actor))


def _before_taking(claim: Claim, credits: int, available: int, now: float, actor: str) -> Settled:
    """Return the claim after it gives back or frees what is more than its share and its money."""
    if claim.rule and (credits < claim.credits or claim.money_minor < claim.posted_minor):
        return _shrunk(claim, min(credits, claim.credits), now, actor)
    return _hold(replace(claim, credits=credits), available) if claim.held > credits else Settled(claim)


def _shrunk(claim: Claim, credits: int, now: float, actor: str) -> Settled:
    """Return the claim with a smaller share, as if it had been as small from the first.

    Credits that were missing or owed come first: they are so no longer. The rest is given back.
    """
    taken = min(claim.taken, credits)
    given = claim.taken - taken
    after = replace(claim, credits=credits, taken=taken, debt=max(0, claim.debt - given))
    minor = min(0, claim.money_minor - claim.posted_minor)
    if not given and not minor:
        return Settled(after)
    text = f"Reversal of {claim.posting_id(1)}: a part of the money of {claim.object_id} came back"
    delta = AccountDelta(balance=given, withdrawn=-given)
    return _with_posting(after, delta, given, minor, text, now, actor, reverses=True)


def _taken(claim: Claim, held: int, there: int, owed: int, now: float, actor: str) -> Settled:
    """Return the claim after it takes what was `held`, what is `there`, and `owed` credits that are not."""
    taken, minor = held + there + owed, claim.money_minor - claim.posted_minor
    delta = AccountDelta(balance=-taken, held=-held, withdrawn=there + owed)
    after = replace(claim, taken=claim.taken + taken, debt=claim.debt + owed)
    if not taken and not minor:
        return Settled(after)
    return _with_posting(after, delta, -taken, minor, _text(claim), now, actor)


def _text(claim: Claim) -> str:
    minor = claim.amount_minor if claim.kind is ClaimKind.EARLIER_REFUND else claim.money_minor
    named = claim.reason if claim.kind is ClaimKind.CLOSE else claim.object_id
    return f"{as_text(minor, claim.currency)} {_REASON[claim.kind]}: {named}"


def leave_to_spend(claim: Claim, credits: int, *, now: float) -> Settled:
    """Return the claim after it leaves `credits` that it took to a spend from before the payment was recorded.

    The result is the same as if the spend had been recorded first: the credits are a shortfall. Where shortfalls are
    debts, the spend takes the balance below zero.
    """
    if claim.rule is ShortfallRule.DEBT:
        return Settled(replace(claim, debt=claim.debt + credits, updated_at=now))
    delta = AccountDelta(balance=credits, withdrawn=-credits)
    after = replace(claim, taken=claim.taken - credits, updated_at=now)
    text = f"{_text(claim)}: {credits} credits were spent before"
    return _with_posting(after, delta, credits, 0, text, now, SYSTEM)


def decide(claim: Claim, rule: ShortfallRule, *, now: float, actor: str) -> Settled:
    """Return the claim after a person has decided about its missing credits: written off, or a debt."""
    owed = claim.missing if rule is ShortfallRule.DEBT else 0
    return _taken(replace(claim, rule=rule, decided_by=actor, updated_at=now), 0, 0, owed, now, actor)


def give_back(claim: Claim, now: float, actor: str = SYSTEM, *, because: str | None = None) -> Settled:
    """Return the claim without a share: what it held is free again, and a linked reversal returns what it took.

    The reversal says that the money came back, or what else `because` says.
    """
    delta = AccountDelta(balance=claim.taken, held=-claim.held, withdrawn=-claim.held - claim.taken)
    after = replace(claim, credits=0, held=0, taken=0, debt=0, rule=None, decided_by=None)
    if not claim.taken and not claim.posted_minor:
        return Settled(after, delta)
    text = f"Reversal of {claim.posting_id(1)}: {because or f'the money of {claim.object_id} came back'}"
    return _with_posting(after, delta, claim.taken, -claim.posted_minor, text, now, actor, reverses=True)


def _with_posting(
    claim: Claim,
    delta: AccountDelta,
    credits: int,
    minor: int,
    text: str,
    now: float,
    actor: str,
    *,
    reverses: bool = False,
) -> Settled:
    """Return the claim with one more entry: signed `credits` of the customer, and `minor` more money that is gone.

    The entry `reverses` the first one, in whole or in part, if money or credits came back.
    """
    claim = replace(claim, postings=claim.postings + 1, posted_minor=claim.posted_minor + minor)
    customer_id = claim.customer_id or ""
    is_reversal = reverses or (claim.posted_minor == 0 and minor < 0)
    house = ISSUED if claim.kind is ClaimKind.CLOSE else REDEEMED
    posting = Posting(
        transaction_id=claim.posting_id(claim.postings),
        customer_id=customer_id,
        kind=EntryKind.REVERSAL if is_reversal else ENTRY_KIND[claim.kind],
        credits=credits,
        entries=(
            *transfer(house, customer_account(customer_id), CREDITS, credits),
            *transfer(processor_account(claim.processor), MONEY_ACCOUNT[claim.kind], claim.currency, minor),
        ),
        description=text,
        refers_to=claim.posting_id(1) if is_reversal else claim.payment_id,
        occurred_at=now,
        actor=actor,
    )
    return Settled(claim, delta, (posting,))
