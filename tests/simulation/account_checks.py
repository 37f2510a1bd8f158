"""The checks of accounts: nothing is sent over one that is paused, off or closed to the payment, and of the fallback.

- before a send: `check_account`
- at a commit: `note_pauses`, `check_ways` (what the fallback does not name never happens)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.simulation.bank_records import VOID
from tests.simulation.kernel import Violation
from tests.simulation.watched import Row, Watched

# A send leaves within half of its lease after the claim, and the switch is read once a second. So a pause acts sooner.
PAUSE_ACTS_SECONDS = 45.0
# From the decision about a send to the commit of its intent.
DECIDED_SECONDS = 60.0
ALL = "all"
# A refund goes over a few payments, and each of its legs is replaced by a few others at most.
LEGS_MAX = 100
EVERY_WAY = ("payments", "balance", "manual")


def note_pauses(watch: Watched) -> None:
    """Note since when each account is paused by a person."""
    rows = watch.connection.raw("SELECT name FROM processors WHERE paused_by IS NOT NULL AND paused_until IS NULL")
    paused = {name for (name,) in rows}
    watch.paused_since = {name: watch.paused_since.get(name, watch.world.now) for name in sorted(paused)}


def check_account(watch: Watched, leg: Row, key: str, amount: int) -> None:
    """Check I16: the account may be used for this send, as a person, its settings and its rules say."""
    account, leg_id = leg["processor"], leg["leg_id"]
    for name in (account, ALL):
        since = watch.paused_since.get(name)
        if since is not None and watch.world.now - since > PAUSE_ACTS_SECONDS:
            raise Violation(f"I16 {leg_id} is sent although {name} is paused since {watch.world.now - since:.0f} s")
    if key in watch.bank.sent:
        return  # what was sent is followed: the same key asks for its outcome
    process = watch.world.running
    # A repeated send may be the second one: its process cannot know whether the first one left before it died.
    if process is not None and account in process.off and leg["sends"] == 1:
        raise Violation(f"I16 {leg_id} is sent although refunds over {account} are off")
    if watch.silent is None or not watch.is_silent(leg):
        return
    window, (_, dated) = watch.silent.window_seconds, watch.intents[leg_id, leg["attempt"]]
    if window is not None and dated - DECIDED_SECONDS - watch.captured[leg["payment_id"]] > window:
        raise Violation(f"I16 {leg_id} is sent although the window of its payment has closed")
    whole = watch.bank.payments.get(leg["processor_payment_id"])
    if not watch.silent.partial_refunds and whole is not None and whole.amount not in (0, amount):
        raise Violation(f"I16 {leg_id} is sent for {amount} of {whole.amount}, and only whole payments can be refunded")


def ways_of(watch: Watched, refund: Row) -> tuple[str, ...]:
    """Return what the fallback allows for this refund."""
    allowed = EVERY_WAY if refund["destinations"] is None else refund["destinations"].split(",")
    return tuple(way for way in watch.policy.fallback if way in allowed)


def check_new_leg(watch: Watched, leg: Row) -> None:
    """Check I16 and L8: another payment replaces a failed one only if the fallback says so. A link may split a leg."""
    refund = watch.refunds[leg["refund_id"]]
    if int(leg["leg_id"].rpartition("-")[2]) > LEGS_MAX:
        raise Violation(f"L8 {leg['leg_id']}: one payment after the other is tried without an end")
    if leg["replaces"] is None or leg["refund_id"] in watch.with_links or leg["processor"] == "manual":
        return
    if "payments" not in ways_of(watch, refund):
        raise Violation(f"I16 {leg['leg_id']} goes over another payment, which {refund['refund_id']} may not try")


def check_ways(watch: Watched, new: Iterable[tuple[Any, ...]]) -> None:
    """Check I16: credits go back only if the fallback names the balance, or after a late failure, or by a person."""
    for _, transaction_id, _, _, credits, _, refund_id in new:
        if f"{refund_id}-reversal-" not in transaction_id or not credits:
            continue
        refund = watch.refunds[refund_id]
        legs = [leg for leg in watch.legs.values() if leg["refund_id"] == refund_id]
        by_person = refund_id in watch.with_links | watch.returned_by_person or any(
            leg["leg_id"] in watch.given_up for leg in legs
        )
        if "balance" not in ways_of(watch, refund) and not by_person and not any(_may_return(watch, x) for x in legs):
            raise Violation(f"I16 {transaction_id} returns {credits} credits, and the balance is no way of {refund_id}")


def _may_return(watch: Watched, leg: Row) -> bool:
    """Return True if the leg is worth no money, was paid and failed later, or a person canceled its object."""
    own = [item for item in watch.bank.refund_objects if item.leg_id == leg["leg_id"]]
    late = any(item.is_void and "succeeded" in item.words for item in own)
    canceled = any("canceled" in item.words or "requires_action" in item.words for item in own)
    return late or canceled or leg["amount_minor"] == 0


def is_void_here(watch: Watched, object_id: str) -> bool:
    """Return True if our own records say that the object moved no money: we were told."""
    return watch.objects.get(object_id) in VOID
