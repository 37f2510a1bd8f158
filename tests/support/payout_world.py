"""A small world for tests of payouts: the world of refunds with a scripted route and one payee, "p"."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update

from refund_worker.domain.ledger import SHARES, EntryKind, PayeeEffect, Posting, payee_account, transfer
from refund_worker.domain.payouts.decision import PayoutPolicy, RouteRules, TransferReplied
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import BalanceDelta, Payee, PayeeBalance
from refund_worker.domain.payouts.payout import Payout, PayoutRequest
from refund_worker.domain.payouts.transfers import Step, TransferAnswered, TransferObject
from refund_worker.engine.payouts.accept import AcceptedPayout, request_payouts
from refund_worker.engine.payouts.actions import perform_payout_action
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.errors import Refusal
from refund_worker.store import ledger, timeline
from refund_worker.store.payouts import payees, payouts
from refund_worker.store.tables import earnings as earnings_table
from refund_worker.store.tables import ledger_entries
from refund_worker.store.tables import payees as payees_table
from tests.support.engine_world import DAY, POLICY, START, World
from tests.support.payees import payout_accounts
from tests.support.scripted_route import ScriptedRoute

TWO_STEPS = (Step.TRANSFER, Step.PAYOUT)
WINDOW = 7 * DAY


class PayoutWorld(World):
    """`route` plays the processor. The payee has no cool-down left unless `cooldown_seconds` says so."""

    def __init__(
        self, url: str, *, steps: tuple[Step, ...] = (Step.PAYOUT,), finds: bool = True, **options: Any
    ) -> None:
        self.route = ScriptedRoute(lambda: self.now, finds=finds)
        rules = RouteRules(steps=steps, **{"return_window_seconds": WINDOW} | options.pop("rules", {}))
        calls = POLICY.processors["stripe"]
        policy = PayoutPolicy(
            calls=replace_rules(calls, finds),
            routes={"stripe": rules},
            cooldown_seconds=options.pop("cooldown_seconds", 0.0),
            **options.pop("policy_options", {}),
        )
        options.setdefault("accounts", payout_accounts())
        super().__init__(url, routes={"stripe": self.route}, payout_policy=policy, **options)
        self.add_payee("p")

    def add_payee(self, payee_id: str, currency: str = "USD") -> None:
        """Record a payee who is paid to the connected account `acct_<payee_id>…`."""
        fields = {"kind": "stripe_account", "account": f"acct_{payee_id}000"}

        def work(connection: Any) -> None:
            connection.execute(
                payees_table.insert().values(
                    payee_id=payee_id,
                    processor="stripe",
                    currency=currency,
                    method="standard",
                    destination_id=f"{payee_id}-1",
                    destination_kind="stripe_account",
                    destination_box=self.context.box.seal(json.dumps(fields)),
                    destination_masked=f"Stripe account acct_{payee_id}000",
                    destination_hash="",
                    destination_ref=f"acct_{payee_id}000",
                    destination_changed_at=self.now,
                    version=1,
                    created_at=self.now,
                    updated_at=self.now,
                )
            )

        self.database.run(work)

    def earn(self, earning_id: str, amount: int, *, payee_id: str = "p", currency: str = "USD", at: float = 0) -> None:
        """Record an earning that is available from `at` on (seconds from now)."""

        def work(connection: Any) -> None:
            connection.execute(
                earnings_table.insert().values(
                    earning_id=earning_id,
                    payee_id=payee_id,
                    amount_minor=amount,
                    currency=currency,
                    description="a chat",
                    available_at=self.now + at,
                    created_at=self.now,
                )
            )
            posting = Posting(
                transaction_id=f"earning-{earning_id}",
                customer_id=None,
                payee=PayeeEffect(payee_id, currency, amount),
                kind=EntryKind.EARNING,
                credits=0,
                entries=transfer(SHARES, payee_account(payee_id), currency, amount),
                occurred_at=self.now,
            )
            ledger.insert_postings(connection, [posting])
            payees.change_balances(connection, {(payee_id, currency): BalanceDelta(earned_minor=amount)})

        self.database.run(work)

    def ask(self, amount: int | None = None, key: str = "k", *, payee_id: str = "p", **values: Any) -> str:
        """Ask for a payout; return its id. Raises the refusal."""
        request = PayoutRequest(
            idempotency_key=key,
            payee_id=payee_id,
            amount_minor=amount,
            **({"currency": "USD", "description": "share", "actor": "ann"} | values),
        )
        answer = request_payouts(self.context, [request])[0]
        if isinstance(answer, Refusal):
            raise answer
        assert isinstance(answer, AcceptedPayout)
        return answer.payout_id

    def step(self) -> None:
        """Process what is due once."""
        process_due_payouts(self.context)

    def settle(self, seconds: float = 0.0, step: float = 60.0) -> None:
        """Process until nothing is due, while the clock runs for these seconds."""
        end = self.now + seconds
        while True:
            while process_due_payouts(self.context):
                pass
            if self.now >= end:
                return
            self.now = min(end, self.now + step)

    def report(self, payout_id: str, item: TransferObject) -> None:
        """Report an object, as a webhook event or a list does."""
        leg_id = str(item.leg_id)
        record_transfer_replies(self.context, [TransferReplied(payout_id, leg_id, None, TransferAnswered(item))])

    def payout(self, payout_id: str) -> Payout:
        """Return the payout."""
        with self.database.read() as connection:
            return payouts.load(connection, [payout_id])[0]

    def act_on(self, payout_id: str, action: str, *, actor: str = "bob", reference: str | None = None) -> Payout:
        """Perform a person's action."""
        return perform_payout_action(
            self.context, payout_id, PayoutAction(action), actor=actor, reason="because", reference=reference
        )

    def balance(self, payee_id: str = "p", currency: str = "USD") -> PayeeBalance:
        """Return the payee's sums."""
        with self.database.read() as connection:
            return payees.balances(connection, [(payee_id, currency)], self.now)[payee_id, currency]

    def payee_row(self, payee_id: str = "p") -> Payee:
        """Return the payee."""
        with self.database.read() as connection:
            return payees.load(connection, [payee_id])[payee_id]

    def change_payee(self, payee_id: str = "p", **values: Any) -> None:
        """Change columns of the payee, as other parts of the program do."""
        self.database.run(
            lambda c: c.execute(update(payees_table).where(payees_table.c.payee_id == payee_id).values(**values))
        )

    def events(self, payout_id: str) -> list[str]:
        """Return the kinds of the payout's events."""
        with self.database.read() as connection:
            return [row["kind"] for row in timeline.events_about(connection, payout_id)]

    def accounts(self, currency: str = "USD") -> dict[str, int]:
        """Return the ledger's accounts in the currency that are not zero."""
        query = select(ledger_entries.c.account, ledger_entries.c.amount).where(ledger_entries.c.unit == currency)
        sums: dict[str, int] = {}
        with self.database.read() as connection:
            for account, amount in connection.execute(query):
                sums[account] = sums.get(account, 0) + amount
        return {account: amount for account, amount in sums.items() if amount}


def replace_rules(calls: Any, finds: bool) -> Any:
    """Return the policy of calls for payouts, at a processor whose transfers can be found or not."""
    from dataclasses import replace

    return replace(POLICY, processors={"stripe": replace(calls, finds_refunds=finds, list_proves_absence=finds)})


__all__ = ["DAY", "START", "TWO_STEPS", "WINDOW", "PayoutWorld"]
