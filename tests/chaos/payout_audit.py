"""Compare the payouts in the books of both processors with our ledger by independent SQL, and the sums of payees.

A payout that waits for a person is not compared with the ledger, because the outcome may be unknown. It still pays at
most once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg

Record = Mapping[str, Any]
ENDS = {"settled", "failed", "returned", "canceled", "rejected"}
PAID, PERSON = {"paid", "settled"}, "needs_attention"
RETURNED = {"failed", "canceled"}
# PayPal has given these back to us, or never took them.
BACK_AT_PAYPAL = {"FAILED", "RETURNED", "BLOCKED", "REFUNDED", "REVERSED"}

PAYOUTS = "SELECT payout_id, status, amount_minor, payee_id FROM payouts"
LEGS = "SELECT leg_id, payout_id, step, amount_minor, coalesce(attention_code, failure_code) FROM payout_legs"
LEFT_BY_LEG = """
SELECT t.refers_to, sum(e.amount) FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
WHERE e.account = 'house:payouts' GROUP BY 1"""
# Only transfers and their reversals move money between our account at Stripe and one of a payee.
MOVED_BY_LEG = """
SELECT t.refers_to, -sum(e.amount) FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
JOIN payout_legs l ON l.leg_id = t.refers_to
WHERE e.account = 'processor:stripe' AND l.step IN ('transfer', 'reversal') GROUP BY 1"""
SUMS = """
SELECT b.payee_id, b.earned_minor, b.clawed_back_minor, b.in_flight_minor, b.paid_minor,
  (SELECT coalesce(sum(amount_minor), 0) FROM earnings e WHERE e.payee_id = b.payee_id),
  (SELECT coalesce(sum(clawed_back_minor), 0) FROM earnings e WHERE e.payee_id = b.payee_id),
  (SELECT coalesce(sum(amount_minor), 0) FROM payouts p WHERE p.payee_id = b.payee_id AND p.status <> ALL(%(void)s)),
  (SELECT coalesce(sum(amount_minor), 0) FROM payouts p WHERE p.payee_id = b.payee_id AND p.status = ANY(%(void)s)
     AND p.ledger_posted AND NOT p.given_back),
  (SELECT coalesce(sum(amount_minor), 0) FROM payouts p WHERE p.payee_id = b.payee_id AND NOT p.ledger_posted
     AND p.status <> ALL(%(void)s)),
  (SELECT coalesce(sum(amount), 0) FROM ledger_entries l WHERE l.account = 'payee:' || b.payee_id)
