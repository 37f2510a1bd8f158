"""The invariants at every commit and every send, by independent code: sums over the tables and the processor's book.

- I1 at most one valid refund object a leg: `Bank.check_one_for_each_leg`, `Watch.created` (across the legs of a refund)
- I2 never more than was captured: `Bank.create` (the processor's book), `Watch._check_accounts` (ours)
- I3 postings sum to zero, balances equal the ledger: `_read_ledger`, `_check_accounts`
- I4 rows never change: `statement_gate.FOR_EVER`, `final_checks._check_nothing_changed`
- I5 statuses only change as the table allows: `_check_refund`, `_check_leg`, `_read_refunds` (objects)
- I6 one key, one refund, one body: `_check_refund`, `Schedule._request`
- I7 every open refund has a due time: `_read_refunds`
- I8 no send without a committed intent: `sending`
- I9 one key, one body: `sending`, `_check_leg`
- I10 a new attempt only after proof, and no replay of a key that may have expired: `_check_proof`, `_check_age`
- I11 no write without an own lease: `_check_refund`
- I12 each object is paid once: `_check_payout`
- I13 no transaction is open during a call: `calling`
- I14 no secret in a row: `final_checks._check_no_secret`
- I15 above the threshold only with a second person, and never above the velocity limit: `_check_limits`,
  `_check_approval`
- I16 no payment is repeated that others have made, as far as a list had shown it: `_check_others`
- I19 the actor of an event is the person who acted: `_check_actor`
- L1 nothing is abandoned or left to a person without a cause: `_check_cause`, `_check_attention`, `_check_limits`

This code calls neither the engine nor the domain. It deliberately repeats the tables of allowed status changes.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from refund_worker.domain.decision import Policy
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    Refused,
    UnknownRefusal,
)
from tests.simulation.bank import Bank
from tests.simulation.bank_records import KEY_SECONDS, LATE_SECONDS_MAX, BankRefund, Sent
from tests.simulation.database import GatedConnection
from tests.simulation.kernel import Process, Violation, World

REACHED = {"pending", "requires_action", "succeeded", "failed", "canceled"}
# Blocked: by the payment itself, before the send; or by an object that failed because the balance was empty.
LEG_MOVES = {
    "planned": {"sending", "blocked"} | REACHED,
    "sending": {"waiting", "unknown", "blocked"} | REACHED,
    "waiting": {"sending", "unknown", "blocked"} | REACHED,
    "unknown": {"sending", "waiting", "blocked"} | REACHED,
    "blocked": {"sending", "unknown", "waiting"} | REACHED,
    "pending": {"blocked"} | REACHED,
    "requires_action": {"blocked"} | REACHED,
    "succeeded": {"failed", "canceled"},
    "failed": {"canceled"},
    "canceled": {"failed"},
}
# Only if the processor contradicts an operator.
LEG_CONTRADICTED = {"succeeded": REACHED, "failed": REACHED, "canceled": REACHED}
_BY_LEGS = {
    "sending",
    "pending",
    "reversing",
    "needs_attention",
    "succeeded",
    "partially_succeeded",
    "failed",
}
REFUND_MOVES = {
    "awaiting_approval": {"queued", "rejected", "canceled"},
    "queued": {"canceled"} | _BY_LEGS,
    "sending": _BY_LEGS,
    "pending": _BY_LEGS,
    "reversing": _BY_LEGS,
    "needs_attention": _BY_LEGS,
    "succeeded": {"reversing", "needs_attention", "failed", "partially_succeeded"},
    "partially_succeeded": {"reversing", "needs_attention", "failed", "succeeded"},
    "failed": set(),
    "rejected": set(),
    "canceled": set(),
}
OBJECT_RANKS = {None: 0, "pending": 1, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
ENDS = {"succeeded", "partially_succeeded", "failed", "rejected", "canceled"}
GONE = {"failed", "canceled"}
# Highest number of claims in an hour of virtual time without faults, for each leg of the refund.
CLAIMS_AN_HOUR = 40
# Replies that prove to the sender that the call was not executed, or that it was executed without effect.
NOT_EXECUTED = (Busy, NotSent, Denied)
MADE_NOTHING = (Refused, Blocked, AlreadyRefunded, Misconfigured, UnknownRefusal)
SYSTEM = ("processor", "refund-worker")
# This long after the last fault no processor can be called unreachable.
REACHABLE_AFTER_SECONDS = 2 * 86_400
# Longest time from the claim that a list allows to the call, in addition to a lease.
LIST_SLACK_SECONDS = 180
# Window of the limits, the production default.
WINDOW_SECONDS = 86_400

Row = dict[str, Any]


@dataclass(slots=True)
class Watch:
    """Stores a copy of all rows, and checks what each commit changed."""

    world: World
    bank: Bank
    connection: GatedConnection
    policy: Policy
    threshold: int | None
    velocity_count: int | None = None
    calm_since: float | None = None  # faults have ended: loops are bounded from here on
    open: int = 0
    commits: int = 0
    refunds: dict[str, Row] = field(default_factory=dict)
    seen_since: dict[str, float] = field(default_factory=dict)
    legs: dict[str, Row] = field(default_factory=dict)
    objects: dict[str, str | None] = field(default_factory=dict)
    sums: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    transactions: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    paid: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    contradicted: set[str] = field(default_factory=set)
    approved_by: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)  # legs, by a person
    asked: dict[str, tuple[int, int]] = field(default_factory=dict)  # money and credits, by refund
    by_hand: set[str] = field(default_factory=set)  # legs that a person called paid
    paid_in_doubt: set[str] = field(default_factory=set)  # legs that a person called paid while in doubt
    # Refunds of others that a retry has accepted, by refund and payment.
    accepted_others: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    acted: set[str] = field(default_factory=set)  # persons who have acted
    on_doubt: Callable[[Row], None] = lambda _leg: None
    intents: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # true time, database's time
    claims: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    next_due: float | None = None

    # --- a commit ----------------------------------------------------------------------------------------------------

    def committed(self, process: Process | None) -> None:
        """Check everything that the commit of this process changed."""
        self.commits += 1
        self._read_events()
        self._read_ledger()
        self._read_refunds(process)
        self._check_accounts()

    def rows(self, sql: str, *parameters: object) -> list[Row]:
        """Return the rows of a query as dictionaries."""
        cursor = self.connection.raw(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _read_events(self) -> None:
        sql = "SELECT seq, refund_id, kind, actor, leg_id, alarm, detail FROM events WHERE seq > ? ORDER BY seq"
        for row in self.connection.raw(sql, (self.events[-1][0] if self.events else 0,)):
            self.events.append(row)
            _, refund_id, kind, actor, leg_id, alarm, _ = row
            self.world.note("EVENT", refund_id, kind, leg_id, actor)
            if kind == "processor_contradicts":
                self.contradicted.add(refund_id)
                if not alarm:
                    raise Violation(f"I5 the processor contradicted an operator on {refund_id} without an alarm")
            if kind == "refund_approved":
                self.approved_by[refund_id] = actor
            if kind == "leg_given_up" and actor not in SYSTEM:
                self.given_up.add(leg_id)
            self._check_actor(row)
            self._note_words_of_people(refund_id, kind, leg_id)
            if kind == "internal_error":  # the engine survives, but the error itself is the finding
                raise Violation(f"L1 this program broke on {refund_id}")

    def _check_actor(self, event: tuple[Any, ...]) -> None:
        """Check I19: the actor of an event must be a person who has acted, or the system."""
        _, refund_id, kind, actor, *_ = event
        if actor not in SYSTEM and actor not in self.acted:
            raise Violation(f"I19 {kind} of {refund_id} is said to be of {actor}, who has done nothing")

    def _note_words_of_people(self, refund_id: str, kind: str, leg_id: str | None) -> None:
        if kind == "leg_paid_by_hand" and leg_id:
            self.by_hand.add(leg_id)
        if kind == "leg_paid_by_hand" and leg_id and self.legs[leg_id]["status"] == "unknown":
            self.paid_in_doubt.add(leg_id)
        if kind == "retry_requested":  # the person who retries has seen the lists
            for known, leg in self.legs.items():
                if leg["refund_id"] == refund_id and known in self.bank.listings:
                    accepted = self.accepted_others[refund_id, leg["processor_payment_id"]]
                    accepted |= self.bank.listings[known].others

    def _read_ledger(self) -> None:
        """Check I3 and I12: new postings sum to zero; each refund object pays once, and is reversed at most once."""
        last = self.transactions[-1][0] if self.transactions else 0
        sql = "SELECT seq, transaction_id, customer_id, kind, credits, refers_to, refund_id FROM ledger_transactions"
        new = self.connection.raw(f"{sql} WHERE seq > ? ORDER BY seq", (last,)).fetchall()
        if not new:
            return
        last = self.entries[-1][0] if self.entries else 0
        sql = "SELECT seq, transaction_id, account, unit, amount FROM ledger_entries WHERE seq > ? ORDER BY seq"
        balance: dict[tuple[str, str], int] = defaultdict(int)
        for row in self.connection.raw(sql, (last,)):
            self.entries.append(row)
            _, transaction_id, account, unit, amount = row
            balance[transaction_id, unit] += amount
            self.sums[account, unit] += amount
        for (transaction_id, unit), total in balance.items():
            if total:
                raise Violation(f"I3 {transaction_id} is {total} {unit} off zero")
        for row in new:
            self.transactions.append(row)
            self._check_payout(row)

    def _check_payout(self, row: tuple[Any, ...]) -> None:
        _, transaction_id, _, kind, _, leg_id, _ = row
        if kind not in ("payout", "payout_reversal"):
            return
        # …-payout-1-re_7, …-payout_reversal-1-manual:x
        name = (leg_id, transaction_id.split(f"-{kind}-", 1)[1])
        self.paid[name] += 1 if kind == "payout" else -1
        if self.paid[name] not in (0, 1):
            raise Violation(f"I12 {transaction_id}: {self.paid[name]} payouts of one refund object")
        if sum(n for (leg, _), n in self.paid.items() if leg == leg_id) > 1:
            raise Violation(f"I12 {leg_id} is paid out twice in the ledger")

    def _read_refunds(self, process: Process | None) -> None:
        """Check I5, I6, I7 and I11: changed rows, the process that changed them, due times of open refunds."""
        self.next_due = None
        self.open = 0
        known, new = list(self.refunds), []
        for row in self.rows("SELECT * FROM refunds"):
            refund_id = row["refund_id"]
            before = self.refunds.get(refund_id)
            if before != row:
                if before is not None:
                    self._check_refund(before, row, process)
                else:
                    new.append(row)
                    self.seen_since[refund_id] = self.world.now
                self.refunds[refund_id] = row
            self.open += row["status"] not in ENDS
            if row["due_at"] is not None:
                due = max(row["due_at"], row["lease_until"] or 0)
                self.next_due = due if self.next_due is None else min(due, self.next_due)
            elif row["status"] in ("queued", "sending", "pending", "reversing"):
                raise Violation(f"I7 {refund_id} is {row['status']} and nothing will wake it")
        for row in self.rows("SELECT * FROM legs"):
            before = self.legs.get(row["leg_id"])
            if before != row:
                if before is not None:
                    self._check_leg(before, row)
                self._note_intent(row)
                self.legs[row["leg_id"]] = row
        self._check_asked()
        self._check_limits([self.refunds[refund_id] for refund_id in known], new)
        for object_id, state in self.connection.raw("SELECT processor_refund_id, state FROM refund_objects"):
            if OBJECT_RANKS[state] < OBJECT_RANKS[self.objects.get(object_id)]:
                raise Violation(f"I5 {object_id} goes back from {self.objects[object_id]} to {state}")
            self.objects[object_id] = state

    def _check_asked(self) -> None:
        """Check I9: the money and credits of a refund stay as accepted, even if legs are replaced."""
        asked: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for leg in self.legs.values():
            if leg["replaces"] is None:
                money, credits = asked[leg["refund_id"]]
                asked[leg["refund_id"]] = (money + leg["amount_minor"], credits + leg["credits"])
        for refund_id, whole in asked.items():
            if self.asked.setdefault(refund_id, whole) != whole:
                raise Violation(f"I9 {refund_id} asked for {self.asked[refund_id]} and asks for {whole} now")

    def _check_refund(self, before: Row, row: Row, process: Process | None) -> None:
        refund_id, was, now = row["refund_id"], before["status"], row["status"]
        if was != now:
            self.world.note("STATUS", refund_id, was, now)
            allowed = _BY_LEGS if refund_id in self.contradicted else REFUND_MOVES[was]
            if now not in allowed:
                raise Violation(f"I5 {refund_id} went from {was} to {now}")
        if row["version"] <= before["version"]:
            raise Violation(f"I5 {refund_id} changed without a new version")
        for name in ("client", "idempotency_key", "body", "credits", "kind", "to", "customer_id", "created_at"):
            if before[name] != row[name]:
                raise Violation(f"I6 {refund_id}: {name} changed")
        if process is None or process.intent not in ("claim", "record"):
            return
        if process.intent == "record":
            held = before["lease_token"] == process.token and (before["lease_until"] or 0) > self.world.database_now
            if not held:
                raise Violation(f"I11 {process.name} wrote to {refund_id} without a lease of its own")
        else:
            if before["lease_until"] is not None and before["lease_until"] > self.world.database_now:
                raise Violation(f"I11 {process.name} claimed {refund_id} while it was leased")
            self._count_claim(refund_id)

    def _check_limits(self, earlier: list[Row], new: list[Row]) -> None:
        """Check I15: the total in the window decides. It includes all requests that no person rejected or canceled."""
        if self.threshold is None and self.velocity_count is None:
            if any(row["status"] == "awaiting_approval" for row in new):
                raise Violation("L1 a refund waits for an approval though there is no threshold")
            return
        for row in sorted(new, key=lambda refund: str(refund["refund_id"])):
            earlier.append(row)
            since = row["created_at"] - WINDOW_SECONDS
            asked = [r for r in earlier if r["created_at"] >= since and r["status"] not in ("rejected", "canceled")]
            for whose in ("customer_id", "requested_by"):
                count = sum(refund[whose] == row[whose] for refund in asked)
                if self.velocity_count is not None and count > self.velocity_count:
                    raise Violation(f"I15 {row['refund_id']} is number {count} in the window for {row[whose]}")
            its = {refund["refund_id"] for refund in asked if refund["customer_id"] == row["customer_id"]}
            above = self.threshold is not None and self._highest_total(row["refund_id"], its) > self.threshold
            if above and row["status"] != "awaiting_approval":
                raise Violation(f"I15 {row['refund_id']} brings the window above the threshold and waits for nobody")
            if not above and row["status"] == "awaiting_approval":
                raise Violation(f"L1 {row['refund_id']} waits for an approval that no total asks for")

    def _highest_total(self, refund_id: str, its: set[str]) -> int:
        """Return the highest total in one of the refund's currencies."""
        first = [leg for leg in self.legs.values() if leg["refund_id"] in its and leg["replaces"] is None]
        totals: Counter[str] = Counter()
        for leg in first:
            totals[leg["currency"]] += leg["amount_minor"]
        return max((totals[leg["currency"]] for leg in first if leg["refund_id"] == refund_id), default=0)

    def _count_claim(self, refund_id: str) -> None:
        if self.calm_since is None:
            return
        claims = self.claims[refund_id]
        claims.append(self.world.now)
        while claims[0] < self.world.now - 3_600:
            claims.popleft()
        legs = sum(leg["refund_id"] == refund_id for leg in self.legs.values())
        if len(claims) > CLAIMS_AN_HOUR * max(legs, 1):
            raise Violation(f"L8 {refund_id} was worked on {len(claims)} times in an hour: a hot loop")

    def _note_intent(self, leg: Row) -> None:
        if leg["status"] == "sending":
            self.intents.setdefault((leg["leg_id"], leg["attempt"]), (self.world.now, self.world.database_now))
        elif leg["last_sent_at"] is None:  # it was never sent: as if there had been no intent
            self.intents.pop((leg["leg_id"], leg["attempt"]), None)

    def _check_leg(self, before: Row, row: Row) -> None:
        leg_id, was, now = row["leg_id"], before["status"], row["status"]
        if was != now:
            self.world.note("LEG", leg_id, was, now)
            if now not in self._leg_moves(before, row):
                raise Violation(f"I5 {leg_id} went from {was} to {now}")
        if now in GONE and was not in GONE and row["amount_minor"]:
            self._check_cause(row)
        if was != now and now in ("unknown", "blocked"):
            self.on_doubt(row)
        if row["attention"] and row["attention"] != before["attention"]:
            self._check_attention(row)
        if row["attempt"] < before["attempt"]:
            raise Violation(f"I5 {leg_id} went back to attempt {row['attempt']}")
        if row["attempt"] == before["attempt"] and row["sends"] < before["sends"]:
            raise Violation(f"I5 {leg_id} forgot that it was sent")
        # An unsent leg may be reduced to the remaining amount of its payment. Another leg then gets the rest.
        fixed = ("currency", "payment_id", "processor_payment_id")
        amounts = ("amount_minor", "credits", "payment_credits")
        for name in fixed if before["last_sent_at"] is None else (*fixed, *amounts):
            if before[name] != row[name]:
                raise Violation(f"I9 {leg_id}: {name} changed")

    def _leg_moves(self, before: Row, row: Row) -> Collection[str]:
        """Return the statuses that the leg may get after `before`, given what was reported since."""
        was, allowed = before["status"], LEG_MOVES[before["status"]]
        if row["refund_id"] in self.contradicted or str(before["processor_refund_id"]).startswith("manual:"):
            allowed = allowed | LEG_CONTRADICTED.get(was, set())
        if not before["settled"] and str(row["processor_refund_id"]).startswith("manual:"):
            allowed = allowed | {"succeeded"}  # a person reported it paid before its money was allocated elsewhere
        if row["attention"] == "insufficient_funds" and was not in GONE | {"succeeded"}:
            allowed = allowed | {"blocked"}  # its object failed; the next attempt has not begun
        return allowed

    def _check_accounts(self) -> None:
        """Check I2 and I3: balances equal the ledger, and neither credits nor payments are used twice."""
        sql = "SELECT customer_id, balance, held FROM customers"
        for customer_id, balance, held in self.connection.raw(sql):
            total = self.sums.get((f"customer:{customer_id}", "credits"), 0)
            if total != balance:
                raise Violation(f"I3 customer {customer_id} has {balance}, the ledger says {total}")
            if balance < held and not self.contradicted:
                raise Violation(f"I2 customer {customer_id} has {balance} of which {held} are held")
        taken: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for leg in self.legs.values():
            if leg["status"] not in GONE:
                taken[leg["payment_id"]][0] += leg["payment_credits"]
                taken[leg["payment_id"]][1] += leg["amount_minor"]
        sql = "SELECT payment_id, credits, amount_minor, credits_taken, money_taken FROM payments"
        for payment_id, credits, amount, credits_taken, money_taken in self.connection.raw(sql):
            its_credits, its_money = taken[payment_id]
            full = (
                (min(its_credits, credits), min(its_money, amount)) if self.contradicted else (its_credits, its_money)
            )
            if (credits_taken, money_taken) != full:
                raise Violation(f"I2 {payment_id}: {(credits_taken, money_taken)} taken, its legs say {full}")

    # --- failures and attention --------------------------------------------------------------------------------------

    def _check_cause(self, leg: Row) -> None:
        """Check L1: money is abandoned only for a refusal that arrived, a void refund object, or a person's action."""
        key = f"{leg['leg_id']}:{leg['attempt']}"
        refused = any(isinstance(sent.told, Refused) for sent in self.bank.sent.get(key, ()))
        void = any(item.id == leg["processor_refund_id"] and item.is_void for item in self.bank.refund_objects)
        released = self.refunds[leg["refund_id"]]["status"] in ("canceled", "rejected")
        if not (refused or void or released or leg["leg_id"] in self.given_up):
            raise Violation(f"L1 {leg['leg_id']} is {leg['status']}, and neither the processor nor a person said so")

    def _check_attention(self, leg: Row) -> None:
        """Check L1: the reason for attention must be true of this leg at this moment."""
        leg_id, reason, bank = leg["leg_id"], leg["attention"], self.bank
        payment = bank.payments.get(leg["processor_payment_id"])
        refund_objects = [item for item in bank.refund_objects if item.leg_id == leg_id]
        calm = self.calm_since is not None and self.world.now >= self.calm_since + REACHABLE_AFTER_SECONDS
        causes: dict[str, Callable[[], bool]] = {
            "resource_missing": lambda: payment is None,
            "charge_disputed": lambda: payment is not None and payment.disputed,
            "charge_already_refunded": lambda: self._others_paid(leg),
            "refunded_elsewhere": lambda: self._others_paid(leg),
            "payment_mismatch": lambda: leg["processor_payment_id"] in bank.recorded_wrong,
            "unknown_refusal": lambda: self._was_told(leg, UnknownRefusal),
            "refunded_twice": lambda: leg_id in self.by_hand and any(set(item.words) - GONE for item in refund_objects),
            "insufficient_funds": lambda: any(item.failure == "insufficient_funds" for item in refund_objects),
            "balance_insufficient": lambda: self._was_told(leg, Blocked),
            "outcome_unknown": lambda: self._was_silent_too_long(leg, refund_objects),
            "answer_mismatch": lambda: leg_id in bank.falsified or any(t.mark == leg_id for t in bank.of_others()),
            "unknown_status": lambda: any(word not in REACHED for item in refund_objects for word in item.words),
            "processor_unreachable": lambda: not calm,
        }
        cause = causes.get(reason)
        good = leg["processor"] == "manual" or (cause is not None and cause())
        if not good:
            raise Violation(f"L1 {leg_id} is left to a person as {reason}, which it is not")

    def _others_paid(self, leg: Row) -> bool:
        return any(t.payment == leg["processor_payment_id"] for t in self.bank.of_others())

    def _was_told(self, leg: Row, kind: type) -> bool:
        keys = [f"{leg['leg_id']}:{number}" for number in range(1, leg["attempt"] + 1)]
        return any(isinstance(sent.told, kind) for key in keys for sent in self.bank.sent.get(key, ()))

    def _was_silent_too_long(self, leg: Row, refund_objects: list[BankRefund]) -> bool:
        """Return True if the key's life has passed without a visible refund.

        The time counts from the first intent of this attempt, by either clock. No list during the lease may have shown
        a refund that is not void.
        """
        true, dated = self.intents[leg["leg_id"], leg["attempt"]]
        age = max(self.world.now - true, self.world.database_now - dated)
        seen = [
            t for t in refund_objects if t.listed_from < self.world.now - self.policy.lease_seconds and not t.is_void
        ]
        return age >= self.policy.key_life_seconds and not seen

    # --- the processor -----------------------------------------------------------------------------------------------

    def created(self, refund_object: BankRefund) -> None:
        """Check I1 across legs: the replacement of a failed leg must not be paid in addition to it."""
        if refund_object.leg_id is None:
            return
        refund_id = self.legs[refund_object.leg_id]["refund_id"]
        legs = {leg["leg_id"]: leg for leg in self.legs.values() if leg["refund_id"] == refund_id}
        asked = sum(leg["amount_minor"] for leg in legs.values() if leg["replaces"] is None)
        # A leg that a person called paid in doubt may have been paid by us too. That person accepted the risk.
        by_hand = sum(
            leg["amount_minor"]
            for leg in legs.values()
            if str(leg["processor_refund_id"]).startswith("manual:") and leg["leg_id"] not in self.paid_in_doubt
        )
        paid = sum(t.amount for t in self.bank.refund_objects if t.leg_id in legs and not t.is_void)
        if paid + by_hand > asked:
            raise Violation(f"I1 {refund_id}: {paid} paid by the processor and {by_hand} by hand, of {asked}")

    # --- a send ------------------------------------------------------------------------------------------------------

    def calling(self, what: str) -> None:
        """Check I13: no transaction is open during a call."""
        if self.connection.in_transaction:
            raise Violation(f"I13 a transaction is open during a {what}")

    def sending(self, key: str, body: str) -> None:
        """Check I8, I9, I10, I15 and I16 before a request leaves."""
        order = json.loads(body)
        leg_id, attempt = order["leg"], order["attempt"]
        if key != f"{leg_id}:{attempt}":
            raise Violation(f"I8 the key {key} is not the one of {leg_id}, attempt {attempt}")
        stored = self.rows("SELECT * FROM attempts WHERE key = ?", key)
        if len(stored) != 1 or stored[0]["body"] != body:
            raise Violation(f"I8 {key} is sent without a committed intent of the same body")
        if self.bank.bodies.setdefault(key, body) != body:
            raise Violation(f"I9 {key} is sent with another body")
        self._check_proof(leg_id, attempt)
        self._check_others(leg_id, attempt, key)
        self._check_age(key)
        self._check_approval(leg_id)

    def _check_proof(self, leg_id: str, attempt: int) -> None:
        if f"{leg_id}:{attempt}" in self.bank.sent:
            return
        for number in range(1, attempt):
            sent = self.bank.sent.get(f"{leg_id}:{number}")
            if sent and not self._is_proved(leg_id, number, sent):
                raise Violation(f"I10 {leg_id} begins attempt {attempt} without proof that {number} made nothing")

    def _check_others(self, leg_id: str, attempt: int, key: str) -> None:
        """Check I16: a new attempt needs a recent list.

        No refund is sent in addition to a refund that a list has shown others to have made.
        """
        if leg_id in self.paid_in_doubt:
            raise Violation(f"I16 {leg_id} is sent although a person has called it paid")
        listing = self.bank.listings.get(leg_id)
        if attempt > 1 and key not in self.bank.sent:
            # Use the time of the intent: a worker can die or freeze before the call, and then the key is sent again.
            begun, _ = self.intents[leg_id, attempt]
            oldest = begun - max(self.policy.lease_seconds, self.policy.poll_seconds) - LIST_SLACK_SECONDS
            if listing is None or listing.at < oldest:
                raise Violation(f"I16 {leg_id} begins attempt {attempt} without a look at what others have paid")
        last = sent[-1].at if (sent := self.bank.sent.get(key)) else self.intents[leg_id, attempt][0]
        recent = max(self.policy.lease_seconds, self.policy.poll_seconds) + LIST_SLACK_SECONDS
        if self.world.now - last > recent and (listing is None or listing.at < self.world.now - recent):
            raise Violation(f"I16 {key} is sent again after {self.world.now - last:.0f} s without a look at the list")
        leg = self.legs[leg_id]
        seen = self.accepted_others[leg["refund_id"], leg["processor_payment_id"]]
        if listing is not None and (unseen := listing.others - seen) and not self._is_explained(leg, unseen):
            raise Violation(f"I16 {leg_id} is sent beside {', '.join(sorted(unseen))}, which others have paid")

    def _is_explained(self, leg: Row, others: Collection[str]) -> bool:
        """Return True if the refunds that others made are explained by reported manual payments.

        Only refunds from before this leg's first intent can be explained.
        """
        begun, dated = self.intents[leg["leg_id"], 1]
        refund_objects = [item for item in self.bank.refund_objects if item.id in others]
        by_hand = sum(
            other["amount_minor"]
            for other in self.legs.values()
            if other["payment_id"] == leg["payment_id"] and str(other["processor_refund_id"]).startswith("manual:")
        )
        newer = begun == dated and any(item.created > begun for item in refund_objects)
        return not newer and sum(item.amount for item in refund_objects) <= by_hand

    def _is_proved(self, leg_id: str, number: int, sent: list[Sent]) -> bool:
        """Return True if it is proved that the attempt moved no money.

        That is so if all its objects are void, if each send was answered, if one answer is valid for every copy, or if
        the quiet window has passed.
        """
        refund_objects = [item for item in self.bank.refund_objects if (item.leg_id, item.attempt) == (leg_id, number)]
        if refund_objects:
            return all(item.is_void for item in refund_objects)
        if self.world.now - sent[-1].at >= self.policy.quiet_seconds:
            return True
        if all(isinstance(one.told, NOT_EXECUTED + MADE_NOTHING) for one in sent):
            return True
        # The answer was stored under the key for longer than any copy of a send can be in transit.
        kept = sent[0].at + KEY_SECONDS >= sent[-1].at + LATE_SECONDS_MAX
        told = (sent_once.told for sent_once in sent)
        return kept and any(isinstance(reply, (*MADE_NOTHING, Denied)) and reply.replayed for reply in told)

    def _check_age(self, key: str) -> None:
        """Check I10: no request that may have been executed is repeated once its key may have expired.

        The check uses true time. The sends of a claim leave within its lease.
        """
        doubtful = [sent.at for sent in self.bank.sent.get(key, ()) if not isinstance(sent.told, NOT_EXECUTED)]
        if doubtful and self.world.now - doubtful[0] >= self.policy.key_life_seconds + self.policy.lease_seconds:
            raise Violation(f"I10 {key} is sent again blindly after {self.world.now - doubtful[0]:.0f} s")

    def _check_approval(self, leg_id: str) -> None:
        if self.threshold is None:
            return
        refund = self.refunds[self.legs[leg_id]["refund_id"]]
        asked = sum(
            leg["amount_minor"]
            for leg in self.legs.values()
            if leg["refund_id"] == refund["refund_id"] and leg["replaces"] is None
        )
        by = self.approved_by.get(refund["refund_id"])
        if asked > self.threshold and (by is None or by == refund["requested_by"]):
            raise Violation(f"I15 {leg_id} is sent without a second person's approval")
