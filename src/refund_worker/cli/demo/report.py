"""The end of the demo: the customers' transactions, and our ledger compared with both processors' records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

from rich.table import Table

from refund_worker.cli.demo.session import Demo
from refund_worker.cli.stack import PAYPAL
from refund_worker.engine.processor_sync import reconciliation
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.money_format import money
from refund_worker.store.reporting.reconciliation import count_open_legs, customers_of_legs, money_by_leg

STRIPE = "stripe"
Line = tuple[str, int, int]  # a leg, with the minor units in our ledger and at the processor
Lines = tuple[Line, ...]
# The customer whose many legs are one line of the table.
GROUPED_CUSTOMER = "zoe"
# The customers of the scenes in which others act on a payment.
CUSTOMERS_OF_OTHERS = ("nia", "omar", "uma")


def report(demo: Demo) -> dict[str, Any]:
    """Print the report and check it. Return {ledger_minor, processor_minor, legs}, over both processors."""
    demo.title("The Transactions of mia and leo in the console")
    for customer_id in ("mia", "leo"):
        demo.console.print(_transactions_table(demo, customer_id))
    demo.title("The proof: our ledger and the processors' own records")
    result = reconciliation.reconcile(demo.context, STRIPE)
    by_account = {STRIPE: result.lines, PAYPAL: _lines_at_paypal(demo)}
    for account, lines in by_account.items():
        if lines:
            demo.console.print(_proof_table(demo, account, lines))
    every = [line for lines in by_account.values() for line in lines]
    unequal = [line for line in every if line[1] != line[2]]
    outside = {item["object_id"] for item in demo.api.get("/v1/outside-refunds", status="posted")["data"]}
    ledger, paid = sum(line[1] for line in every), _paid_at_processors(demo, outside)
    demo.check("both sides agree on every leg", result.agrees and not unequal, (result.differences, unequal))
    demo.check("both totals are equal to the cent", ledger == paid, f"{ledger} and {paid}")
    demo.check("nia's refunds in the dashboard are counted apart", result.foreign == len(outside) == 2, result.foreign)
    with demo.context.database.read() as connection:
        in_flight = result.in_flight + count_open_legs(connection, PAYPAL)
    demo.check("no money is in flight", in_flight == 0, in_flight)
    _prove_credits(demo)
    return {"ledger_minor": ledger, "processor_minor": paid, "legs": len(every)}


def _lines_at_paypal(demo: Demo) -> Lines:
    """Return each leg over PayPal with the money in our ledger and in PayPal's book, in minor units.

    PayPal lists no refunds, so `reconcile` cannot ask for them. The book shows our text (`custom_id`) of each.
    """
    theirs: Counter[str] = Counter()
    for refund in demo.paypal.refunds():
        theirs[refund["custom_id"].split(",")[1]] += _minor(refund) if refund["status"] == "COMPLETED" else 0
    ours = [
        leg["leg_id"]
        for refund in demo.api.get("/v1/refunds", limit="500")["data"]
        for leg in refund["legs"]
        if leg["processor_account"] == PAYPAL
    ]
    legs = sorted({*ours, *theirs})
    booked: Counter[str] = Counter()
    with demo.context.database.read() as connection:
        for (leg, _currency), minor in money_by_leg(connection, legs).items():
            booked[leg] += minor
    return tuple((leg, booked[leg], theirs[leg]) for leg in legs)


def _transactions_table(demo: Demo, customer_id: str) -> Table:
    with demo.context.database.read() as connection:
        rows = api_objects.transactions(connection, customer_id)["data"]
    table = Table(
        title=f"Customers → {customer_id} → Transactions (balance {demo.balance(customer_id)})", title_justify="left"
    )
    table.add_column("credits", justify="right")
    table.add_column("kind")
    table.add_column("description", overflow="fold")
    table.add_column("refers to", overflow="fold")
    for row in rows:
        table.add_row(f"{row['credits']:+d}", row["kind"], row["description"], row["refers_to"] or "")
    return table


def _proof_table(demo: Demo, account: str, lines: Lines) -> Table:
    with demo.context.database.read() as connection:
        customers = customers_of_legs(connection, [leg for leg, _, _ in lines])
    table = Table(title=f"The account {account}", title_justify="left")
    table.add_column("customer")
    table.add_column("leg", overflow="fold")
    table.add_column("our ledger", justify="right")
    table.add_column("processor", justify="right")
    table.add_column("")
    grouped = [line for line in lines if customers.get(line[0]) == GROUPED_CUSTOMER]
    for line in lines:
        if line not in grouped:
            table.add_row(customers.get(line[0], "nobody"), line[0], *_comparison(line[1], line[2]))
    if grouped:
        table.add_row(GROUPED_CUSTOMER, f"{len(grouped)} legs", *_total(grouped))
    table.add_section()
    table.add_row("total", f"{len(lines)} {'leg' if len(lines) == 1 else 'legs'}", *_total(lines))
    return table


def _total(lines: Sequence[Line]) -> tuple[str, str, str]:
    return _comparison(sum(line[1] for line in lines), sum(line[2] for line in lines))


def _prove_credits(demo: Demo) -> None:
    """Compare all money of each payment with the processor's records, and the credits of three customers with it."""
    demo.title("The money that others moved, and its credits")
    payments = demo.api.get("/v1/payments", limit="500")["data"]
    received = _received(demo)
    unequal = [p for p in payments if p["taken_minor"] != received.get(p["processor_payment_id"], 0)]
    table = Table(title_justify="left")
    for column in ("customer", "our ledger", "processor", "", "bought", "spent", "returned", "written off", "balance"):
        table.add_column(column, justify="left" if column == "customer" else "right")
    rows = []
    for payment in payments:
        if payment["customer_id"] in CUSTOMERS_OF_OTHERS:
            moved = received.get(payment["processor_payment_id"], 0)
            credits = _credits(demo, payment)
            table.add_row(payment["customer_id"], *_comparison(payment["taken_minor"], moved), *map(str, credits))
            rows.append((payment["amount_minor"], moved, *credits))
    demo.console.print(table)
    total = money(sum(received.values()), "USD")
    demo.check(f"every payment agrees, with disputes and dashboard: {total}", not unequal, unequal)
    shares = all(returned * paid == bought * moved for paid, moved, bought, _, returned, _, _ in rows)
    demo.check("the processor's money is worth exactly the credits returned", shares and len(rows) == 3, rows)
    good = all(bought - spent - returned + off == balance for _, _, bought, spent, returned, off, balance in rows)
    demo.check("bought − spent − returned + written off = balance", good, rows)


