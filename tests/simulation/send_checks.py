"""The checks before a call to the processor (I13), and before a refund request leaves (I8, I9, I10, I15 and I16)."""

from __future__ import annotations

import json
from collections.abc import Collection

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
from tests.simulation.account_checks import check_account, is_void_here
from tests.simulation.bank_records import Sent
from tests.simulation.kernel import Violation
from tests.simulation.watched import Row, Watched

# Replies that prove to the sender that the call was not executed, or that it was executed without effect.
NOT_EXECUTED = (Busy, NotSent, Denied)
MADE_NOTHING = (Refused, Blocked, AlreadyRefunded, Misconfigured, UnknownRefusal)
# Longest time from the claim that a list allows to the call, in addition to a lease.
LIST_SLACK_SECONDS = 180


def check_calling(watch: Watched, what: str) -> None:
    """Check I13: no transaction is open during a call."""
    if watch.connection.in_transaction:
        raise Violation(f"I13 a transaction is open during a {what}")


def check_sending(watch: Watched, key: str, body: str) -> None:
    """Check I8, I9, I10, I15 and I16 before a request leaves."""
    order = json.loads(body)
    leg_id, attempt = order["leg"], order["attempt"]
    if key != f"{leg_id}:{attempt}":
        raise Violation(f"I8 the key {key} is not the one of {leg_id}, attempt {attempt}")
    stored = watch.rows("SELECT * FROM attempts WHERE key = ?", key)
    if len(stored) != 1 or stored[0]["body"] != body:
        raise Violation(f"I8 {key} is sent without a committed intent of the same body")
    if watch.bank.bodies.setdefault(key, body) != body:
        raise Violation(f"I9 {key} is sent with another body")
    _check_proof(watch, leg_id, attempt)
    _check_others(watch, leg_id, attempt, key)
    _check_age(watch, key)
    _check_approval(watch, leg_id)
    check_account(watch, watch.legs[leg_id], key, order["amount"])


def _check_proof(watch: Watched, leg_id: str, attempt: int) -> None:
    if f"{leg_id}:{attempt}" in watch.bank.sent:
        return
    for number in range(1, attempt):
        sent = watch.bank.sent.get(f"{leg_id}:{number}")
        if sent and not _is_proved(watch, leg_id, number, sent):
            raise Violation(f"I10 {leg_id} begins attempt {attempt} without proof that {number} made nothing")


def _check_others(watch: Watched, leg_id: str, attempt: int, key: str) -> None:
    """Check I16: a new attempt needs a recent list.

    No refund is sent in addition to a refund that a list has shown others to have made.
    """
    if leg_id in watch.paid_in_doubt:
        raise Violation(f"I16 {leg_id} is sent although a person has called it paid")
    if watch.is_silent(watch.legs[leg_id]):
        return  # it has no list
    listing = watch.bank.listings.get(leg_id)
    if attempt > 1 and key not in watch.bank.sent:
        # Use the time of the intent: a worker can die or freeze before the call, and then the key is sent again.
        begun, _ = watch.intents[leg_id, attempt]
        oldest = begun - max(watch.policy.lease_seconds, watch.policy.poll_seconds) - LIST_SLACK_SECONDS
        if listing is None or listing.at < oldest:
            raise Violation(f"I16 {leg_id} begins attempt {attempt} without a look at what others have paid")
    last = sent[-1].at if (sent := watch.bank.sent.get(key)) else watch.intents[leg_id, attempt][0]
    recent = max(watch.policy.lease_seconds, watch.policy.poll_seconds) + LIST_SLACK_SECONDS
    if watch.world.now - last > recent and (listing is None or listing.at < watch.world.now - recent):
        raise Violation(f"I16 {key} is sent again after {watch.world.now - last:.0f} s without a look at the list")
    leg = watch.legs[leg_id]
    seen = watch.accepted_others[leg["refund_id"], leg["processor_payment_id"]]
    if listing is not None and (unseen := listing.others - seen) and not _is_explained(watch, leg, unseen):
        raise Violation(f"I16 {leg_id} is sent beside {', '.join(sorted(unseen))}, which others have paid")