FROM payee_balances b"""
# The claw-back that each earning should have: its share of the credits that were refunded of its spend, by the ledger.
CLAWBACKS = """
SELECT e.earning_id, e.amount_minor, e.clawed_back_minor, s.spent, coalesce(r.returned, 0)
FROM earnings e
JOIN (SELECT transaction_id, -credits AS spent FROM ledger_transactions WHERE kind = 'spend') s USING (transaction_id)
LEFT JOIN (SELECT refers_to, sum(credits) AS returned FROM ledger_transactions WHERE kind = 'credit_refund'
  GROUP BY 1) r ON r.refers_to = e.transaction_id"""


@dataclass(slots=True)
class PayoutBooks:
    """The money of payouts in both books, by our leg. `double` are legs for which two objects stood at once."""

    moved: Counter[str] = field(default_factory=Counter)  # transfers, less what was reversed
    left: Counter[str] = field(default_factory=Counter)  # what reached a bank or a PayPal account and is there
    standing: Counter[str] = field(default_factory=Counter)  # what is there, or may still arrive
    open: set[str] = field(default_factory=set)  # what the processor has not decided
    legs: set[str] = field(default_factory=set)
    double: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PayoutFindings:
    """All differences as text; `people` are payouts that wait for a person, `unequal` the legs that differ."""

    double: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    mismatch: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    unequal: tuple[str, ...] = ()
    by_status: Mapping[str, int] = field(default_factory=dict)
    clawed_back: int = 0

    @property
    def clean(self) -> bool:
        """True if there is no difference. A payout that waits for a person is not counted."""
        return not (self.double or self.lost or self.mismatch or self.open)


@dataclass(frozen=True, slots=True)
class Asked:
    """What clients were promised: payouts by their key, and the ids of earnings."""

    payouts: Mapping[str, str]
    earnings: Set[str]


def audit_payouts(
    connection: psycopg.Connection[Any], at_stripe: Iterable[Record], at_paypal: Iterable[Record], asked: Asked
) -> PayoutFindings:
    """Compare the records of both books with the database as it is."""
    books = PayoutBooks()
    _read_stripe(books, at_stripe)
    _read_paypal(books, at_paypal)
    payouts = {row[0]: row[1:] for row in _rows(connection, PAYOUTS)}
    legs = {row[0]: row[1:] for row in _rows(connection, LEGS)}
    people = {payout_id for payout_id, (status, *_) in payouts.items() if status == PERSON}
    unequal = dict(_unequal(connection, books, legs, people))
    double = [*books.double, *_too_much(books, legs, payouts)]
    mismatch = [*unequal.values(), *_sums(connection), *_wrong_ends(books, legs, payouts)]
    mismatch += [f"nobody asked for {leg}" for leg in sorted(books.legs - legs.keys())]
    open_ = [f"{payout_id} is {status}" for payout_id, status in still_open(connection)]
    open_ += [f"{leg} is not decided at the processor" for leg in sorted(books.open)]
    reasons = defaultdict(set)
    for payout_id, _step, _amount, why in legs.values():
        if payout_id in people and why:
            reasons[payout_id].add(why)
    return PayoutFindings(
        tuple(double),
        tuple(_lost(connection, asked)),
        tuple(mismatch),
        tuple(open_),
        tuple(f"{p}: {', '.join(sorted(reasons[p]))}" for p in sorted(people)),
        tuple(unequal),
        Counter(status for status, *_ in payouts.values()),
        sum(int(row[2]) > 0 for row in _rows(connection, CLAWBACKS)),
    )


def still_open(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return the payouts that have not ended, are not paid and wait for no person, each with its status."""
    return [(row[0], row[1]) for row in _rows(connection, PAYOUTS) if row[1] not in ENDS | PAID | {PERSON}]


def _read_stripe(books: PayoutBooks, records: Iterable[Record]) -> None:
    payouts: dict[str, dict[str, Any]] = {}
    standing: defaultdict[str, set[str]] = defaultdict(set)
    made: Counter[str] = Counter()
    for record in records:
        kind = record["kind"]
        if kind in ("transfer", "reversal"):
            leg, amount = _leg(record[kind]), record[kind]["amount"]
            books.legs.add(leg)
            made[leg] += 1
            books.moved[leg] += amount if kind == "transfer" else -amount
            if made[leg] == 2:
                books.double.append(f"{leg} has two objects of the kind {kind}")
        elif kind == "payout":
            payouts[record["payout"]["id"]] = dict(record["payout"])
            _stand(books, standing, record["payout"])
        elif kind == "payout_changed":
            changed = payouts[record["id"]]
            changed.update(record["set"])
            _stand(books, standing, changed)
    for payout in payouts.values():
        leg, status = _leg(payout), payout["status"]
        books.legs.add(leg)
        books.left[leg] += payout["amount"] if status == "paid" else 0
        books.standing[leg] += 0 if status in RETURNED else payout["amount"]
        if status not in RETURNED and status != "paid":
            books.open.add(leg)


def _stand(books: PayoutBooks, standing: dict[str, set[str]], payout: Record) -> None:
    """Note if the payout stands, and if another one of its leg stands too."""
    its = standing[_leg(payout)]
    (its.discard if payout["status"] in RETURNED else its.add)(payout["id"])
    if len(its) > 1:
        books.double.append(f"{_leg(payout)} stood for {sorted(its)} at once")


def _read_paypal(books: PayoutBooks, records: Iterable[Record]) -> None:
    items: dict[str, dict[str, Any]] = {}
    standing: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        changed = record["items"] if record["kind"] == "payout" else ()
        for item in [record["item"]] if record["kind"] == "payout item" else changed:
            items[item["item_id"]] = item
            its = standing[_leg_of_item(item)]
            (its.discard if item["status"] in BACK_AT_PAYPAL else its.add)(item["item_id"])
            if len(its) > 1:
                books.double.append(f"{_leg_of_item(item)} stood for {sorted(its)} at once")
    for item in items.values():
        leg, status, amount = _leg_of_item(item), item["status"], int(Decimal(item["amount"]) * 100)
        books.legs.add(leg)
        books.left[leg] += amount if status == "SUCCESS" else 0
        books.standing[leg] += 0 if status in BACK_AT_PAYPAL else amount
        if status not in BACK_AT_PAYPAL and status != "SUCCESS":
            books.open.add(leg)


