"""The promises about payouts that must hold when the faults have stopped and time has passed, by independent sums.

- L1 each payout has ended or is with a person for a reason: `_check_ended`
- L2 the ledger's money equals the processors' to the minor unit: `_check_books`
- L5 nothing accepted is lost, each object is known with its state: `_check_nothing_lost`
- L6 each amount was given back once, and only if nothing was paid: `_check_gifts`
- L2 a transfer whose payee was paid in another way is taken back: `_check_transfer_taken_back`
- nobody was paid twice: `_check_paid_once`, and no single payment is called two: `_check_named_payment`
"""

from __future__ import annotations

from collections import Counter, defaultdict

from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR
from tests.simulation.kernel import Violation
from tests.simulation.payouts.payout_watch import OPEN, PAYOUT_ENDS, PayoutWatch
from tests.simulation.payouts.transfer_bank import MEANS, TransferBank
from tests.simulation.watched import Row

# Only a person can end these: their cause is outside this program.
LASTING = {
    *("outcome_unknown", "unknown_refusal", "resource_missing", "paid_twice", "transfer_undone"),
    *("transfer_not_undone", "could_not_process", "answer_mismatch"),
}
LASTING_TRIES = {"balance_insufficient", "insufficient_funds"}
TRIES_MIN = 40
ATTEMPTS_MAX, SENDS_MAX = 250, 400


def check_payouts(
    watch: PayoutWatch, banks: dict[str, TransferBank], accepted: dict[tuple[str, str], str]
) -> Counter[str]:
    """Check everything. Return the number of payouts by final status."""
    watch.committed(None)
    for payout in watch.payouts.values():
        _check_ended(watch, banks, payout)
        _check_paid_once(watch, banks, payout)
        _check_books(watch, banks, payout)
        _check_gifts(watch, payout)
        _check_transfer_taken_back(watch, banks, payout)
        _check_named_payment(watch, banks, payout)
    _check_nothing_lost(watch, banks, accepted)
    for leg_id, number, sends in watch.connection.raw("SELECT leg_id, number, sends FROM payout_attempts"):
        if number > ATTEMPTS_MAX or sends > SENDS_MAX:
            raise Violation(f"L8 {leg_id} is at attempt {number} with {sends} sends")
    return Counter(str(row["status"]) for row in watch.payouts.values())


def legs_of(watch: PayoutWatch, payout: Row) -> list[Row]:
    """Return the payout's legs."""
    return [leg for leg in watch.payout_legs.values() if leg["payout_id"] == payout["payout_id"]]


def _check_ended(watch: PayoutWatch, banks: dict[str, TransferBank], payout: Row) -> None:
    payout_id, status = payout["payout_id"], payout["status"]
    legs = legs_of(watch, payout)
    if status == "held":
        _check_held(watch, payout)
    elif status == "needs_attention":
        reasons = [leg["attention_code"] for leg in legs if leg["attention_code"]]
        bank = banks[payout["processor"]]
        passing = [leg["attention_code"] for leg in legs if leg["attention_code"] and not _lasts(bank, leg)]
        if passing or not reasons:
            raise Violation(f"L1 {payout_id} is with a person for no good reason: {passing}")
    elif status not in (*PAYOUT_ENDS, "awaiting_approval"):
        raise Violation(f"L1 {payout_id} is still {status}")
    if status == "settled" and any(leg["status"] != "succeeded" for leg in legs if leg["step"] == "payout"):
        raise Violation(f"L1 {payout_id} is settled with a leg that has not paid")


def _lasts(bank: TransferBank, leg: Row) -> bool:
    if leg["attention_code"] in LASTING_TRIES:
        tries = sum(len(bank.sent.get(f"{leg['leg_id']}:{n}", ())) for n in range(1, leg["attempt"] + 1))
        return tries >= TRIES_MIN
    if leg["attention_code"] == "answer_mismatch":
        return leg["leg_id"] in bank.falsified
    return leg["attention_code"] in LASTING