def _is_explained(watch: Watched, leg: Row, others: Collection[str]) -> bool:
    """Return True if the refunds that others made are recorded claims or explained by reported manual payments.

    A claim must have been recorded before this leg's first intent: then its money had no room any more. Only refunds
    from before this leg's first intent can be explained by a manual payment. A manual payment also counts if an object
    of ours pays the leg beside it; a reference that names this object is none. An object that a person has linked pays
    another leg.
    """
    begun, dated = watch.intents[leg["leg_id"], 1]
    rows = watch.rows("SELECT object_id FROM claims WHERE phase IN ('holding', 'taken')")
    # In true time: the database's clock may have jumped between the two.
    claimed = {row["object_id"] for row in rows if watch.claimed_at[row["object_id"]] < begun}
    explained = claimed | watch.legs_of_objects().keys()
    refund_objects = [item for item in watch.bank.refund_objects if item.id in set(others) - explained]
    by_hand = sum(
        other["amount_minor"]
        for other in watch.legs.values()
        if other["payment_id"] == leg["payment_id"]
        and other["status"] == "succeeded"
        and other["manual_reference"] not in (None, other["processor_refund_id"])
    )
    newer = begun == dated and any(item.created > begun for item in refund_objects)
    return not newer and sum(item.amount for item in refund_objects) <= by_hand


def _is_proved(watch: Watched, leg_id: str, number: int, sent: list[Sent]) -> bool:
    """Return True if it is proved that the attempt moved no money.

    That is so if all its objects are void, if each send was answered, if one answer is valid for every copy, or if
    the quiet window has passed. At the silent processor, time proves nothing, and only what it has told counts.
    """
    leg = watch.legs[leg_id]
    is_silent, times = watch.is_silent(leg), watch.times_of(leg)
    refund_objects = [item for item in watch.bank.refund_objects if (item.leg_id, item.attempt) == (leg_id, number)]
    if refund_objects:
        return all(item.is_void and (not is_silent or is_void_here(watch, item.id)) for item in refund_objects)
    if not is_silent and watch.world.now - sent[-1].at >= watch.policy.quiet_seconds:
        return True
    if all(isinstance(one.told, NOT_EXECUTED + MADE_NOTHING) for one in sent):
        return True
    # The answer was stored under the key for longer than any copy of a send can be in transit.
    kept = sent[0].at + times.key_seconds >= sent[-1].at + times.late_seconds_max
    told = (sent_once.told for sent_once in sent)
    return kept and any(isinstance(reply, (*MADE_NOTHING, Denied)) and reply.replayed for reply in told)


def _check_age(watch: Watched, key: str) -> None:
    """Check I10: no request that may have been executed is repeated once its key may have expired.

    The check uses true time. The sends of a claim leave within its lease.
    """
    doubtful = [sent.at for sent in watch.bank.sent.get(key, ()) if not isinstance(sent.told, NOT_EXECUTED)]
    used = watch.times_of(watch.legs[key.rpartition(":")[0]]).key_use_seconds + watch.policy.lease_seconds
    if doubtful and watch.world.now - doubtful[0] >= used:
        raise Violation(f"I10 {key} is sent again blindly after {watch.world.now - doubtful[0]:.0f} s")


def _check_approval(watch: Watched, leg_id: str) -> None:
    if watch.threshold is None:
        return
    refund = watch.refunds[watch.legs[leg_id]["refund_id"]]
    asked = sum(
        leg["amount_minor"]
        for leg in watch.legs.values()
        if leg["refund_id"] == refund["refund_id"] and leg["replaces"] is None
    )
    by = watch.approved_by.get(refund["refund_id"])
    if asked > watch.threshold and (by is None or by == refund["requested_by"]):
        raise Violation(f"I15 {leg_id} is sent without a second person's approval")
