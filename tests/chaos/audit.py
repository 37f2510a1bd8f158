"""Compare the books of both processors, our ledger by independent SQL, and the promises that clients got."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.payout_audit import Asked, PayoutFindings, audit_payouts, still_open

ENDS = {"succeeded", "partially_succeeded", "failed", "rejected", "canceled"}
VOID = {"failed", "canceled"}
# These reasons need a person: others refunded the same payment, or its bank took it back for good. No other reason may
# keep a refund from its end.
REFUNDED, DISPUTED = "refunded_elsewhere", "charge_disputed"

PAID_BY_LEG = """
SELECT t.refers_to || ' at ' || e.account, -sum(e.amount)
FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
WHERE t.kind IN ('payout', 'payout_reversal') AND e.account LIKE 'processor:%' GROUP BY 1"""
UNBALANCED = "SELECT transaction_id FROM ledger_entries GROUP BY transaction_id, unit HAVING sum(amount) <> 0"
BALANCES = """
SELECT c.customer_id FROM customers c LEFT JOIN ledger_entries e
ON e.account = 'customer:' || c.customer_id AND e.unit = 'credits'
GROUP BY c.customer_id, c.balance HAVING c.balance <> coalesce(sum(e.amount), 0)"""
CLEARING = "SELECT coalesce(sum(amount), 0) FROM ledger_entries WHERE account = 'house:clearing' AND unit = 'credits'"
ASKED_A_PERSON = """
SELECT r.refund_id, l.attention, l.processor_payment_id
FROM legs l JOIN refunds r USING (refund_id) WHERE r.status = 'needs_attention' AND l.attention IS NOT NULL"""
CLAIMS = "SELECT object_id, object_status, phase FROM claims"
# PayPal's words for the statuses, and the mark of our refunds there.
PAYPAL = {"COMPLETED": "succeeded", "PENDING": "pending", "FAILED": "failed", "CANCELLED": "canceled"}
OUR_MARK = "rw1,"
# The phase of a dispute's claim by the dispute's status.
PHASES = {"needs_response": "holding", "lost": "taken", "won": "released"}
PAID_TO_END = """
SELECT r.refund_id, r.status, r.credits, r.returned_credits,
  coalesce(sum(l.credits) FILTER (WHERE l.status = 'succeeded'), 0),
  coalesce(sum(l.amount_minor) FILTER (WHERE l.status = 'succeeded'), 0),
  coalesce(sum(l.amount_minor) FILTER (WHERE l.replaces IS NULL), 0)
FROM refunds r JOIN legs l USING (refund_id) GROUP BY r.refund_id"""

# The effect of each refund on its customer's balance: the sum of all its entries.
LEFT_ON_BALANCE = """
SELECT r.refund_id, r.kind, r."to", r.status, r.credits, r.returned_credits, coalesce(sum(e.amount), 0)
FROM refunds r LEFT JOIN ledger_transactions t ON t.refund_id = r.refund_id
LEFT JOIN ledger_entries e ON e.transaction_id = t.transaction_id
  AND e.account = 'customer:' || r.customer_id AND e.unit = 'credits'
GROUP BY r.refund_id"""


@dataclass(frozen=True, slots=True)
class Findings:
    """All differences as text; `open` are refunds that are still in progress."""

    double: tuple[str, ...]
    lost: tuple[str, ...]
    mismatch: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """True if there is no difference."""
        return not (self.double or self.lost or self.mismatch or self.open)


@dataclass(frozen=True, slots=True)
class Books:
    """The files of the processors' own books."""

    stripe: Path
    paypal: Path


