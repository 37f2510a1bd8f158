"""The promises that must hold when the faults have stopped and time has passed, by independent sums.

- L1 each refund is final or with a person, in bounded time: `_check_all_ended`, `Wiring.check_in_time`,
  `Schedule._settle`, `Processes.client` (each client is served), `receiver.check_told` (each notification arrives)
- L2 the ledger's money equals the processor's: `_check_money`
- L3 the clearing account: `_check_clearing`
- L4 the customer's credits: `_check_credits`, `_check_customers`, `_check_rooms`
- L5 nothing accepted is lost, no money without a record: `_check_nothing_lost`, `People._request`,
  `Schedule._check_foreign`
- L6 one compensation a failure: `_check_credits`
- L7 no false alarm, planted differences are found: `Schedule._reconcile`
- L8 budgets and no hot loop: `_check_budget`, `Watch._count_claim`, `World.run`
- L9 the audit chain: `Schedule._audit`
- L12 each object of others is in one place with its state: `_check_claims`, `_check_disputes`, `_check_one_place`
- L13 what left a payment took its credits, unless a rule or a person let them stay: `_check_paid_in`
- L10 same seed, same trace: `test_simulation`
- L11 any order and repetition of replies: late, overtaken and repeated webhooks against L2; tests/domain by properties
- I4 rows never change: `_check_nothing_changed` at the end, `statement_gate.FOR_EVER` at each statement
- I14 no secret in a row: `_check_no_secret`, at the end only, because it reads the whole file
"""

from __future__ import annotations

from collections import Counter, defaultdict

from refund_worker.domain.money import smallest_step
from refund_worker.domain.processor_replies import Blocked
from tests.simulation.allowed_changes import ENDS, GONE
from tests.simulation.bank import PLANTED_CARD, PLANTED_KEY, Bank
from tests.simulation.bank_records import DAY
from tests.simulation.kernel import Violation
from tests.simulation.observer import Watch
from tests.simulation.receiver import PLANTED_SECRET
from tests.simulation.watched import Row

# A temporary refusal is retried 48 times automatically, and as often again after each manual retry.
ATTEMPTS_MAX = 250
SENDS_MAX = 400
TRIES_A_DAY = 150  # one each ten minutes, the longest pause in a plan
# The events whose alarm tells of a second payment of a leg.
TOLD_OF_SECOND = {"leg_accepted", "leg_asks_customer", "leg_paid", "refunded_twice"}
# Only a person can end these: their cause is outside this program.
LASTING = {
    "charge_already_refunded",
    "charge_disputed",
    "manual",
    "manual_fallback",
    "manual_processor",
    "no_automatic_refund",
    "no_fallback_left",
    "outcome_unknown",
    "payment_mismatch",
    "refunded_elsewhere",
    "refunded_twice",
    "refunds_off",
    "resource_missing",
    "unknown_refusal",
}
# An empty balance is retried automatically, and left to a person only after this many tries.
BLOCKED_TRIES_MIN = 40


def check_ends(watch: Watch, bank: Bank, accepted: dict[tuple[str, str], str]) -> Counter[str]:
    """Check everything. Return the number of refunds by final status."""
    watch.committed(None)
    ends = Counter(str(row["status"]) for row in watch.refunds.values())
    _check_all_ended(watch, bank)
    _check_nothing_lost(watch, bank, accepted)
    for refund in watch.refunds.values():
        _check_money(watch, bank, refund)
        _check_credits(watch, refund)
    _check_clearing(watch)
    _check_customers(watch)
    _check_rooms(watch)
    _check_budget(watch)
    _check_claims(watch, bank)
    _check_one_place(watch, bank)
    _check_paid_in(watch, bank)
    _check_nothing_changed(watch)
    _check_no_secret(watch)
    _check_twice(watch, bank)
    return ends


def legs_of(watch: Watch, refund: Row) -> list[Row]:
    """Return the legs of the refund."""
    return [leg for leg in watch.legs.values() if leg["refund_id"] == refund["refund_id"]]


