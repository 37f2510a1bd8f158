"""The checks of causes (L1): why a leg failed, and why it was left to a person."""

from __future__ import annotations

from collections.abc import Callable

from refund_worker.domain.processor_replies import Blocked, Denied, Refused, UnknownRefusal
from tests.simulation.account_checks import ways_of
from tests.simulation.allowed_changes import GONE, REACHED
from tests.simulation.bank_records import BankRefund
from tests.simulation.kernel import Violation
from tests.simulation.watched import Row, Watched

# This long after the last fault no processor can be called unreachable.
REACHABLE_AFTER_SECONDS = 2 * 86_400
# Answers of our own side's faults or of one call: the key may keep them, or they say nothing about an earlier call.
MUST_NOT_REPEAT = (Denied, Refused, UnknownRefusal)


def check_cause(watch: Watched, leg: Row) -> None:
    """Check L1: money is abandoned only for a refusal that arrived, a void refund object, or a person's action."""
    keys = [f"{leg_id}:{leg['attempt']}" for leg_id in (leg["leg_id"], *_linked_of_the_same(watch, leg))]
    refused = any(isinstance(sent.told, Refused) for key in keys for sent in watch.bank.sent.get(key, ()))
    void = any(item.id == leg["processor_refund_id"] and item.is_void for item in watch.bank.refund_objects)
    released = watch.refunds[leg["refund_id"]]["status"] in ("canceled", "rejected")
    displaced = leg["leg_id"] in watch.displaced or _is_paid_by_displaced(watch, leg)
    if not (refused or void or released or displaced or leg["leg_id"] in watch.given_up):
        raise Violation(f"L1 {leg['leg_id']} is {leg['status']}, and neither the processor nor a person said so")


def _linked_of_the_same(watch: Watched, leg: Row) -> list[str]:
    """Return the linked legs over the same payment: this one may be the rest of such a leg, split after its send."""
    return [known for known in sorted(watch.linked) if _whose(watch.legs[known]) == _whose(leg)]


def _whose(leg: Row) -> tuple[str, str]:
    return leg["refund_id"], leg["payment_id"]


def _is_paid_by_displaced(watch: Watched, leg: Row) -> bool:
    """Return True if the leg stands for one that had left its payment and was paid all the same, days later."""
    objects = [item for item in watch.bank.refund_objects if item.leg_id == leg["replaces"] and not item.is_void]
    return leg["replaces"] in watch.displaced and bool(objects)


def check_attention(watch: Watched, leg: Row) -> None:
    """Check L1: the reason for attention must be true of this leg at this moment."""
    leg_id, reason, bank = leg["leg_id"], leg["attention"], watch.bank
    payment = bank.payments.get(leg["processor_payment_id"])
    refund_objects = [item for item in bank.refund_objects if item.leg_id == leg_id]
    calm = watch.calm_since is not None and watch.world.now >= watch.calm_since + REACHABLE_AFTER_SECONDS
    causes: dict[str, Callable[[], bool]] = {
        "resource_missing": lambda: payment is None,
        "charge_disputed": lambda: payment is not None and payment.was_disputed,
        "charge_already_refunded": lambda: _others_paid(watch, leg),
        "refunded_elsewhere": lambda: _others_paid(watch, leg),
        "payment_mismatch": lambda: leg["processor_payment_id"] in bank.recorded_wrong,
        "unknown_refusal": lambda: _was_told(watch, leg, UnknownRefusal),
        "refunded_twice": lambda: (
            (leg_id in watch.by_hand or _paid_beyond(watch, leg))
            and any(set(item.words) - GONE for item in refund_objects)
        ),
        "insufficient_funds": lambda: any(item.failure == "insufficient_funds" for item in refund_objects),
        "balance_insufficient": lambda: _was_told(watch, leg, Blocked),
        "outcome_unknown": lambda: _was_silent_too_long(watch, leg, refund_objects),
        "answer_mismatch": lambda: _was_told_falsely(watch, leg_id),
        "unknown_status": lambda: (
            any(word not in REACHED for item in refund_objects for word in item.words)
            # It failed beside an object that names it and is something else.
            or (leg["status"] in ("failed", "canceled") and _was_told_falsely(watch, leg_id))
        ),
        "processor_unreachable": lambda: not calm,
        "report_overdue": lambda: _is_report_overdue(watch, leg),
        "refunds_off": lambda: watch.world.running is not None and leg["processor"] in watch.world.running.off,
        "manual_fallback": lambda: "manual" in ways_of(watch, watch.refunds[leg["refund_id"]]),
        "no_fallback_left": lambda: not {"manual", "balance"} & {*ways_of(watch, watch.refunds[leg["refund_id"]])},
    }
    cause = causes.get(reason)
    good = leg["processor"] == "manual" or (cause is not None and cause())
    if not good:
        raise Violation(f"L1 {leg_id} is left to a person as {reason}, which it is not")