def _check_held(watch: PayoutWatch, payout: Row) -> None:
    """Check L1: what holds the payout is still there."""
    payee = watch.rows("SELECT * FROM payees WHERE payee_id = ?", payout["payee_id"])[0]
    others = [
        other["status"]
        for other in watch.payouts.values()
        if (other["payee_id"], other["currency"]) == (payout["payee_id"], payout["currency"])
        and other["ledger_posted"]
        and other["status"] in OPEN
    ]
    why = {
        "payee_paused": payee["paused_by"] is not None,
        "payee_incomplete": payee["destination_failure"] not in (None, REFUSED_BY_PROCESSOR),
        "payee_under_review": payee["destination_failure"] == REFUSED_BY_PROCESSOR or payee["blocked_by"] is not None,
        "another_payout": bool(others),
    }
    if not why.get(payout["hold_code"], False):
        raise Violation(f"L1 {payout['payout_id']} is held for {payout['hold_code']}, which is over")


def _is_said_otherwise(watch: PayoutWatch, payout: Row) -> bool:
    """Return True if a person said how the payout ended, while the processor might have known better."""
    return payout["payout_id"] in watch.manual_words


def _check_paid_once(watch: PayoutWatch, banks: dict[str, TransferBank], payout: Row) -> None:
    payout_id, bank = payout["payout_id"], banks[payout["processor"]]
    got, asked = bank.at_payees[payout_id], payout["amount_minor"]
    if got > asked:
        raise Violation(f"I1 the payee of {payout_id} got {got} of {asked}")
    if _is_said_otherwise(watch, payout):
        legs = legs_of(watch, payout)
        ids = {f"manual:{item.id}" for item in bank.transfers}  # the person named what the processor had paid
        known = dict(watch.connection.raw("SELECT object_id, leg_id FROM transfer_objects"))
        theirs = {t.id for t in bank.transfers if t.payout_id == payout_id and not t.is_void}
        if not bank.two_steps and not theirs & (known.keys() | bank.told):
            return  # without a list, an object is known by an event alone, and none arrived
        manual = any(
            str(leg["object_id"]).startswith("manual:") and leg["object_id"] not in ids
            for leg in legs
            if leg["step"] == "payout"
        )
        if manual and got and not any(leg["attention_code"] for leg in legs):
            alarmed = payout_id in watch.payout_contradicted or _has_event(watch, payout_id, "answer_mismatch")
            if not alarmed and not _was_alarmed(watch, payout_id):
                raise Violation(f"I16 {payout_id} is paid by hand and by the processor, and nobody was told")
        return
    if payout["status"] == "settled" and got != asked:
        raise Violation(f"L2 {payout_id} is settled, and its payee got {got} of {asked}")
    if payout["status"] in ("failed", "returned", "canceled", "rejected") and got:
        raise Violation(f"L2 {payout_id} is {payout['status']}, and its payee got {got}")


def _check_transfer_taken_back(watch: PayoutWatch, banks: dict[str, TransferBank], payout: Row) -> None:
    """Check L2: a payee who was paid in another way has not the money of the transfer besides."""
    payout_id, bank = payout["payout_id"], banks[payout["processor"]]
    reference = watch.references.get(payout_id)
    if reference is None or not bank.two_steps or payout["status"] != "settled" or payout_id in bank.undone:
        return
    its = [item for item in bank.transfers if item.payout_id == payout_id]
    is_named = any(item.id == reference for item in its)
    used = any(item.step == "payout" and not item.is_void for item in its)
    left = bank.connected_of[payout_id, payout["currency"]]
    if left and not is_named and not used and not _has_event(watch, payout_id, "transfer_stands"):
        raise Violation(f"L2 {payout_id} was paid by {reference}, and its payee's account keeps {left} of the transfer")


def _check_named_payment(watch: PayoutWatch, banks: dict[str, TransferBank], payout: Row) -> None:
    """Check I16: the processor's only payment, which a person named, is not called a second one."""
    payout_id, bank = payout["payout_id"], banks[payout["processor"]]
    made = [item.id for item in bank.transfers if item.payout_id == payout_id and item.step == "payout"]
    if made == [watch.references.get(payout_id)] and _was_alarmed(watch, payout_id):
        raise Violation(f"I16 {payout_id} was paid by {made[0]}, which is called a second payment")