def _check_all_ended(watch: Watch, bank: Bank) -> None:
    """Check L1: each refund is final, or with a person for a reason that lasts.

    `check_attention` has already checked that the reason was true of the leg.
    """
    for refund in watch.refunds.values():
        status = refund["status"]
        if status == "needs_attention":
            legs = [leg for leg in legs_of(watch, refund) if leg["attention"]]
            passing = [leg["attention"] for leg in legs if not _lasts(bank, leg)]
            if passing or not legs:
                raise Violation(f"L1 {refund['refund_id']} is with a person for no good reason: {passing}")
        elif status == "awaiting_approval":
            continue
        elif status not in ENDS:
            raise Violation(f"L1 {refund['refund_id']} is still {status}")
        elif any(leg["status"] not in GONE | {"succeeded"} for leg in legs_of(watch, refund)):
            raise Violation(f"L1 {refund['refund_id']} is {status} with a leg still open")


def _lasts(bank: Bank, leg: Row) -> bool:
    if leg["attention"] == "balance_insufficient":
        of_it = [sent for number in range(1, leg["attempt"] + 1) for sent in bank.sent[f"{leg['leg_id']}:{number}"]]
        return sum(isinstance(sent.told, Blocked) for sent in of_it) >= BLOCKED_TRIES_MIN
    if leg["attention"] == "insufficient_funds":
        failed = [item for item in bank.refund_objects if item.leg_id == leg["leg_id"] and item.is_void]
        return len(failed) >= BLOCKED_TRIES_MIN
    has_failed = leg["status"] in ("failed", "canceled")
    if leg["attention"] == "answer_mismatch" or (leg["attention"] == "unknown_status" and has_failed):
        # A false answer passes, a refund of others with our metadata stays. Beside a failure, it may be ours.
        return any(item.mark == leg["leg_id"] for item in bank.of_others())
    if leg["attention"] == "charge_disputed":  # a dispute that has ended in our favour lets the leg continue
        return bank.payments[leg["processor_payment_id"]].disputed
    return leg["attention"] in LASTING


def _check_nothing_lost(watch: Watch, bank: Bank, accepted: dict[tuple[str, str], str]) -> None:
    """Check L5: each accepted refund exists, and no money is without a record."""
    by_key = {(r["client"], r["idempotency_key"]): r["refund_id"] for r in watch.refunds.values()}
    for key, refund_id in accepted.items():
        if by_key.get(key) != refund_id:
            raise Violation(f"L5 {refund_id} was accepted under {key} and is lost")
    for refund_object in bank.refund_objects:
        if refund_object.leg_id is None:
            continue
        known = watch.objects.get(refund_object.id, "missing")
        if known != refund_object.status and refund_object.status in (
            "pending",
            "requires_action",
            "succeeded",
            "failed",
            "canceled",
        ):
            raise Violation(
                f"L5 {refund_object.id} is {refund_object.status} at the processor and {known} in our records"
            )


def _check_twice(watch: Watch, bank: Bank) -> None:
    """Check I16: a leg paid both by a person and by the processor is with a person, or raised an alarm."""
    told = {leg_id for _, _, kind, _, leg_id, alarm, _ in watch.events if kind == "leg_paid" and alarm}
    legs = watch.legs_of_objects()
    # The refund of others that a person linked failed later, so it paid nothing.
    void = {legs[item.id] for item in bank.of_others() if item.is_void and item.id in legs}
    for leg_id in watch.paid_in_doubt - void:
        paid = any(item.leg_id == leg_id and item.status == "succeeded" for item in bank.refund_objects)
        if paid and leg_id not in told and watch.legs[leg_id]["attention"] != "refunded_twice":
            raise Violation(f"I16 {leg_id} is paid by hand and by the processor, and nobody was told")


