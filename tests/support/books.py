"""The invariants of a database: every stored figure agrees with the ledger and the legs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from refund_worker.domain.ledger import CLEARING, CREDITS, USED
from refund_worker.engine.sums.check import find_violations
from refund_worker.store.database import Database
from refund_worker.store.tables import (
    claims,
    customers,
    ledger_entries,
    ledger_transactions,
    legs,
    payments,
    transaction_rooms,
)
from refund_worker.store.tables import refunds as refunds_table

_NEVER_TAKEN = ("canceled", "rejected")
_NO_MONEY = ("failed", "canceled")


def assert_books_balance(database: Database) -> None:
    """Check every stored figure against the ledger and the legs. True after every commit."""
    with database.read() as connection:
        rows = {
            table.name: list(connection.execute(select(table)).mappings())
            for table in (
                customers,
                payments,
                transaction_rooms,
                ledger_transactions,
                ledger_entries,
                refunds_table,
                legs,
                claims,
            )
        }
    _check_postings(rows)
    _check_customers(rows)
    _check_payments(rows)
    _check_rooms(rows)
    _check_clearing(rows)
    _check_claims(rows)
    # What production checks, so that every test of the engine shows that it raises no false alarm.
    found = find_violations(database, [row["customer_id"] for row in rows["customers"]])
    assert found == [], "the sums that production checks do not hold"


Rows = Mapping[str, list[Any]]


def _check_postings(rows: Rows) -> None:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for e in rows["ledger_entries"]:
        sums[e["transaction_id"], e["unit"]] += e["amount"]
    assert not {key: amount for key, amount in sums.items() if amount}, "postings that do not sum to zero"


def _check_customers(rows: Rows) -> None:
    merged = {c["customer_id"]: c["merged_into"] for c in rows["customers"] if c["merged_into"]}
    owner = {t["transaction_id"]: merged.get(t["customer_id"], t["customer_id"]) for t in rows["ledger_transactions"]}
    balance: defaultdict[str, int] = defaultdict(int)
    used: defaultdict[str, int] = defaultdict(int)
    for e in rows["ledger_entries"]:
        if e["account"].startswith("customer:"):
            balance[e["account"].removeprefix("customer:")] += e["amount"]
        elif e["account"] == USED:
            used[owner[e["transaction_id"]]] += e["amount"]
    bought: defaultdict[str, int] = defaultdict(int)
    for p in rows["payments"]:
        bought[p["customer_id"]] += p["credits"]
    held: defaultdict[str, int] = defaultdict(int)
    withdrawn: defaultdict[str, int] = defaultdict(int)
    for r in rows["refunds"]:
        is_withdrawal = r["kind"] == "withdrawal"
        if r["status"] in _NEVER_TAKEN or r["to"] == "balance":
            continue
        if is_withdrawal and not r["posted"] and not r["of_correction"]:
            held[r["customer_id"]] += r["credits"]
        if is_withdrawal or r["posted"]:
            withdrawn[r["customer_id"]] += r["credits"] - r["returned_credits"]
    for claim in rows["claims"]:
        held[claim["customer_id"]] += claim["held"]
        withdrawn[claim["customer_id"]] += claim["held"] + claim["taken"]
    for c in rows["customers"]:
        customer = c["customer_id"]
        kept = {name: c[name] for name in ("balance", "held", "bought", "net_spent", "withdrawn")}
        assert kept == {
            "balance": balance[customer],
            "held": held[customer],
            "bought": bought[customer],
            "net_spent": used[customer],
            "withdrawn": withdrawn[customer],
        }, f"customer {customer}"


def _check_payments(rows: Rows) -> None:
    credits: defaultdict[str, int] = defaultdict(int)
    money: defaultdict[str, int] = defaultdict(int)
    for leg in rows["legs"]:
        if leg["status"] not in _NO_MONEY:
            credits[leg["payment_id"]] += leg["payment_credits"]
            money[leg["payment_id"]] += leg["amount_minor"]
    for p in rows["payments"]:
        name = p["payment_id"]
        # Money paid after its reservation was released counts at most up to the full amount.
        assert p["credits_taken"] == min(credits[name], p["credits"]), f"credits taken of {name}"
        assert p["money_taken"] == min(money[name], p["amount_minor"]), f"money taken of {name}"


def _check_rooms(rows: Rows) -> None:
    taken: defaultdict[str, int] = defaultdict(int)
    for r in rows["refunds"]:
        if r["transaction_id"] and r["status"] not in _NEVER_TAKEN:
            taken[r["transaction_id"]] += r["credits"]
    credit_refunds = {t["transaction_id"]: t for t in rows["ledger_transactions"] if t["kind"] == "credit_refund"}
    for t in rows["ledger_transactions"]:
        undone = credit_refunds.get(t["refers_to"] or "")
        if t["kind"] == "reversal" and undone is not None:
            taken[undone["refers_to"]] -= undone["credits"]
    for room in rows["transaction_rooms"]:
        assert room["taken"] == taken[room["transaction_id"]], f"taken of {room['transaction_id']}"


def _check_clearing(rows: Rows) -> None:
    paid: defaultdict[str, int] = defaultdict(int)
    for leg in rows["legs"]:
        if leg["status"] == "succeeded":
            paid[leg["refund_id"]] += leg["credits"]
    in_flight = sum(
        r["credits"] - r["returned_credits"] - paid[r["refund_id"]]
        for r in rows["refunds"]
        if r["posted"] and r["to"] == "source"
    )
    clearing = sum(e["amount"] for e in rows["ledger_entries"] if e["account"] == CLEARING and e["unit"] == CREDITS)
    assert clearing == in_flight, "clearing is not what is in flight"


def _check_claims(rows: Rows) -> None:
    """Check that each claim has its entries in the ledger, and that its payment has no room for what it takes."""
    credits: defaultdict[str, int] = defaultdict(int)
    money: defaultdict[str, int] = defaultdict(int)
    claim_of = {}
    for t in rows["ledger_transactions"]:
        claim_id = t["transaction_id"].rsplit("-", 1)[0]
        claim_of[t["transaction_id"]] = claim_id
        credits[claim_id] -= t["credits"]
    for e in rows["ledger_entries"]:
        if e["account"].startswith("processor:"):
            money[claim_of[e["transaction_id"]]] -= e["amount"]
    room: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for claim in rows["claims"]:
        name = claim["claim_id"]
        assert (credits[name], money[name]) == (claim["taken"], claim["posted_minor"]), f"entries of {name}"
        if claim["kind"] == "earlier_refund":
            continue  # the payment's `refunded_minor` has its room
        if claim["phase"] in ("holding", "taken"):
            room[claim["payment_id"]][0] += max(0, claim["amount_minor"] - claim["explained_minor"])
            room[claim["payment_id"]][1] += claim["credits"]
        else:
            assert (claim["held"], claim["taken"], claim["credits"]) == (0, 0, 0), f"share of {name}"
    for p in rows["payments"]:
        returned = sum(c["returned_minor"] for c in rows["claims"] if c["payment_id"] == p["payment_id"])
        assert p["returned_minor"] == returned <= p["refunded_minor"], f"what came back to {p['payment_id']}"
        assert [p["claimed_minor"], p["claimed_credits"]] == room[p["payment_id"]], f"claims on {p['payment_id']}"
