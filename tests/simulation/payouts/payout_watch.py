"""The invariants of payouts at every commit and every send, by independent code. Those of refunds are `Watch`'s.

- I1 at most one valid object a leg: `TransferBank._make`
- I3, I18 the payee's sums equal the rows' and the ledger's, and so does the clearing account: `_check_payees`
- I5 statuses only change as `PAYOUT_MOVES` says: `_check_payout_row`, `_check_payout_leg`
- I7 every open payout has a due time: `_read_payouts`
- I8, I9, I10, I13, I15 before a request leaves: `check_transfer_sending`
- I11 no write without an own lease: `_check_payout_lease`
- I16 nothing is begun to a payee who is paused, cools down, has another destination or another open payout, and nothing
  is sent that waits for a person: `_check_begun`, `_check_payout_leg`

This code calls neither the engine nor the domain.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

from refund_worker.domain.processor_replies import Denied
from tests.simulation.allowed_changes import GONE, LEG_CONTRADICTED, LEG_MOVES
from tests.simulation.bank_records import DAY, Sent
from tests.simulation.kernel import Process, Violation
from tests.simulation.observer import CLAIMS_AN_HOUR, SYSTEM, Watch
from tests.simulation.payouts.transfer_bank import TransferBank
from tests.simulation.send_checks import MADE_NOTHING, NOT_EXECUTED
from tests.simulation.watched import Row

BY_LEGS = frozenset(
    {
        *("sending", "pending", "recipient_action", "paid", "returning", "needs_attention"),
        *("settled", "failed", "returned", "canceled"),
    }
)
OPEN = ("queued", "awaiting_approval", "held", "sending", "pending", "recipient_action", "returning", "needs_attention")
BEGUN = ("sending", "pending", "recipient_action", "returning", "needs_attention")
PAYOUT_ENDS = ("settled", "failed", "returned", "canceled", "rejected")
PAYOUT_MOVES = {
    "awaiting_approval": frozenset({"queued", "rejected", "canceled"}),
    "queued": frozenset({"held", "canceled"}) | BY_LEGS,
    "held": frozenset({"queued", "canceled"}) | BY_LEGS,
    "paid": frozenset({"settled", "returning", "returned", "needs_attention"}),
    "settled": frozenset({"returning", "returned", "needs_attention"}),
    "failed": frozenset(),
    "returned": frozenset(),
    "canceled": frozenset(),
    "rejected": frozenset(),
    **dict.fromkeys(BEGUN, BY_LEGS),
}
HELD_SECONDS = DAY / 4
TO_BE_SENT = ("planned", "waiting", "blocked")
CLEARING = "house:payout_clearing"


@dataclass(slots=True)
class PayoutWatch(Watch):
    """The watch of refunds, with copies of the rows of payouts."""

    payout_banks: dict[str, TransferBank] = field(default_factory=dict)
    cooldown_seconds: float = 0.0
    payouts: dict[str, Row] = field(default_factory=dict)
    payout_legs: dict[str, Row] = field(default_factory=dict)
    payout_seen: dict[str, float] = field(default_factory=dict)
    payout_contradicted: set[str] = field(default_factory=set)
    payout_approved_by: dict[str, str] = field(default_factory=dict)
    manual_words: set[str] = field(default_factory=set)  # payouts that a person called paid, or given up
    manual_legs: set[str] = field(default_factory=set)  # legs that a person called paid
    references: dict[str, str] = field(default_factory=dict)  # by payout: the payment that a person named last
    waits_for_person: dict[str, int] = field(default_factory=dict)  # by leg: the attempt that waits
    payout_claims: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    payout_intents: dict[str, tuple[float, float]] = field(default_factory=dict)  # by key: true and database time
    held_since: dict[str, tuple[str, float]] = field(default_factory=dict)  # code and true time
    last_subject: int = 0
    refunds_due: float | None = None
    payouts_due: float | None = None

    def committed(self, process: Process | None) -> None:
        """Check everything that the commit of this process changed."""
        Watch.committed(self, process)
        self.contradicted.discard(None)  # type: ignore[arg-type]
        self._read_subjects()
        self.refunds_due, self.payouts_due = self.next_due, None
        self._read_payouts(process)
        self._check_payees()

    def _read_subjects(self) -> None:
        sql = (
            "SELECT s.seq, s.subject_id, e.kind, e.actor, e.leg_id, e.alarm FROM event_subjects s"
            " JOIN events e ON e.seq = s.seq WHERE s.seq > ? ORDER BY s.seq"
        )
        for seq, subject_id, kind, actor, leg_id, alarm in self.connection.raw(sql, (self.last_subject,)):
            self.last_subject = seq
            self.world.note("ABOUT", subject_id, kind, leg_id, actor)
            if kind == "processor_contradicts":
                self.payout_contradicted.add(subject_id)
                if not alarm:
                    raise Violation(f"I5 the processor contradicted an operator on {subject_id} without an alarm")
            if kind == "payout_approved":
                self.payout_approved_by[subject_id] = actor
            if kind in ("leg_paid_by_hand", "leg_given_up") and actor not in SYSTEM:
                self.manual_words.add(subject_id)
            if kind == "leg_paid_by_hand" and actor not in SYSTEM:
                self.manual_legs.add(leg_id)
            if kind == "retry_requested":
                for asked in [leg for leg in self.waits_for_person if leg.startswith(f"{subject_id}-")]:
                    del self.waits_for_person[asked]

    def _read_payouts(self, process: Process | None) -> None:
        for row in self.rows("SELECT * FROM payout_legs ORDER BY leg_id"):
            before = self.payout_legs.get(row["leg_id"])
            if before != row:
                self._check_payout_leg(before, row)
                self.payout_legs[row["leg_id"]] = row
        for row in self.rows("SELECT * FROM payouts ORDER BY payout_id"):
            payout_id, before = row["payout_id"], self.payouts.get(row["payout_id"])
            if before != row:
                self.payouts[payout_id] = row
                if before is None:
                    self.payout_seen[payout_id] = self.world.now
                else:
                    self._check_payout_row(before, row, process)
            self.open += row["status"] in OPEN
            if row["due_at"] is not None and not self._is_held_for_long(row):
                due = max(row["due_at"], row["lease_until"] or 0)
                self.next_due = due if self.next_due is None else min(due, self.next_due)
                self.payouts_due = due if self.payouts_due is None else min(due, self.payouts_due)
            elif (
                row["due_at"] is None
                and row["status"] in OPEN
                and row["status"] not in ("awaiting_approval", "needs_attention")
            ):
                raise Violation(f"I7 {payout_id} is {row['status']} and nothing will wake it")

    def _is_held_for_long(self, row: Row) -> bool:
        """Return True if a payout is only looked at again and again, while a person must act on something else.

        Production looks hourly, for ever. Here that ends after some days without a change, unless it is woken.
        """
        if row["status"] != "held":
            self.held_since.pop(row["payout_id"], None)
            return False
        code, since = self.held_since.setdefault(row["payout_id"], (row["hold_code"], self.world.now))
        if code != row["hold_code"]:
            self.held_since[row["payout_id"]] = row["hold_code"], self.world.now
            return False
        calm = self.calm_since is not None and self.world.now - max(since, self.calm_since) > HELD_SECONDS
        return calm and row["hold_until"] is None and row["due_at"] > self.world.database_now

    # --- statuses ----------------------------------------------------------------------------------------------------

    def _check_payout_row(self, before: Row, row: Row, process: Process | None) -> None:
        payout_id, was, now = row["payout_id"], before["status"], row["status"]
        if was != now:
            self.world.note("PAYOUT", payout_id, was, now)
            # An object of the payout that a person named has a status of its own.
            is_named = not self.references.get(payout_id, "wire").startswith("wire")
            allowed = BY_LEGS if payout_id in self.payout_contradicted or is_named else PAYOUT_MOVES[was]
            if now not in allowed:
                raise Violation(f"I5 {payout_id} went from {was} to {now}")
        if row["version"] <= before["version"]:
            raise Violation(f"I5 {payout_id} changed without a new version")
        for name in ("client", "idempotency_key", "body", "currency", "payee_id", "destination_id"):
            if before[name] != row[name]:
                raise Violation(f"I6 {payout_id}: {name} changed")
        if before["amount_minor"] != row["amount_minor"]:
            self._check_reduced(before, row)
        if row["ledger_posted"] and not before["ledger_posted"] and payout_id not in self.payout_contradicted:
            self._check_begun(row)
        self._check_payout_lease(before, row, process)

    def _check_payout_lease(self, before: Row, row: Row, process: Process | None) -> None:
        only_woken = {**before, "due_at": row["due_at"], "version": row["version"]} == row
        if process is None or process.intent not in ("claim", "record") or only_woken:
            return
        payout_id, now = row["payout_id"], self.world.database_now
        if process.intent == "record":
            held = before["lease_token"] == process.token and (before["lease_until"] or 0) > now
            if not held:
                raise Violation(f"I11 {process.name} wrote to {payout_id} without a lease of its own")
            return
        if before["lease_until"] is not None and before["lease_until"] > now:
            raise Violation(f"I11 {process.name} claimed {payout_id} while it was leased")
        if self.calm_since is not None:
            claims = [at for at in self.payout_claims[payout_id] if at > self.world.now - 3_600] + [self.world.now]
            self.payout_claims[payout_id] = claims
            if len(claims) > CLAIMS_AN_HOUR * 3:
                raise Violation(f"L8 {payout_id} was worked on {len(claims)} times in an hour: a hot loop")

    def _check_reduced(self, before: Row, row: Row) -> None:
        """Check I6 and I18: claw-backs took a part of what nobody has sent, the legs follow, and no debt is left."""
        payout_id = row["payout_id"]
        if (
            before["ledger_posted"]
            or row["source"] != "earnings"
            or not 0 < row["amount_minor"] < before["amount_minor"]
        ):
            raise Violation(f"I6 {payout_id}: amount_minor changed")
        legs = [leg for leg in self.payout_legs.values() if leg["payout_id"] == payout_id]
        if any(leg["amount_minor"] != row["amount_minor"] for leg in legs):
            raise Violation(f"I6 {payout_id} is reduced, and its legs are not")
        if self._debt(row) > 0:
            raise Violation(f"I18 {payout_id} is reduced by too little")

    def _debt(self, payout: Row) -> int:
        """Return what the payee of a payout owes if all that is open counts as paid."""
        pair = payout["payee_id"], payout["currency"]
        sums = self.rows("SELECT * FROM payee_balances WHERE payee_id = ? AND currency = ?", *pair)[0]
        held = self.rows(
            "SELECT coalesce(sum(amount_minor - clawed_back_minor), 0) AS minor FROM earnings "
            "WHERE payee_id = ? AND currency = ? AND available_at > ?",
            *(*pair, self.world.database_now),
        )[0]["minor"]
        taken = sums["clawed_back_minor"] + sums["in_flight_minor"] + sums["paid_minor"]
        return int(held - (sums["earned_minor"] - taken))

    def _check_begun(self, row: Row) -> None:
        """Check I16: the payee can be paid now, and nothing else is on its way to them in this currency."""
        payout_id = row["payout_id"]
        if row["source"] == "earnings" and self._debt(row) > 0:
            raise Violation(f"I18 {payout_id} begins although its earnings were clawed back")
        payee = self.rows("SELECT * FROM payees WHERE payee_id = ?", row["payee_id"])[0]
        if payee["destination_id"] != row["destination_id"]:
            raise Violation(f"I16 {payout_id} begins to a destination that has changed")
        for name in ("paused_by", "blocked_by", "destination_failure"):
            if payee[name] is not None:
                raise Violation(f"I16 {payout_id} begins although the payee has {name} {payee[name]}")
        if self.world.database_now < payee["destination_changed_at"] + self.cooldown_seconds:
            raise Violation(f"I16 {payout_id} begins in the cool-down")
        for other in self.payouts.values():
            same = (other["payee_id"], other["currency"]) == (row["payee_id"], row["currency"])
            if same and other["payout_id"] != payout_id and other["ledger_posted"] and other["status"] in BEGUN:
                raise Violation(f"I16 {payout_id} begins beside {other['payout_id']}, which is {other['status']}")

    def _check_payout_leg(self, before: Row | None, row: Row) -> None:
        leg_id, now = row["leg_id"], row["status"]
        self._note_wait(row)
        if row["manual_reference"] is not None:
            self.references[row["payout_id"]] = row["manual_reference"]
        if before is None:
            return
        was = before["status"]
        if was != now:
            self.world.note("PAYOUT LEG", leg_id, was, now)
            allowed = set(LEG_MOVES[was])
            if row["payout_id"] in self.payout_contradicted or leg_id in self.manual_legs:
                allowed |= LEG_CONTRADICTED.get(was, set())
            if row["failure_code"] is not None and row["attempt"] > before["attempt"]:
                allowed.add("blocked")  # its object failed for a reason that a later attempt can end
            if now not in allowed:
                raise Violation(f"I5 {leg_id} went from {was} to {now}")
        if row["attempt"] < before["attempt"]:
            raise Violation(f"I5 {leg_id} went back to attempt {row['attempt']}")
        if row["attempt"] == before["attempt"] and row["sends"] < before["sends"]:
            raise Violation(f"I5 {leg_id} forgot that it was sent")
        for name in ("amount_minor", "currency", "step", "undoes", "processor"):
            is_unsent = before["status"] == "planned" and before["first_sent_at"] is None
            if before[name] != row[name] and not (name == "amount_minor" and is_unsent):
                raise Violation(f"I9 {leg_id}: {name} changed")

    def _note_wait(self, row: Row) -> None:
        """Note that a person must decide if the leg is sent; check that it is not sent before."""
        leg_id, now = row["leg_id"], row["status"]
        if now == "sending":
            waits = self.waits_for_person.get(leg_id)
            if waits is not None and not self._has_ended(row, waits):
                raise Violation(f"I16 {leg_id} is sent while a person must decide")
            self.payout_intents.setdefault(f"{leg_id}:{row['attempt']}", (self.world.now, self.world.database_now))
        if row["attention_code"] is not None and row["next_at"] is None and now in TO_BE_SENT:
            self.waits_for_person[leg_id] = row["attempt"]
        elif now not in TO_BE_SENT:
            self.waits_for_person.pop(leg_id, None)

    def _has_ended(self, leg: Row, attempt: int) -> bool:
        """Return True if the attempt's object ended without a payment: an event told what a person was asked."""
        bank = self.payout_banks[leg["processor"]]
        made = [item for item in bank.transfers if (item.leg_id, item.attempt) == (leg["leg_id"], attempt)]
        return bool(made) and all(item.is_void for item in made)

    # --- sums --------------------------------------------------------------------------------------------------------

    def _check_payees(self) -> None:
        """Check I18 and L3: the payee's sums equal those of the rows and of the ledger, at every commit."""
        earned: defaultdict[tuple[str, str], int] = defaultdict(int)
        clawed: defaultdict[tuple[str, str], int] = defaultdict(int)
        flying: defaultdict[tuple[str, str], int] = defaultdict(int)
        paid: defaultdict[tuple[str, str], int] = defaultdict(int)
        taken: defaultdict[tuple[str, str], int] = defaultdict(int)
        clearing: defaultdict[str, int] = defaultdict(int)
        self._sum_payouts(flying, paid, taken, clearing)
        sql = "SELECT payee_id, currency, amount_minor, clawed_back_minor FROM earnings"
        for payee_id, currency, amount, back in self.connection.raw(sql):
            earned[payee_id, currency] += amount
            clawed[payee_id, currency] += back
        entries: defaultdict[tuple[str, str], int] = defaultdict(int)
        for payee_id, currency, amount in self.connection.raw(
            "SELECT payee_id, currency, amount_minor FROM payee_entries"
        ):
            entries[payee_id, currency] += amount
        sums = "earned_minor, clawed_back_minor, in_flight_minor, paid_minor"
        sql = f"SELECT payee_id, currency, {sums} FROM payee_balances"
        for payee_id, currency, *found in self.connection.raw(sql):
            pair = (payee_id, currency)
            wanted = [earned[pair], clawed[pair], flying[pair], paid[pair]]
            if found != wanted:
                raise Violation(f"I18 {payee_id}: earned, clawed back, in flight, paid {found}, its rows say {wanted}")
            owed = earned[pair] - clawed[pair] - taken[pair]
            if not owed == self.sums[f"payee:{payee_id}", currency] == entries[pair]:
                ledger = self.sums[f"payee:{payee_id}", currency]
                raise Violation(f"I18 {payee_id}: {owed} by its rows, {ledger} in the ledger, {entries[pair]} entered")
        for currency in sorted({unit for account, unit in self.sums if account == CLEARING} | set(clearing)):
            if self.sums[CLEARING, currency] != clearing[currency]:
                held = self.sums[CLEARING, currency]
                raise Violation(
                    f"L3 payouts' clearing holds {held} {currency}, what is open explains {clearing[currency]}"
                )

    def _sum_payouts(
        self,
        flying: defaultdict[tuple[str, str], int],
        paid: defaultdict[tuple[str, str], int],
        taken: defaultdict[tuple[str, str], int],
        clearing: defaultdict[str, int],
    ) -> None:
        """Add what the payouts' rows say is on its way, paid, taken off the balances, and in the clearing account."""
        for row in self.payouts.values():
            pair, amount = (row["payee_id"], row["currency"]), row["amount_minor"]
            if row["given_back"]:
                continue
            if row["status"] in ("paid", "settled"):
                paid[pair] += amount
            elif row["status"] in OPEN:
                flying[pair] += amount
            if row["ledger_posted"]:
                taken[pair] += amount
                clearing[row["currency"]] += amount
        for leg in self.payout_legs.values():
            if leg["step"] == "payout" and leg["status"] == "succeeded":
                clearing[leg["currency"]] -= leg["amount_minor"]