def _check_money(watch: Watch, bank: Bank, refund: Row) -> None:
    """Check L2 and L6: the ledger's money equals the processor's to the minor unit; each failure was reversed once."""
    legs = legs_of(watch, refund)
    ours: dict[str, int] = defaultdict(int)
    payouts: dict[str, str] = {t[1]: t[5] for t in watch.transactions if t[3] in ("payout", "payout_reversal")}
    for _, transaction_id, account, _, amount in watch.entries:
        if transaction_id in payouts and account.startswith("processor:"):
            ours[payouts[transaction_id]] -= amount
    theirs: dict[str, int] = defaultdict(int)
    for refund_object in bank.refund_objects:
        if refund_object.leg_id and refund_object.status == "succeeded":
            theirs[refund_object.leg_id] += refund_object.amount
    for claim in watch.rows("SELECT * FROM claims WHERE refund_id = ?", refund["refund_id"]):
        for leg in legs:  # a person linked this refund of others
            is_paid_by_it = leg["processor_refund_id"] == claim["object_id"] and claim["object_status"] == "succeeded"
            if is_paid_by_it and leg["leg_id"] not in paid_besides(watch, bank):
                theirs[leg["leg_id"]] += claim["linked_minor"]
    for leg in legs:
        leg_id = leg["leg_id"]
        if ours[leg_id] != theirs[leg_id]:
            raise Violation(f"L2 {leg_id}: our ledger paid {ours[leg_id]}, the processor {theirs[leg_id]}")
    if refund["status"] not in ENDS or refund["to"] == "balance":
        return
    asked = sum(leg["amount_minor"] for leg in legs if leg["replaces"] is None)
    paid = sum(leg["amount_minor"] for leg in legs if leg["status"] == "succeeded")
    wanted = (
        {"canceled", "rejected"}
        if not refund["posted"]
        else {"failed"}
        if paid == 0
        else {"succeeded"}
        if paid >= asked
        else {"partially_succeeded"}
    )
    if refund["status"] not in wanted:
        raise Violation(f"L2 {refund['refund_id']} is {refund['status']} with {paid} of {asked} paid")


def _check_credits(watch: Watch, refund: Row) -> None:
    """Check L4 and L6: the refund's effect on the customer's balance, from the ledger alone."""
    refund_id, status, credits = refund["refund_id"], refund["status"], refund["credits"]
    moved = sum(t[4] for t in watch.transactions if t[6] == refund_id and t[3] != "assignment")
    deleted = any(t[1].startswith("reversal-") for t in watch.transactions if t[6] == refund_id)
    given_back = sum(
        t[4] for t in watch.transactions if t[6] == refund_id and ("-reversal-" in t[1] or "-taken-again-" in t[1])
    )
    if given_back != refund["returned_credits"]:
        raise Violation(f"L6 {refund_id}: {given_back} credits given back, its row says {refund['returned_credits']}")
    if status not in ENDS:
        return
    legs = legs_of(watch, refund)
    paid_credits = sum(leg["credits"] for leg in legs if leg["status"] == "succeeded")
    raised = credits if refund["kind"] == "credit_refund" and refund["posted"] else 0
    taken = 0
    if refund["to"] == "source" and refund["posted"]:
        taken = 0 if refund["of_correction"] else credits
        too_much = _paid_too_much(watch, refund) if refund_id in watch.contradicted else 0
        if paid_credits + given_back - too_much != credits:
            raise Violation(f"L4 {refund_id}: {paid_credits} credits paid and {given_back} back, of {credits}")
        if status == "failed" and given_back != credits:
            raise Violation(f"L4 {refund_id} failed and gave back {given_back} of {credits}")
        if status == "succeeded" and given_back:
            raise Violation(f"L4 {refund_id} succeeded and gave back {given_back}")
    expected = raised - taken + given_back - (credits if deleted else 0)
    if moved != expected:
        raise Violation(f"L4 {refund_id} ({status}) moved {moved} credits instead of {expected}")


def _paid_too_much(watch: Watch, refund: Row) -> int:
    """Return the credits that the refund paid beyond what was asked for.

    Sends can arrive days after they were given up and replaced. Alarms tell a person, who ends the refund.
    """
    paid = sum(leg["credits"] for leg in legs_of(watch, refund) if leg["status"] == "succeeded")
    return max(0, int(paid + refund["returned_credits"] - refund["credits"])) if refund["to"] == "source" else 0