def _was_alarmed(watch: PayoutWatch, payout_id: str) -> bool:
    return _has_event(watch, payout_id, "paid_twice")


def _has_event(watch: PayoutWatch, payout_id: str, kind: str) -> bool:
    sql = "SELECT count(*) FROM event_subjects s JOIN events e ON e.seq = s.seq WHERE s.subject_id = ? AND e.kind = ?"
    return bool(watch.connection.raw(sql, (payout_id, kind)).fetchone()[0])


def _check_books(watch: PayoutWatch, banks: dict[str, TransferBank], payout: Row) -> None:
    """Check L2: what our ledger says about the accounts at the processor is what their books say."""
    payout_id, bank, currency = payout["payout_id"], banks[payout["processor"]], payout["currency"]
    if payout["status"] == "needs_attention" or _is_said_otherwise(watch, payout) or payout_id in bank.undone:
        return
    ours: defaultdict[str, int] = defaultdict(int)
    kinds = {row[1]: row[3] for row in watch.transactions}
    for _, transaction_id, account, _, amount in watch.entries:
        if kinds[transaction_id] in ("transfer", "transfer_reversal") and transaction_id.startswith(f"{payout_id}-"):
            ours[account] += amount
    platform = ours[f"processor:{payout['processor']}"]
    connected = sum(
        amount for account, amount in ours.items() if account.startswith(f"processor:{payout['processor']}/")
    )
    theirs = bank.platform[payout_id, currency], bank.connected_of[payout_id, currency]
    if (platform, connected) != theirs:
        raise Violation(
            f"L2 {payout_id} {payout['status']}: our ledger has {(platform, connected)}, the processor {theirs}"
        )


def _check_gifts(watch: PayoutWatch, payout: Row) -> None:
    """Check L6: the amount went back to the balance once, if nothing was paid, and else not."""
    payout_id = payout["payout_id"]
    its = [row for row in watch.transactions if row[1].startswith(f"{payout_id}-")]
    back = sum(row[3] == "payee_return" for row in its)
    taken = sum(row[3] == "payee_withdrawal" for row in its)
    wanted = int(payout["status"] in ("failed", "returned", "canceled") and bool(payout["ledger_posted"]))
    if payout["status"] != "needs_attention" and back - max(0, taken - 1) != wanted:
        raise Violation(f"L6 {payout_id} is {payout['status']}, taken {taken} times and given back {back} times")
    if taken != back + 1 - bool(payout["given_back"]) and payout["ledger_posted"]:
        raise Violation(f"L6 {payout_id}: taken {taken} times, given back {back} times, its row says otherwise")


def _check_nothing_lost(
    watch: PayoutWatch, banks: dict[str, TransferBank], accepted: dict[tuple[str, str], str]
) -> None:
    by_key = {(r["client"], r["idempotency_key"]): r["payout_id"] for r in watch.payouts.values()}
    for key, payout_id in accepted.items():
        if by_key.get(key) != payout_id:
            raise Violation(f"L5 {payout_id} was accepted under {key} and is lost")
    known = dict(watch.connection.raw("SELECT object_id, state FROM transfer_objects"))
    for bank in banks.values():
        for item in bank.transfers:
            # Nothing asks about a transfer that has paid: what others do with it is told by events alone.
            state = None if item.status == "undone" else MEANS.get(item.status)
            if item.payout_id in watch.manual_words or item.leg_id in bank.falsified:
                continue  # a person has said how it ended
            is_unknown = watch.payouts[item.payout_id]["failure_code"] == "outcome_unknown"
            if not bank.two_steps and is_unknown and item.id not in bank.told:
                continue  # nothing here can learn of it, and a person has been asked
            if state is not None and known.get(item.id, "missing") != state:
                mine = known.get(item.id, "missing")
                raise Violation(f"L5 {item.id} is {item.status} at the processor and {mine} in our records")