def check_transfer_sending(watch: PayoutWatch, bank: TransferBank, key: str, body: str) -> None:
    """Check I8, I9, I10, I15 and I16 before a request leaves."""
    order = json.loads(body)
    leg_id, attempt = order["leg"], order["attempt"]
    stored = watch.rows("SELECT * FROM payout_attempts WHERE key = ?", key)
    if len(stored) != 1 or stored[0]["body"].partition(":")[2] != body:
        raise Violation(f"I8 {key} is sent without a committed intent of the same body")
    if key != f"{leg_id}:{attempt}":
        raise Violation(f"I8 the key {key} is not the one of {leg_id}, attempt {attempt}")
    if bank.bodies.setdefault(key, body) != body:
        raise Violation(f"I9 {key} is sent with another body")
    leg = watch.payout_legs[leg_id]
    payout = watch.payouts[leg["payout_id"]]
    pinned = json.loads(payout["destination_box"].partition(":")[2])
    if order["to"] != pinned or order["amount"] != payout["amount_minor"] or order["currency"] != payout["currency"]:
        raise Violation(f"I9 {key} asks for something else than {payout['payout_id']} was accepted for")
    if (not payout["ledger_posted"] or payout["given_back"]) and leg["step"] != "reversal":
        raise Violation(f"I8 {key} is sent although its amount is not taken off the balance")
    _check_order_of_steps(watch, bank, leg)
    _check_new_attempt(watch, bank, leg_id, attempt)
    _check_key_age(watch, bank, key)
    if watch.threshold is not None and payout["amount_minor"] > watch.threshold:
        by = watch.payout_approved_by.get(payout["payout_id"])
        if by is None or by == payout["requested_by"]:
            raise Violation(f"I15 {key} is sent without a second person's approval")