def _check_clearing(watch: Watch) -> None:
    """Check L3: the clearing account contains only the credits of refunds that are open."""
    held = 0
    for refund in watch.refunds.values():
        if refund["to"] == "source" and refund["posted"] and refund["status"] not in ENDS:
            paid = sum(leg["credits"] for leg in legs_of(watch, refund) if leg["status"] == "succeeded")
            held += refund["credits"] - refund["returned_credits"] - paid
        elif refund["refund_id"] in watch.contradicted and refund["status"] == "succeeded":
            held -= _paid_too_much(watch, refund)
    clearing = watch.sums.get(("house:clearing", "credits"), 0)
    if clearing != held:
        raise Violation(f"L3 the clearing account holds {clearing}, what is open explains {held}")


def _check_customers(watch: Watch) -> None:
    """Check L4: the account's other columns equal the sums of their rows. A merge moves all of them."""
    wanted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])  # held, bought, net spent, withdrawn
    survivors = {row["customer_id"]: row["merged_into"] for row in watch.rows("SELECT * FROM customers")}
    for _, transaction_id, customer, kind, credits, _, refund_id in watch.transactions:
        if customer is None:
            continue  # of a payee
        figures = wanted[survivors[customer] or customer]
        if kind == "purchase":
            figures[1] += credits
        elif kind in ("spend", "credit_refund") or (refund_id and transaction_id.startswith("reversal-")):
            figures[2] -= credits
    for refund in watch.refunds.values():
        figures = wanted[refund["customer_id"]]
        waiting = refund["status"] in ("queued", "awaiting_approval")
        if refund["kind"] == "withdrawal":
            figures[0] += refund["credits"] if waiting and not refund["of_correction"] else 0
            figures[3] += refund["credits"] if waiting or refund["posted"] else 0
        elif refund["to"] == "source" and refund["posted"]:
            figures[3] += refund["credits"]
        figures[3] -= refund["returned_credits"]
    for claim in watch.rows("SELECT * FROM claims"):
        figures = wanted[claim["customer_id"]]
        figures[0] += claim["held"]
        figures[3] += claim["held"] + claim["taken"]
    for row in watch.rows("SELECT * FROM customers"):
        figures = wanted[row["customer_id"]]
        found = [row["held"], row["bought"], row["net_spent"], row["withdrawn"]]
        if found != figures:
            raise Violation(f"L4 customer {row['customer_id']}: held, bought, spent, withdrawn {found}, not {figures}")


PHASES = {
    "needs_response": "holding",
    "under_review": "holding",
    "lost": "taken",
    "won": "released",
    "prevented": "released",
    "warning_closed": "released",
    "warning_needs_response": "shown",
}


def _check_disputes(watch: Watch, bank: Bank, claims: dict[str, Row]) -> None:
    """Check L12: each dispute does to the credits what its state at the processor says."""
    known = {payment for (payment,) in watch.connection.raw("SELECT processor_payment_id FROM payments")}
    for dispute in bank.disputes:
        claim = claims.get(dispute.id)
        if claim is None:
            raise Violation(f"L12 {dispute.id} is not recorded")
        wanted = "released" if dispute.returned else PHASES[dispute.status]
        if dispute.payment in known and claim["payment_id"] is None and claim["currency"] == dispute.currency:
            continue  # recorded with another currency than the payment here
        if claim["phase"] != wanted:
            raise Violation(f"L12 {dispute.id} is {dispute.status} at the processor and {claim['phase']} here")