def _received(demo: Demo) -> dict[str, int]:
    """Return what each payment's customer has received in the sandboxes' records, by refunds and by disputes."""
    book = demo.stack.sandbox.book()
    received: Counter[str] = Counter()
    for refund in book["refunds"]:
        if refund["status"] == "succeeded":
            received[refund["charge"]] += refund["amount"]
    for dispute in book["disputes"]:
        received[dispute["charge"]] += dispute["received"]
    for refund in demo.paypal.refunds():
        if refund["status"] == "COMPLETED":
            received[refund["capture_id"]] += _minor(refund)
    return received


def _credits(demo: Demo, payment: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Return the credits that the payment's customer bought, spent, returned for money, was let off, and has."""
    customer_id = payment["customer_id"]
    entries = demo.api.get(f"/v1/customers/{customer_id}/transactions")["data"]
    spent = -sum(entry["credits"] for entry in entries if entry["kind"] == "spend")
    claims = [
        *demo.api.get("/v1/outside-refunds", customer_id=customer_id)["data"],
        *demo.api.get("/v1/disputes", customer_id=customer_id)["data"],
    ]
    written_off = sum(claim["shortfall"] for claim in claims)
    return payment["credits"], spent, payment["credits_taken"], written_off, demo.balance(customer_id)


def _comparison(booked: int, reported: int) -> tuple[str, str, str]:
    return money(booked, "USD"), money(reported, "USD"), "=" if booked == reported else "≠"


def _paid_at_processors(demo: Demo, outside: Collection[str]) -> int:
    """Return the sum of succeeded refunds in the sandboxes' records without the `outside` ones, in minor units."""
    refunds = demo.stack.sandbox.refunds()
    paid: int = sum(r["amount"] for r in refunds if r["status"] == "succeeded" and r["id"] not in outside)
    return paid + sum(_minor(refund) for refund in demo.paypal.refunds() if refund["status"] == "COMPLETED")


def _minor(refund: dict[str, Any]) -> int:
    """Return the minor units of a refund in PayPal's book."""
    return int(Decimal(refund["amount"]["value"]).scaleb(2))
