"""Compare, to the minor unit, the program with the site's own books, its ledger, its statements and the servers' books.

No figure is compared with itself: the two sides of each check come from different places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from books import Books
from program import CURRENCY, Program
from servers import PAYPAL, STRIPE, Servers, minor

from refund_worker.domain.payouts.payee import PayeeBalance
from refund_worker.engine.processor_sync.balance_comparison import Span, State, compare_balance
from refund_worker.engine.sums.check import check_all
from refund_worker.engine.sums.statement import make_statement, month_bounds
from refund_worker.engine.views.payee_statement import payee_statement

Figures = Mapping[str, int]
LEDGER = "SELECT account, SUM(amount) FROM ledger_entries WHERE unit = :unit GROUP BY account"
# What left an account of a processor, by the kind of the ledger's transaction.
MOVED = (
    "SELECT t.kind, SUM(e.amount) FROM ledger_entries e JOIN ledger_transactions t USING (transaction_id)"
    " WHERE e.account = :account GROUP BY t.kind"
)
CREDITS = "SELECT customer_id, balance FROM customers"
IN_FLIGHT = "SELECT payee_id, SUM(amount_minor) FROM payouts WHERE status IN ({}) GROUP BY payee_id"
OPEN = ("queued", "held", "sending", "pending", "recipient_action", "returning", "needs_attention")
REFUNDED = (
    "SELECT p.processor_payment_id, SUM(l.amount_minor) FROM legs l JOIN payments p USING (payment_id)"
    " WHERE l.status = 'succeeded' AND p.processor = :account GROUP BY p.processor_payment_id"
)
KINDS = {
    "paid in": ("purchase",),
    "refunds": ("payout", "payout_reversal"),
    "lost in disputes": ("chargeback",),
    "payouts": ("transfer", "transfer_reversal"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that two sources must agree on. `left` and `right` have one figure for each row."""

    title: str
    sources: str
    left: Figures
    right: Figures

    @property
    def differing(self) -> list[tuple[str, int, int]]:
        """The rows that differ: the name, and what each side says."""
        pairs = [(name, self.left.get(name, 0), self.right.get(name, 0)) for name in {**self.left, **self.right}]
        return [pair for pair in pairs if pair[1] != pair[2]]


