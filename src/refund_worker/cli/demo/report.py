"""The end of the demo: the customers' transactions, and our ledger compared with the processor's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from rich.table import Table

from refund_worker.cli.demo.session import Demo
from refund_worker.engine.processor_sync import reconciliation
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.money_format import money
from refund_worker.store.reporting.reconciliation import customers_of_legs

# The customer whose many legs are one line of the table.
GROUPED_CUSTOMER = "zoe"
# The customers of the scenes in which others act on a payment.
CUSTOMERS_OF_OTHERS = ("nia", "omar", "uma")


def report(demo: Demo) -> dict[str, Any]:
    """Print the report and check it. Return {ledger_minor, processor_minor, legs}."""
    demo.title("The Transactions of mia and leo in the console")
    for customer_id in ("mia", "leo"):
        demo.console.print(_transactions_table(demo, customer_id))
    demo.title("The proof: our ledger and the processor's own records")
    result = reconciliation.reconcile(demo.context, "stripe")
    demo.console.print(_proof_table(demo, result))
    outside = {item["object_id"] for item in demo.api.get("/v1/outside-refunds", status="posted")["data"]}
    paid = _paid_at_processor(demo, outside)
    demo.check("both sides agree on every leg", result.agrees, result.differences)
    demo.check("both totals are equal to the cent", result.ledger_minor == paid, f"{result.ledger_minor} and {paid}")
    demo.check("nia's refunds in the dashboard are counted apart", result.foreign == len(outside) == 2, result.foreign)
    demo.check("no money is in flight", result.in_flight == 0, result.in_flight)
    _prove_credits(demo)
    return {"ledger_minor": result.ledger_minor, "processor_minor": paid, "legs": len(result.lines)}


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


def _proof_table(demo: Demo, result: reconciliation.Report) -> Table:
    with demo.context.database.read() as connection:
        customers = customers_of_legs(connection, [leg for leg, _, _ in result.lines])
    table = Table(title_justify="left")
    table.add_column("customer")
    table.add_column("leg", overflow="fold")
    table.add_column("our ledger", justify="right")
    table.add_column("processor", justify="right")
    table.add_column("")
    grouped = [line for line in result.lines if customers[line[0]] == GROUPED_CUSTOMER]
    for line in result.lines:
        if line not in grouped:
            table.add_row(customers[line[0]], line[0], *_comparison(line[1], line[2]))
    booked, reported = sum(line[1] for line in grouped), sum(line[2] for line in grouped)
    if grouped:
        table.add_row(GROUPED_CUSTOMER, f"{len(grouped)} legs", *_comparison(booked, reported))
    table.add_section()
    total = _comparison(result.ledger_minor, result.processor_minor)
    table.add_row("total", f"{len(result.lines)} legs", *total)
    return table


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
    """Return what each payment's customer has received in the sandbox's records, by refunds and by disputes."""
    book = demo.stack.sandbox.book()
    received: Counter[str] = Counter()
    for refund in book["refunds"]:
        if refund["status"] == "succeeded":
            received[refund["charge"]] += refund["amount"]
    for dispute in book["disputes"]:
        received[dispute["charge"]] += dispute["received"]
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


def _paid_at_processor(demo: Demo, outside: Collection[str]) -> int:
    """Return the sum of succeeded refunds in the sandbox's records without the `outside` ones, in minor units."""
    refunds = demo.stack.sandbox.refunds()
    return sum(r["amount"] for r in refunds if r["status"] == "succeeded" and r["id"] not in outside)
