"""The invariants at every commit and every send, by independent code: sums over the tables and the processor's book.

- I1 at most one valid refund object a leg: `Bank.check_one_for_each_leg`, `Watch.created` (across the legs of a refund)
- I2 never more than was captured: `Bank.create` (the processor's book), `Watch._check_accounts` (ours)
- I3 postings sum to zero, balances equal the ledger: `_read_ledger`, `_check_accounts`
- I4 rows never change: `statement_gate.FOR_EVER`, `final_checks._check_nothing_changed`
- I5 statuses only change as `allowed_changes` says: `_check_refund`, `_check_leg`, `_read_refunds` (objects)
- I6 one key, one refund, one body: `_check_refund`, `People._request`
- I7 every open refund has a due time: `_read_refunds`
- I8 no send without a committed intent: `check_sending`
- I9 one key, one body: `check_sending`, `_check_leg`
- I10 a new attempt only after proof, and no replay of a key that may have expired: `send_checks._check_proof`,
  `send_checks._check_age`
- I11 no write without an own lease: `_check_refund`
- I12 each object is paid once: `_check_payout`
- I13 no transaction is open during a call: `check_calling`
- I14 no secret in a row: `final_checks._check_no_secret`
- I15 above the threshold only with a second person, and never above the velocity limit: `_check_limits`,
  `send_checks._check_approval`
- I16 no payment is repeated that others have made, as far as a list had shown it: `send_checks._check_others`
- I19 the actor of an event is the person who acted: `_check_actor`
- L1 nothing is abandoned or left to a person without a cause: `check_cause`, `check_attention`, `_check_limits`

This code calls neither the engine nor the domain. It deliberately repeats the tables of allowed status changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tests.simulation.account_checks import check_new_leg, check_ways, note_pauses
from tests.simulation.allowed_changes import (
    BY_LEGS,
    ENDS,
    GONE,
    LEG_CONTRADICTED,
    LEG_MOVES,
    OBJECT_RANKS,
    REFUND_MOVES,
)
from tests.simulation.attention_checks import check_attention, check_cause
from tests.simulation.bank_records import BankRefund
from tests.simulation.kernel import Process, Violation
from tests.simulation.watched import Row, Watched

SYSTEM = ("processor", "refund-worker")
# Highest number of claims in an hour of virtual time without faults, for each leg of the refund.
CLAIMS_AN_HOUR = 40
# Window of the limits, the production default.
WINDOW_SECONDS = 86_400


@dataclass(slots=True)
class Watch(Watched):
    """Stores a copy of all rows, and checks what each commit changed."""

    def committed(self, process: Process | None) -> None:
        """Check everything that the commit of this process changed."""
        self.commits += 1
        self._read_events()
        note_pauses(self)
        for (object_id,) in self.connection.raw("SELECT object_id FROM claims"):
            self.claimed_at.setdefault(object_id, self.world.now)
        known = len(self.transactions)
        self._read_ledger()
        self._read_refunds(process)
        check_ways(self, self.transactions[known:])
        self._check_accounts()

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
            if kind == "refund_returning" and actor not in SYSTEM:
                self.returned_by_person.add(refund_id)
            if kind == "leg_displaced":
                self.displaced.add(leg_id)
            if kind == "linked":
                self.linked.add(leg_id)
                self.with_links.add(refund_id)
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
        said_paid = kind in ("leg_paid_by_hand", "linked")
        if said_paid and leg_id:
            self.by_hand.add(leg_id)
        leg = self.legs.get(leg_id or "")
        if said_paid and leg and leg["status"] in GONE:
            self.paid_apart.add(leg["leg_id"])
        if said_paid and leg and (leg["status"] in ("unknown", "pending") or self._is_unproved(leg)):
            self.paid_in_doubt.add(leg["leg_id"])
        if kind == "retry_requested":  # the person who retries has seen the lists
            for known, leg in self.legs.items():
                if leg["refund_id"] == refund_id and known in self.bank.listings:
                    accepted = self.accepted_others[refund_id, leg["processor_payment_id"]]
                    accepted |= self.bank.listings[known].others

    def _is_unproved(self, leg: Row) -> bool:
        """Return True if a person decided about a call whose outcome the silent processor will perhaps tell later."""
        return self.is_silent(leg) and leg["attention"] == "outcome_unknown"

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
                else:
                    check_new_leg(self, row)
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
            reopened = refund_id in self.contradicted | self.with_links
            allowed = BY_LEGS if reopened else REFUND_MOVES[was]
            if now not in allowed:
                raise Violation(f"I5 {refund_id} went from {was} to {now}")
        only_merged = {**before, "customer_id": row["customer_id"]} == row
        if row["version"] <= before["version"] and not only_merged:
            raise Violation(f"I5 {refund_id} changed without a new version")
        for name in ("client", "idempotency_key", "body", "credits", "kind", "to", "customer_id", "created_at"):
            if before[name] != row[name] and (name != "customer_id" or not self._is_merged(before[name], row[name])):
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

    def _is_merged(self, customer_id: str, into: str) -> bool:
        sql = "SELECT 1 FROM customers WHERE customer_id = ? AND merged_into = ?"
        return bool(self.rows(sql, customer_id, into))

    def _check_limits(self, earlier: list[Row], new: list[Row]) -> None:
        """Check I15: the total in the window decides. It includes all requests that no person rejected or canceled."""
        if self.threshold is None and self.velocity_count is None:
            if any(row["status"] == "awaiting_approval" for row in new):
                raise Violation("L1 a refund waits for an approval though there is no threshold")
            return
        for row in sorted(new, key=lambda refund: str(refund["refund_id"])):
            earlier.append(row)
            if row["client"] == "refund-worker":
                continue  # made by a link: its money has gone out already
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
            check_cause(self, row)
        if was != now and now in ("unknown", "blocked"):
            self.on_doubt(row)
        if row["attention"] and row["attention"] != before["attention"]:
            check_attention(self, row)
        if row["attempt"] < before["attempt"]:
            raise Violation(f"I5 {leg_id} went back to attempt {row['attempt']}")
        if row["attempt"] == before["attempt"] and row["sends"] < before["sends"]:
            raise Violation(f"I5 {leg_id} forgot that it was sent")
        # An unsent leg may be reduced to the remaining amount of its payment, and a leg to the object that a person
        # links to it. Another leg then gets the rest.
        is_linked_now = leg_id in self.linked and before["processor_refund_id"] != row["processor_refund_id"]
        fixed = ("currency", "payment_id", "processor_payment_id")
        amounts = ("amount_minor", "credits", "payment_credits")
        for name in fixed if before["last_sent_at"] is None or is_linked_now else (*fixed, *amounts):
            if before[name] != row[name]:
                raise Violation(f"I9 {leg_id}: {name} changed")

    def _leg_moves(self, before: Row, row: Row) -> Collection[str]:
        """Return the statuses that the leg may get after `before`, given what was reported since."""
        was, allowed = before["status"], LEG_MOVES[before["status"]]
        if row["refund_id"] in self.contradicted or str(before["processor_refund_id"]).startswith("manual:"):
            allowed = allowed | LEG_CONTRADICTED.get(was, set())
        # An object beside it may have paid: the credits that went back are taken again.
        doubtful = before["attention"] == "unknown_status"
        if (doubtful or not before["settled"]) and str(row["processor_refund_id"]).startswith("manual:"):
            allowed = allowed | {"succeeded"}  # a person reported it paid before its money was allocated elsewhere
        if row["leg_id"] in self.linked:
            allowed = allowed | LEG_CONTRADICTED.get(was, set())
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
            if balance < held and not self.contradicted and not self._owes(customer_id):
                raise Violation(f"I2 customer {customer_id} has {balance} of which {held} are held")
        taken: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for leg in self.legs.values():
            if leg["status"] not in GONE:
                taken[leg["payment_id"]][0] += leg["payment_credits"]
                taken[leg["payment_id"]][1] += leg["amount_minor"]
        sql = "SELECT payment_id, credits, amount_minor, credits_taken, money_taken FROM payments"
        for payment_id, credits, amount, credits_taken, money_taken in self.connection.raw(sql):
            its_credits, its_money = taken[payment_id]
            # Other refunds may have taken the room of a leg that had ended, before a person paid it by hand after all.
            apart = any(self.legs[leg_id]["payment_id"] == payment_id for leg_id in self.paid_apart)
            full = its_credits, its_money
            if self.contradicted or apart:
                full = min(its_credits, credits), min(its_money, amount)
            if (credits_taken, money_taken) != full:
                raise Violation(f"I2 {payment_id}: {(credits_taken, money_taken)} taken, its legs say {full}")

    def _owes(self, customer_id: str) -> bool:
        sql = "SELECT coalesce(sum(debt), 0) FROM claims WHERE customer_id = ?"
        return bool(self.connection.raw(sql, (customer_id,)).fetchone()[0])

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