def _others_paid(watch: Watched, leg: Row) -> bool:
    return any(t.payment == leg["processor_payment_id"] for t in watch.bank.of_others())


def _paid_beyond(watch: Watched, leg: Row) -> bool:
    """Return True if a leg that had left its payment was paid after all, days later, beside its replacement."""
    legs = {other["leg_id"]: other for other in watch.legs.values() if other["refund_id"] == leg["refund_id"]}
    asked = sum(other["amount_minor"] for other in legs.values() if other["replaces"] is None)
    paid = sum(item.amount for item in watch.bank.refund_objects if item.leg_id in legs and not item.is_void)
    return paid > asked and any(known in watch.displaced for known in legs)


def _was_told_falsely(watch: Watched, leg_id: str) -> bool:
    """Return True if an answer about the leg was false, or if a refund of others carries our mark of it.

    The object of a leg can be a refund of others that a person linked.
    """
    told = {leg_id, watch.legs[leg_id]["processor_refund_id"]} - {None}
    return bool(told & watch.bank.falsified) or any(t.mark == leg_id for t in watch.bank.of_others())


def _was_told(watch: Watched, leg: Row, kind: type) -> bool:
    keys = [f"{leg['leg_id']}:{number}" for number in range(1, leg["attempt"] + 1)]
    return any(isinstance(sent.told, kind) for key in keys for sent in watch.bank.sent.get(key, ()))


def _was_silent_too_long(watch: Watched, leg: Row, refund_objects: list[BankRefund]) -> bool:
    """Return True if the key's life has passed without a visible refund.

    The time counts from the first intent of this attempt, by either clock. No list during the lease may have shown
    a refund that is not void.
    """
    if watch.is_silent(leg):
        return _is_silent_for_good(watch, leg, refund_objects)
    true, dated = watch.intents[leg["leg_id"], leg["attempt"]]
    age = max(watch.world.now - true, watch.world.database_now - dated)
    seen = [t for t in refund_objects if t.listed_from < watch.world.now - watch.policy.lease_seconds and not t.is_void]
    return age >= watch.policy.key_life_seconds and not seen


def _is_silent_for_good(watch: Watched, leg: Row, refund_objects: list[BankRefund]) -> bool:
    """Return True if nothing about the leg's call can be learned any more, except by an event that may never come.

    The quiet window has passed since the last send, by either clock. The key is too old for another send, or it must
    not be sent again: its stored answer is an error or a false one, its age is unknown since a clock jump, or a person
    asked again.
    """
    times, leg_id = watch.times_of(leg), leg["leg_id"]
    true, dated = watch.intents[leg_id, leg["attempt"]]
    now, jumped = watch.world.now, any(kind == "clock_went_back" for _, _, kind, *_ in watch.events)
    sent = watch.bank.sent.get(f"{leg_id}:{leg['attempt']}", [])
    quiet = (now if not sent else now - sent[-1].at) >= times.quiet_seconds or jumped
    age = max(now - true, watch.world.database_now - dated)
    lands_in_time = age + watch.policy.lease_seconds + times.quiet_seconds <= times.key_seconds
    expired = age >= times.key_use_seconds or not lands_in_time
    never_again = any(getattr(one.told, "server_error", False) or isinstance(one.told, MUST_NOT_REPEAT) for one in sent)
    never_again |= _was_told_falsely(watch, leg_id)
    asked_again = any(row[1:5:3] == (leg["refund_id"], None) and row[2] == "retry_requested" for row in watch.events)
    # One that was told falsely is known without a state.
    told = any(watch.objects.get(item.id) for item in refund_objects if item.attempt == leg["attempt"])
    return quiet and (expired or never_again or jumped or asked_again) and not told


def _is_report_overdue(watch: Watched, leg: Row) -> bool:
    """Return True if the silent processor has accepted the leg, and its event is overdue by either clock."""
    if not watch.is_silent(leg) or leg["status"] != "pending":
        return False
    true, dated = watch.intents[leg["leg_id"], leg["attempt"]]
    age = max(watch.world.now - true, watch.world.database_now - dated)
    return age >= watch.times_of(leg).report_seconds
