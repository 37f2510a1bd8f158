"""Earlier refunds: their money was returned before the payment was recorded, and they took its share of the credits.

A payment that was recorded with `refunded_minor` takes that money's credits off the balance at once. History is often
recorded payments first. A spend from before then finds too few credits, so it gets back what was taken too much. Both
orders end with the same balance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.claims.claim import Claim
from refund_worker.domain.claims.settle import Settled, leave_to_spend
from refund_worker.domain.records import SpendRecord
from refund_worker.engine.accounts.claims import write_settled
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.claim_messages import announce_claims
from refund_worker.store import claims


class EarlierRefunds:
    """The claims for earlier refunds of some customers, read when a spend first lacks credits.

    Use it under the customers' locks.
    """

    def __init__(self, connection: Connection, customer_ids: Collection[str], now: float) -> None:
        """Read nothing yet."""
        self._connection, self._customer_ids, self._now = connection, customer_ids, now
        self._claims: dict[str, list[Claim]] | None = None
        self._changes: list[tuple[Claim, Settled]] = []

    def make_room(self, spend: SpendRecord, account: CustomerAccount) -> CustomerAccount | None:
        """Return the account that can take the spend, or None if what earlier refunds took does not suffice."""
        lacking = spend.credits - max(0, account.available)  # the spend pays no debt
        its = self._of(spend.customer_id)
        before = [index for index, claim in enumerate(its) if spend.occurred_at <= claim.recorded_at]
        if lacking > sum(its[index].taken - its[index].debt for index in before):
            return None
        for index in before:
            credits = min(lacking, its[index].taken - its[index].debt)
            if credits:
                done = leave_to_spend(its[index], credits, now=self._now)
                self._changes.append((its[index], done))
                its[index], account = done.claim, account.after(done.customer)
                lacking -= credits
        return account

    def write(self, context: Context) -> None:
        """Write the changed claims, their entries and the customers' accounts, and tell of shortfalls to decide."""
        if not self._changes:
            return
        write_settled(self._connection, self._changes)
        first = {before.claim_id: before for before, _ in reversed(self._changes)}
        last = {done.claim.claim_id: done.claim for _, done in self._changes}
        announce_claims(self._connection, context, ((first[id], claim) for id, claim in last.items()), self._now)

    def _of(self, customer_id: str) -> list[Claim]:
        if self._claims is None:
            self._claims = defaultdict(list)
            for claim in claims.earlier_refunds(self._connection, self._customer_ids):
                self._claims[claim.customer_id or ""].append(claim)
        return self._claims[customer_id]
