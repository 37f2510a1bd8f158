"""The proof of the demo's payouts: our ledger, what the sandboxes' books say arrived, and each payee's balance."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from refund_worker.cli.demo.scenes_of_payees import AT_PAYPAL, AT_STRIPE
from refund_worker.cli.demo.session import Demo
from refund_worker.engine.sums.check import check_all
from refund_worker.engine.views.money_format import money
from refund_worker.processors.wire import to_minor_units
from refund_worker.store.reporting.payee_sums import paid_by_payee

CURRENCY = "USD"


def prove_payouts(demo: Demo) -> dict[str, int]:
    """Print the payees with what both sides say they were paid, and check it.

    Return {payouts_ledger_minor, payouts_processor_minor}, over both processors.
    """
    payees = demo.api.get("/v1/payees", limit="500")["data"]
    if not payees:
        return {"payouts_ledger_minor": 0, "payouts_processor_minor": 0}
    demo.title("The payees: our ledger and what reached their banks and PayPal accounts")
    with demo.context.database.read() as connection:
        ours = {payee_id: minor for (payee_id, _), minor in paid_by_payee(connection).items()}
    theirs = _arrived(demo)
    table = Table(title_justify="left")
    for column in ("payee", "earned", "clawed back", "our ledger", "arrived", "", "balance"):
        table.add_column(column, justify="left" if column == "payee" else "right")
    rows = [_row(payee, ours, theirs) for payee in payees]
    for payee_id, earned, clawed_back, paid, arrived, balance in rows:
        sums = [money(minor, CURRENCY) for minor in (earned, clawed_back, paid, arrived)]
        table.add_row(payee_id, *sums, "=" if paid == arrived else "≠", money(balance, CURRENCY))
    demo.console.print(table)
    ledger, processor = sum(row[3] for row in rows), sum(theirs.values())
    equal = ledger == processor and all(row[3] == row[4] for row in rows)
    demo.check(f"each payee got what the ledger says: {money(ledger, CURRENCY)}", equal, rows)
    exact = all(earned - clawed_back - paid == balance for _, earned, clawed_back, paid, _, balance in rows)
    demo.check("earned − clawed back − paid = balance", exact, rows)
    accounts = demo.stack.sandbox.book()["balances"]
    left = {account: sums for account, sums in accounts.items() if account and any(sums.values())}
    demo.check("no money stayed on the payees' accounts at Stripe", not left, left)
    report = check_all(demo.context)
    demo.check("every sum of the ledger holds", report.holds, report)
    return {"payouts_ledger_minor": ledger, "payouts_processor_minor": processor}


def _row(payee: dict[str, Any], ours: dict[str, int], theirs: dict[str, int]) -> tuple[str, int, int, int, int, int]:
    payee_id = str(payee["payee_id"])
    (sums,) = payee["balances"]
    balance = sums["payable_minor"] + sums["held_minor"] - sums["debt_minor"]
    both = ours.get(payee_id, 0), theirs.get(payee_id, 0)
    return payee_id, sums["earned_minor"], sums["clawed_back_minor"], *both, balance


def _arrived(demo: Demo) -> dict[str, int]:
    """Return what the books say reached each payee's bank or PayPal account, and did not come back."""
    banks, received = demo.stack.sandbox.book()["banks"], demo.paypal.book()["received"]
    found = {payee_id: banks.get(account, {}).get(CURRENCY.lower(), 0) for payee_id, account in AT_STRIPE.items()}
    for payee_id, email in AT_PAYPAL.items():
        found[payee_id] = to_minor_units(received.get(email, {}).get(CURRENCY, "0"), CURRENCY)
    return found