def audit(database_url: str, books: Books, promises: Mapping[str, str]) -> Findings:
    """Compare all lists in their current state. Raise `psycopg.OperationalError` if the database is down."""
    at_stripe, double = read_book(_records(books.stripe))
    at_paypal, double_at_paypal = read_book(_as_stripe_writes(_records(books.paypal)))
    things = [*at_stripe, *at_paypal]
    double += [*double_at_paypal, *_at_both(at_stripe, at_paypal)]
    disputes, lost_charges = read_disputes(_records(books.stripe))
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=5) as connection:
        statuses = dict(_rows(connection, "SELECT refund_id, status FROM refunds"))
        keys = dict(_rows(connection, "SELECT idempotency_key, refund_id FROM refunds"))
        asked_a_person = _rows(connection, ASKED_A_PERSON)
        mismatch = [
            *_money(connection, at_stripe, at_paypal),
            *_sums(connection),
            *_outside(connection, things, disputes),
        ]
        clearing = int(_rows(connection, CLEARING)[0][0])
    attention = {refund_id: why for refund_id, why, _ in asked_a_person}
    by_others = {thing["charge"] for thing in things if not _leg_of(thing) and thing["was_live"]}
    causes = {REFUNDED: by_others, DISPUTED: lost_charges}
    parked = {r for r, why, payment in asked_a_person if payment in causes.get(why, ())}
    open_ = [f"{r} is {s} ({attention.get(r)})" for r, s in statuses.items() if s not in ENDS and r not in parked]
    lost = [f"{key} was promised {r}, there is {keys.get(key)}" for key, r in promises.items() if keys.get(key) != r]
    if clearing and not open_ and not parked:
        mismatch.append(f"clearing holds {clearing} credits")
    return Findings(tuple(double), tuple(lost), tuple(mismatch), tuple(open_))


def audit_payees(database_url: str, books: Books, asked: Asked) -> PayoutFindings:
    """Compare all payouts in their current state. Raise `psycopg.OperationalError` if the database is down."""
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=5) as connection:
        return audit_payouts(connection, _records(books.stripe), _records(books.paypal), asked)


def count_open(database_url: str) -> int:
    """Return the number of refunds that have not ended. Raise `psycopg.OperationalError` if the database is down."""
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=2) as connection:
        return sum(status not in ENDS for (status,) in _rows(connection, "SELECT status FROM refunds"))


def count_open_payouts(database_url: str) -> int:
    """Return the number of payouts that wait or are on their way. Raise `psycopg.OperationalError` if that is down."""
    with psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=2) as connection:
        return len(still_open(connection))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a book's file, oldest first, without a last line that is written just now."""
    for line in path.read_bytes().splitlines(keepends=True):
        yield from json.loads(line) if line.endswith(b"\n") else []