class Comparison:
    """All that is compared. It reads everything once."""

    def __init__(self, program: Program, servers: Servers, books: Books) -> None:
        self._program, self._books = program, books
        self._stripe, self._paypal = servers.stripe.book(), servers.paypal.book()
        self._balances = program.balances(books.performers)
        self._ledger: dict[str, int] = dict(program.rows(LEDGER, unit=CURRENCY))

    def checks(self) -> list[Check]:
        """Return all checks."""
        return [*self._performers(), *self._customers(), *self._stripes(), *self._paypals(), *self._statements()]

    def _balance(self, figure: Callable[[PayeeBalance], int]) -> dict[str, int]:
        return {payee_id: figure(balance) for payee_id, balance in self._balances.items()}

    # --- performers --------------------------------------------------------------------------------------------------

    def _performers(self) -> list[Check]:
        books, accounts = self._books, {f"payee:{each}": each for each in self._books.performers}
        not_yet = books.by_performer(
            lambda chat: (chat.share_minor - chat.clawed_back_minor) * (chat.available_at > books.now)
        )
        kept = books.by_performer(lambda chat: chat.share_minor - chat.clawed_back_minor)
        statuses = ", ".join(f"'{status}'" for status in OPEN)
        in_flight = dict(self._program.rows(IN_FLIGHT.format(statuses)))
        unposted = ", ".join(f"'{status}'" for status in OPEN[:2])
        reserved = dict(self._program.rows(IN_FLIGHT.format(unposted)))
        site, program = "program = site's books", self._balance
        return [
            Check("earned", site, program(lambda b: b.earned_minor), books.by_performer(lambda c: c.share_minor)),
            Check(
                "clawed back",
                site,
                program(lambda b: b.clawed_back_minor),
                books.by_performer(lambda c: c.clawed_back_minor),
            ),
            Check("held", site, program(lambda b: b.held_minor), not_yet),
            Check("paid", "program = servers' books", program(lambda b: b.paid_minor), self._received()),
            Check("in flight", "program = its payouts", program(lambda b: b.in_flight_minor), _all(in_flight, books)),
            Check(
                "payable + held + paid + in flight - debts",
                "program = site's books",
                program(lambda b: b.payable_minor + b.held_minor + b.paid_minor + b.in_flight_minor - b.debt_minor),
                kept,
            ),
            Check(
                "owed to performers",
                "ledger = program",
                {payee_id: self._ledger.get(account, 0) for account, payee_id in accounts.items()},
                {name: b.net_minor + reserved.get(name, 0) for name, b in self._balances.items()},
            ),
        ]

    def _received(self) -> dict[str, int]:
        """Return what each performer got at any of the destinations, by the servers' books."""
        at_banks = {account: its.get("usd", 0) for account, its in self._stripe["banks"].items()}
        at_paypal = {address: minor(its.get(CURRENCY, "0")) for address, its in self._paypal["received"].items()}
        there = at_banks | at_paypal
        return {
            payee_id: sum(there.get(each, 0) for each in performer.destinations)
            for payee_id, performer in self._books.performers.items()
        }

    # --- customers ---------------------------------------------------------------------------------------------------

    def _customers(self) -> list[Check]:
        stored = dict(self._program.rows(CREDITS))
        credits = dict(self._program.rows(LEDGER, unit="credits"))
        in_ledger = {each: credits.get(f"customer:{each}", 0) for each in stored}
        by_site = {
            each.customer_id: each.credits for each in self._books.customers.values() if each.customer_id in stored
        }
        return [
            Check("customers' credits", "program = ledger", stored, in_ledger),
            Check("customers' credits", "program = site's books", stored, by_site),
        ]

    # --- the processors' books ---------------------------------------------------------------------------------------

    def _moved(self, account: str) -> dict[str, int]:
        """Return what came to the account and left it in the ledger, by kind, below zero if it left."""
        sums = dict(self._program.rows(MOVED, account=f"processor:{account}"))
        return {name: sum(sums.pop(kind, 0) for kind in kinds) for name, kinds in KINDS.items()} | {
            f"other: {kind}": amount for kind, amount in sums.items()
        }

    def _stripes(self) -> list[Check]:
        book = self._stripe
        of_platform = [each for each in book["transfers"] if not each.get("account")]
        moved = {
            "paid in": sum(each["amount"] for each in book["payments"]),
            "refunds": -sum(each["amount"] for each in book["refunds"] if each["status"] == "succeeded"),
            "lost in disputes": -sum(each["received"] for each in book["disputes"]),
            "payouts": -sum(each["amount"] - each["amount_reversed"] for each in of_platform),
        }
        prefix = f"processor:{STRIPE}/"
        ours = {each.removeprefix(prefix): sum_ for each, sum_ in self._ledger.items() if each.startswith(prefix)}
        theirs = {account: its.get("usd", 0) for account, its in book["balances"].items() if account}
        for payout in book["payouts"]:
            if payout["status"] in ("pending", "in_transit"):  # it left the account, and is not at the bank
                theirs[payout["account"]] += payout["amount"]
        total = book["balances"][""].get("usd", 0) - self._books.topped_up_minor
        refunds = _sums((each["charge"], each["amount"]) for each in book["refunds"] if each["status"] == "succeeded")
        return [
            Check("Stripe, by kind", "ledger = Stripe's book", self._moved(STRIPE), moved),
            Check("Stripe, balance", "ledger = Stripe's book", {"": self._ledger[f"processor:{STRIPE}"]}, {"": total}),
            Check("Stripe, performers' accounts", "ledger = Stripe's book", ours, theirs),
            Check("Stripe, refunds of each payment", "program = Stripe's book", self._refunded(STRIPE), refunds),
        ]

    def _paypals(self) -> list[Check]:
        book = self._paypal
        refunds = _sums(
            (each["capture_id"], minor(each["amount"]["value"]))
            for each in book["refunds"]
            if each["status"] == "COMPLETED"
        )
        received = [minor(amount) for its in book["received"].values() for amount in its.values()]
        moved = {
            "paid in": sum(minor(each["amount"]["value"]) for each in book["captures"]),
            "refunds": -sum(refunds.values()),
            "payouts": -sum(received),
        }
        return [
            Check("PayPal, by kind", "ledger = PayPal's book", self._moved(PAYPAL), moved),
            Check("PayPal, refunds of each payment", "program = PayPal's book", self._refunded(PAYPAL), refunds),
        ]

    def _refunded(self, account: str) -> dict[str, int]:
        return dict(self._program.rows(REFUNDED, account=account))

    # --- statements --------------------------------------------------------------------------------------------------

    def _statements(self) -> list[Check]:
        context, books = self._program.context, self._books
        begin, end = month_bounds(books.month)
        closing: dict[str, int] = {}
        added: dict[str, int] = {}
        with context.database.read() as connection:
            for payee_id in books.performers:
                for line in payee_statement(connection, payee_id, books.month, begin, end)["lines"]:
                    closing[payee_id] = line["closing_minor"]
                    changes = line["earned_minor"] - line["clawed_back_minor"] - line["paid_minor"]
                    added[payee_id] = line["opening_minor"] + changes + line["returned_minor"]
        owed = {each: self._ledger.get(f"payee:{each}", 0) for each in books.performers}
        statement = make_statement(context, books.month)
        compared = compare_balance(context, STRIPE, Span(begin, min(end, books.now)))
        totals = {each.currency: (each.ledger_minor, each.processor_minor) for each in compared.totals}
        faults = {
            "currencies in which the site's statement does not add up": len(statement.disagreements),
            f"Stripe's balance transactions: {compared.state}": int(compared.state is not State.AGREES),
            "sums that do not hold": check_all(context).count,
        }
        return [
            Check("statements of performers", "closing = ledger", closing, owed),
            Check("statements of performers", "closing = its own lines", closing, added),
            Check(
                "statement of the site at Stripe",
                "ledger = balance transactions",
                {currency: sums[0] for currency, sums in totals.items()},
                {currency: sums[1] for currency, sums in totals.items()},
            ),
            Check("faults that the program finds itself", "found = none", faults, dict.fromkeys(faults, 0)),
        ]


def _all(sums: Figures, books: Books) -> dict[str, int]:
    return {payee_id: sums.get(payee_id, 0) for payee_id in books.performers}


def _sums(pairs: Any) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for name, amount in pairs:
        found[name] += amount
    return dict(found)