def _leg(thing: Record) -> str:
    return str(thing["metadata"].get("refund_worker_leg", f"{thing['id']} without our leg"))


def _leg_of_item(item: Record) -> str:
    return str(item["sender_item_id"]).rpartition(":")[0]


def _unequal(
    connection: psycopg.Connection[Any], books: PayoutBooks, legs: Mapping[str, tuple[Any, ...]], people: Set[str]
) -> Iterator[tuple[str, str]]:
    """Yield each leg whose money differs between ledger and book, with a text, unless it waits for a person."""
    for query, theirs in ((LEFT_BY_LEG, books.left), (MOVED_BY_LEG, books.moved)):
        ours = {leg: int(amount) for leg, amount in _rows(connection, query)}
        for leg in sorted(ours.keys() | theirs.keys()):
            if ours.get(leg, 0) != theirs[leg] and legs.get(leg, ("",))[0] not in people:
                yield leg, f"{leg}: the ledger says {ours.get(leg, 0)}, the book {theirs[leg]}"


def _too_much(
    books: PayoutBooks, legs: Mapping[str, tuple[Any, ...]], payouts: Mapping[str, tuple[Any, ...]]
) -> list[str]:
    """Return the payouts for which more stands than was asked for."""
    standing: Counter[str] = Counter()
    for leg, amount in books.standing.items():
        standing[legs.get(leg, ("",))[0]] += amount
    return [
        f"{payout_id} of {amount_minor} has {standing[payout_id]} at the payee"
        for payout_id, (_status, amount_minor, _payee) in payouts.items()
        if standing[payout_id] > amount_minor
    ]


def _wrong_ends(
    books: PayoutBooks, legs: Mapping[str, tuple[Any, ...]], payouts: Mapping[str, tuple[Any, ...]]
) -> list[str]:
    """Return the payouts whose status says something else than the books."""
    left, moved = Counter[str](), Counter[str]()
    for sums, theirs in ((left, books.left), (moved, books.moved)):
        for leg, amount in theirs.items():
            sums[legs.get(leg, ("",))[0]] += amount
    found = []
    for payout_id, (status, amount, _payee) in payouts.items():
        if status in PAID and left[payout_id] != amount:
            found.append(f"{payout_id} of {amount} is {status}, and {left[payout_id]} is at the payee")
        if status in ENDS - PAID and (left[payout_id] or moved[payout_id]):
            found.append(f"{payout_id} is {status}: {left[payout_id]} is at the payee, {moved[payout_id]} was moved")
    return found


def _sums(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Yield the payees whose stored sums are not those of the rows or of the ledger, and wrong claw-backs."""
    void = {"void": sorted(ENDS - PAID)}
    for row in connection.execute(SUMS.encode(), void).fetchall():
        payee_id, earned, clawed, in_flight, paid, *others = row
        earnings, clawbacks, asked, kept, unposted, ledger = map(int, others)
        if (earned, clawed) != (earnings, clawbacks):
            yield f"{payee_id} earned {earned} less {clawed}, its earnings say {earnings} less {clawbacks}"
        if in_flight + paid != asked or kept:
            yield f"{payee_id} has {in_flight} in flight and {paid} paid, its payouts say {asked}; {kept} was kept"
        if earned - clawed - in_flight - paid != ledger - unposted:
            yield f"the balance of {payee_id} is not its ledger's {ledger}"
    for earning_id, amount, clawed, spent, returned in _rows(connection, CLAWBACKS):
        wanted = (2 * int(amount) * min(int(returned), int(spent)) + int(spent)) // (2 * int(spent))
        if clawed != wanted:
            yield f"{clawed} of {earning_id} was clawed back instead of {wanted}"


def _lost(connection: psycopg.Connection[Any], asked: Asked) -> Iterator[str]:
    keys = dict(_rows(connection, "SELECT idempotency_key, payout_id FROM payouts"))
    known = {row[0] for row in _rows(connection, "SELECT earning_id FROM earnings")}
    for key, payout_id in asked.payouts.items():
        if keys.get(key) != payout_id:
            yield f"{key} was promised {payout_id}, there is {keys.get(key)}"
    yield from (f"the earning {earning_id} was accepted and is not there" for earning_id in asked.earnings - known)


def _rows(connection: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()