def _as_stripe_writes(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the refunds of PayPal's book in the form of the other one."""
    for record in records:
        if record["kind"] == "refund":
            told = record["refund"]
            leg = leg_at_paypal(told)
            refund = {
                "id": told["refund_id"],
                "status": PAYPAL[told["status"]],
                "amount": int(Decimal(told["amount"]) * 100),
                "charge": told["capture_id"],
                "metadata": {"refund_worker_leg": leg} if leg else {},
            }
            yield {"kind": "refund", "refund": refund}
        elif record["kind"] == "changed":
            yield record | {"set": {"status": PAYPAL[record["set"]["status"]]}}


def leg_at_paypal(refund: Mapping[str, Any]) -> str:
    """Return our leg of a refund in PayPal's book; empty for a refund that a person made in the dashboard."""
    text = refund["custom_id"] or ""
    return str(text).split(",")[1] if text.startswith(OUR_MARK) else ""


def _at_both(at_stripe: Iterable[dict[str, Any]], at_paypal: Iterable[dict[str, Any]]) -> list[str]:
    """Return each leg for which refunds stand at both processors."""
    live = [{_leg_of(x) for x in things if x["status"] not in VOID} - {""} for things in (at_stripe, at_paypal)]
    return [f"{leg} stands at both processors" for leg in sorted(live[0] & live[1])]


def read_book(records: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the refunds in a book, and each case of two valid refunds for one leg at the same time.

    `was_live` is True for a refund that was not failed or canceled at some time: whoever saw it then asked a person.
    """
    things: dict[str, dict[str, Any]] = {}
    standing: defaultdict[str, set[str]] = defaultdict(set)
    double: dict[str, str] = {}
    for record in records:
        if record["kind"] == "refund":
            things[record["refund"]["id"]] = thing = dict(record["refund"], was_live=False)
        elif record["kind"] == "changed":
            thing = things[record["id"]]
            thing.update(record["set"])
        else:
            continue
        thing["was_live"] |= thing["status"] not in VOID
        leg = _leg_of(thing)
        if not leg:
            continue
        (standing[leg].discard if thing["status"] in VOID else standing[leg].add)(thing["id"])
        if len(standing[leg]) > 1:
            double[leg] = f"{leg} stood for {sorted(standing[leg])} at once"
    return list(things.values()), list(double.values())


def read_disputes(records: Iterable[dict[str, Any]]) -> tuple[dict[str, str], set[str]]:
    """Return the status of each dispute in Stripe's book by its id, and the charges that banks took back."""
    disputes: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["kind"] == "dispute":
            disputes[record["dispute"]["id"]] = dict(record["dispute"])
        elif record.get("id") in disputes:
            disputes[record["id"]].update(record.get("set", {}))
    lost = {dispute["charge"] for dispute in disputes.values() if dispute["status"] == "lost"}
    return {name: dispute["status"] for name, dispute in disputes.items()}, lost


def _outside(
    connection: psycopg.Connection[Any], things: list[dict[str, Any]], disputes: Mapping[str, str]
) -> list[str]:
    """Return the refunds of others and the disputes that are not recorded as they are at the processor."""
    claims = {object_id: (status, phase) for object_id, status, phase in _rows(connection, CLAIMS)}
    found = [
        f"{thing['id']} of others is {thing['status']} in the book and {claims.get(thing['id'])} here"
        for thing in things
        if not _leg_of(thing) and claims.get(thing["id"], ("", ""))[0] != thing["status"]
    ]
    found += [
        f"{name} is {status} in the book and {claims.get(name)} here"
        for name, status in disputes.items()
        if claims.get(name, ("", ""))[1] != PHASES[status]
    ]
    return found


def _leg_of(thing: Mapping[str, Any]) -> str:
    """Return our leg of the refund object; empty for a refund that a person made in the dashboard."""
    return str(thing["metadata"].get("refund_worker_leg", ""))


def _rows(connection: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()


def _money(
    connection: psycopg.Connection[Any], at_stripe: list[dict[str, Any]], at_paypal: list[dict[str, Any]]
) -> list[str]:
    theirs: Counter[str] = Counter()
    for processor, things in (("stripe", at_stripe), ("paypal", at_paypal)):
        for thing in things:
            if thing["status"] == "succeeded" and _leg_of(thing):
                theirs[f"{_leg_of(thing)} at processor:{processor}"] += thing["amount"]
    ours = {leg: int(amount) for leg, amount in _rows(connection, PAID_BY_LEG)}
    return [
        f"{leg}: the ledger says {ours.get(leg, 0)}, the book {theirs.get(leg, 0)}"
        for leg in sorted(ours.keys() | theirs.keys())
        if ours.get(leg, 0) != theirs.get(leg, 0)
    ]


def _sums(connection: psycopg.Connection[Any]) -> list[str]:
    found = [f"{row[0]} does not sum to zero" for row in _rows(connection, UNBALANCED)]
    found += [f"the balance of {row[0]} is not its ledger's" for row in _rows(connection, BALANCES)]
    for refund, status, credits, returned, paid_credits, paid, asked in _rows(connection, PAID_TO_END):
        if status in ENDS and returned + paid_credits != credits:
            found.append(f"{refund} of {credits} credits ended with {paid_credits} paid and {returned} given back")
        if status == "succeeded" and paid != asked:
            found.append(f"{refund} succeeded with {paid} of {asked}")
        if status == "failed" and paid:
            found.append(f"{refund} failed with {paid} paid")
    for refund, kind, to, status, credits, returned, left in _rows(connection, LEFT_ON_BALANCE):
        wanted = _left_on_balance(kind, to, status, credits, returned)
        if status in ENDS and left != wanted:
            found.append(f"{refund} ended with {left} credits on the balance instead of {wanted}")
    return found


def _left_on_balance(kind: str, to: str, status: str, credits: int, returned: int) -> int:
    if status in ("rejected", "canceled"):
        return 0
    if to == "balance":
        return int(credits) if status == "succeeded" else 0
    return int(returned) if kind == "credit_refund" else int(returned - credits)