def _check_claims(watch: Watch, bank: Bank) -> None:
    """Check L12: each refund of others has one claim with its state, and takes the credits of its money, no more."""
    if not watch.records_outside:
        return
    # Those of another installation are recorded over our payments only: in the currency that we know.
    known = set(watch.connection.raw("SELECT processor_payment_id, currency FROM payments WHERE closed_at IS NULL"))
    others = {
        item.id: item
        for item in bank.of_others()
        if item.mark is None or (item.installation == "inst_other" and (item.payment, item.currency) in known)
    }
    claims = {claim["object_id"]: claim for claim in watch.rows("SELECT * FROM claims")}
    _check_disputes(watch, bank, claims)
    for object_id, item in others.items():
        claim = claims.get(object_id)
        if claim is None:
            raise Violation(f"L12 {object_id} of others is not recorded")
        if claim["object_status"] != item.status:
            raise Violation(f"L12 {object_id} is {item.status} at the processor and {claim['object_status']} here")
    for row in watch.rows("SELECT * FROM payments"):
        its = [c for c in claims.values() if c["payment_id"] == row["payment_id"]]
        live = [c for c in its if c["phase"] in ("holding", "taken")]
        legs = [
            leg for leg in watch.legs.values() if leg["payment_id"] == row["payment_id"] and leg["status"] not in GONE
        ]
        by_legs = sum(leg["payment_credits"] for leg in legs)
        # A leg that had left its payment, and that a person then paid by hand, may have taken nothing of it.
        apart = sum(leg["payment_credits"] for leg in legs if leg["leg_id"] in watch.paid_apart)
        by_claims = sum(c["credits"] for c in live)
        gone = sum(c["amount_minor"] - c["explained_minor"] for c in live) + sum(leg["amount_minor"] for leg in legs)
        if by_claims and by_claims + by_legs - apart > row["credits"] and not watch.contradicted:
            raise Violation(f"L12 {row['payment_id']}: {by_claims} and {by_legs} credits taken of {row['credits']}")
        # The last money of a payment can go for fewer credits: each part is rounded by at most half a unit.
        rest = row["credits"] - by_claims - by_legs if live and gone >= row["amount_minor"] else 0
        rounded = (len(legs) + len(live)) * smallest_step(row["currency"]) * row["credits"]
        worth_nothing = legs and 2 * row["amount_minor"] * rest <= rounded
        if rest > 0 and not worth_nothing:
            raise Violation(f"L12 {row['payment_id']}: all its money is gone, {by_claims + by_legs} credits are")


def _check_one_place(watch: Watch, bank: Bank) -> None:
    """Check L12: each object at the processor is a leg's, or a claim, and both only if a person linked it."""
    ours = watch.legs_of_objects()
    claims = {row["object_id"]: row for row in watch.rows("SELECT * FROM claims WHERE kind = 'outside_refund'")}
    for item in bank.refund_objects:
        claim, leg_id = claims.get(item.id), ours.get(item.id)
        linked = claim is not None and claim["refund_id"] is not None
        if claim is not None and leg_id is not None and not linked:
            raise Violation(f"L12 {item.id} is an object of {leg_id} and a refund of others too")
        if linked and leg_id is None:
            raise Violation(f"L12 {item.id} is linked, and no leg has it")
        if item.leg_id is not None and (leg_id != item.leg_id or claim is not None):
            raise Violation(f"L12 {item.id} of {item.leg_id} is {leg_id}'s here, and a claim: {claim is not None}")


def paid_besides(watch: Watch, bank: Bank) -> Counter[str]:
    """Return, by leg, the money that we sent beside the refund of others that a person linked to the leg.

    A send that was in doubt can arrive after the link. The program counts one payment of the leg, and an alarm tells
    of the other.
    """
    legs = watch.legs_of_objects()
    linked = {legs[item.id] for item in bank.of_others() if item.id in legs and not item.is_void}
    told = {leg_id for _, _, kind, _, leg_id, alarm, _ in watch.events if alarm and kind in TOLD_OF_SECOND}
    found: Counter[str] = Counter()
    for item in bank.refund_objects:
        if item.leg_id in linked & told and not item.is_void:
            found[item.leg_id] += item.amount
    return found


