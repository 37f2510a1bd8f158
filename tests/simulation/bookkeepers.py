"""Staff who link the refunds of others, decide about shortfalls, close payments and merge customers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.context import Context
from refund_worker.errors import RefundWorkerError, Unavailable
from refund_worker.store import accounts
from tests.simulation.processes import Processes
from tests.simulation.watched import Row
from tests.simulation.wiring import Wiring

NAME = "vera"


class Bookkeepers:
    """Each act that a plan can name is a method `act_…`."""

    def __init__(self, wiring: Wiring, processes: Processes) -> None:
        self.wiring, self.processes = wiring, processes
        self.world, self.faults, self.watch = wiring.world, wiring.faults, wiring.watch

    def act_close_payment(self, payment: str) -> None:
        """Close a payment."""
        self.faults.count("payment closed")
        self._do(lambda context: close_payment(context, payment, actor=NAME, reason="the debit failed"))

    def act_merge(self, customer_id: str, into: str) -> None:
        """Merge a customer into another, who may have bought nothing."""
        self.faults.count("customers merged")

        def merge(context: Context) -> None:
            with context.database.write() as connection:
                accounts.insert_missing_customers(connection, [into], context.clock(connection))
            merge_customers(context, customer_id, into=into, reason="registered twice", actor=NAME)

        self._do(merge)

    def act_link(self, pick: float, choice: float) -> None:
        """Link a refund of others to a refund over the same payment, or to a transaction of the same customer."""
        found = self.watch.rows(
            "SELECT * FROM claims WHERE kind = 'outside_refund' AND payment_id IS NOT NULL ORDER BY claim_id"
        )
        targets = self._targets(found[int(pick * len(found))]) if found else []
        if not targets:
            return
        claim_id, target = found[int(pick * len(found))]["claim_id"], targets[int(choice * len(targets))]
        self.faults.count("refund linked")
        self._do(lambda context: link_outside_refund(context, claim_id, actor=NAME, reason="the same", **target))

    def _targets(self, claim: Row) -> list[dict[str, str]]:
        legs = self.watch.legs.values()
        refunds = {leg["refund_id"] for leg in legs if leg["payment_id"] == claim["payment_id"]}
        sql = "SELECT transaction_id FROM transaction_rooms WHERE customer_id = ? ORDER BY transaction_id"
        transactions = self.watch.rows(sql, claim["customer_id"])
        return [{"refund_id": known} for known in sorted(refunds)] + [dict(row) for row in transactions]

    def act_decide(self, decision: str) -> None:
        """Decide about each shortfall that waits for a person."""
        for claim in self._undecided():
            self.faults.count("shortfall decided")
            self._do(self._decision(claim, ShortfallRule(decision)))

    def _undecided(self) -> Sequence[Row]:
        return self.watch.rows(
            "SELECT * FROM claims WHERE phase = 'taken' AND rule = 'person' AND credits > held + taken"
            " AND kind <> 'close' ORDER BY claim_id"
        )

    @staticmethod
    def _decision(claim: Row, decision: ShortfallRule) -> Callable[[Context], object]:
        kind = ClaimKind(claim["kind"])
        return lambda context: decide_claim(
            context, claim["claim_id"], kind=kind, decision=decision, actor=NAME, reason="looked into it"
        )

    def _do(self, work: Callable[[Context], object]) -> None:
        self.watch.acted.add(NAME)

        def act(context: Context) -> None:
            try:
                work(context)
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        self.processes.client("bookkeeper", act)