def _check_order_of_steps(watch: PayoutWatch, bank: TransferBank, leg: Row) -> None:
    """Check I16: the second step leaves only after the first has paid, and a reversal only if the second has not."""
    its = [other for other in watch.payout_legs.values() if other["payout_id"] == leg["payout_id"]]
    if leg["step"] == "payout":
        for other in its:
            done = any(t.leg_id == other["leg_id"] and t.status == "paid" for t in bank.transfers)
            undone = leg["payout_id"] in bank.undone
            if (
                other["step"] == "transfer"
                and not done
                and not undone
                and not str(other["object_id"]).startswith("man")
            ):
                raise Violation(f"I16 {leg['leg_id']} is sent before its transfer")
    if leg["step"] == "reversal":
        for item in bank.transfers:
            if item.payout_id == leg["payout_id"] and item.step == "payout" and not item.is_void:
                raise Violation(f"I16 {leg['leg_id']} undoes the transfer although {item.id} is {item.status}")


def _check_new_attempt(watch: PayoutWatch, bank: TransferBank, leg_id: str, attempt: int) -> None:
    if f"{leg_id}:{attempt}" in bank.sent:
        return
    for number in range(1, attempt):
        sent = bank.sent.get(f"{leg_id}:{number}")
        if sent and not _is_proved(watch, bank, leg_id, number, sent):
            raise Violation(f"I10 {leg_id} begins attempt {attempt} without proof that {number} made nothing")


def _is_proved(watch: PayoutWatch, bank: TransferBank, leg_id: str, number: int, sent: list[Sent]) -> bool:
    made = [item for item in bank.transfers if (item.leg_id, item.attempt) == (leg_id, number)]
    if made:
        return all(item.is_void for item in made)
    if bank.two_steps and watch.world.now - sent[-1].at >= watch.policy.quiet_seconds:
        return True
    if all(isinstance(one.told, NOT_EXECUTED + MADE_NOTHING) for one in sent):
        return True
    kept = sent[0].at + bank.key_seconds >= sent[-1].at + bank.late_seconds_max
    told = (one.told for one in sent)
    return kept and any(isinstance(reply, (*MADE_NOTHING, Denied)) and reply.replayed for reply in told)


def _check_key_age(watch: PayoutWatch, bank: TransferBank, key: str) -> None:
    doubtful = [sent.at for sent in bank.sent.get(key, ()) if not isinstance(sent.told, NOT_EXECUTED)]
    if doubtful and watch.world.now - doubtful[0] >= bank.key_seconds:
        raise Violation(f"I10 {key} is sent again blindly after {watch.world.now - doubtful[0]:.0f} s")


__all__ = ["DAY", "GONE", "PayoutWatch", "check_transfer_sending"]