def _check_paid_in(watch: Watch, bank: Bank) -> None:
    """Check L13: the money that left a payment took its share of the credits, or a rule or person let them stay."""
    if not watch.records_outside or watch.contradicted:
        return
    for row in watch.rows("SELECT * FROM payments WHERE closed_at IS NULL"):
        there = bank.payments.get(row["processor_payment_id"])
        if there is None or (there.amount, there.currency) != (row["amount_minor"], row["currency"]):
            continue
        legs = [x for x in watch.legs.values() if x["payment_id"] == row["payment_id"] and x["status"] not in GONE]
        claims = watch.rows("SELECT * FROM claims WHERE payment_id = ?", row["payment_id"])
        live = [claim for claim in claims if claim["phase"] in ("holding", "taken")]
        if any(leg["replaces"] for leg in legs):
            continue  # its money stands for the credits of another payment
        gone = sum(
            item.amount
            for item in bank.refund_objects
            if item.payment == row["processor_payment_id"] and not item.is_void and (item.leg_id or not item.mark)
        )
        gone += sum(x.amount for x in bank.disputes if x.payment == row["processor_payment_id"] and x.takes_money)
        gone -= sum(paid_besides(watch, bank)[leg["leg_id"]] for leg in legs)
        credits = sum(leg["payment_credits"] for leg in legs) + sum(claim["credits"] for claim in live)
        # Each object rounds by less than one credit, or by less than the credits of one step of its currency.
        step = row["credits"] * (10 if row["currency"] == "KWD" else 1) / row["amount_minor"]
        rounded = (len(legs) + len(live)) * max(1.0, step)
        owed = row["credits"] * min(gone, row["amount_minor"]) / row["amount_minor"] - rounded
        if credits < owed:
            raise Violation(f"L13 {row['payment_id']}: {gone} left it, and {credits} of {row['credits']} credits")
        for claim in live:
            if claim["credits"] > claim["held"] + claim["taken"] and claim["rule"] is None:
                raise Violation(f"L13 {claim['claim_id']} lacks credits, and no rule says what becomes of them")


def _check_rooms(watch: Watch) -> None:
    """Check L4: the used credits of each transaction equal its refunds that were neither released nor deleted."""
    taken: dict[str, int] = defaultdict(int)
    deleted = {t[6] for t in watch.transactions if t[3] == "reversal" and t[1].startswith("reversal-")}
    for refund in watch.refunds.values():
        if refund["transaction_id"] and refund["status"] not in ("rejected", "canceled"):
            taken[refund["transaction_id"]] += 0 if refund["refund_id"] in deleted else refund["credits"]
    for row in watch.rows("SELECT * FROM transaction_rooms"):
        if row["taken"] != taken[row["transaction_id"]]:
            raise Violation(f"L4 {row['transaction_id']}: {row['taken']} taken, not {taken[row['transaction_id']]}")


def _check_budget(watch: Watch) -> None:
    """Check L8: attempts and sends stay within their limits, which grow with the days of faults."""
    faulty = (watch.world.now if watch.calm_since is None else watch.calm_since) - watch.world.start
    more = int(faulty / DAY) * TRIES_A_DAY
    for leg_id, number, sends in watch.connection.raw("SELECT leg_id, number, sends FROM attempts"):
        if number > ATTEMPTS_MAX + more or sends > SENDS_MAX + more:
            raise Violation(f"L8 {leg_id} is at attempt {number} with {sends} sends")


def _check_no_secret(watch: Watch) -> None:
    """Check I14: no table contains the processor's secrets or our signing secret. The whole file is read."""
    image = watch.connection.serialize()
    for secret in (PLANTED_KEY, PLANTED_CARD, PLANTED_CARD.replace(" ", ""), PLANTED_SECRET):
        if secret.encode() in image:
            raise Violation(f"I14 the database holds {secret!r}")


def _check_nothing_changed(watch: Watch) -> None:
    """Check I4: every ledger row and event is unchanged since it was first seen."""
    queries = (
        (
            "ledger_transactions",
            "seq, transaction_id, customer_id, kind, credits, refers_to, refund_id",
            watch.transactions,
        ),
        ("ledger_entries", "seq, transaction_id, account, unit, amount", watch.entries),
        ("events", "seq, refund_id, kind, actor, leg_id, alarm, detail", watch.events),
    )
    for table, columns, seen in queries:
        if watch.connection.raw(f"SELECT {columns} FROM {table} ORDER BY seq").fetchall() != seen:
            raise Violation(f"I4 rows of {table} changed after they were written")
