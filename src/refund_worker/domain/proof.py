"""The conclusions that a list at the processor allows about a leg whose answer is missing or that is sent next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from refund_worker.domain.decision import Policy
from refund_worker.domain.legs import is_watched
from refund_worker.domain.refund import LegStatus
from refund_worker.domain.send_state import SendState
from refund_worker.domain.state_machine import TO_BE_SENT
from refund_worker.domain.timing import key_lives, quiet_end

Outside = TypeVar("Outside")


@dataclass(frozen=True, slots=True)
class Listing(Generic[Outside]):
    """A list of what was made at the processor, as far as it concerns one leg.

    `asked_at` is the time of the question, in epoch seconds. `mismatched`: an object carries the leg's id and is not
    what the leg asked for. `outside` are the objects of others that forbid sending. `before_sending`: a send waits for
    this list.
    """

    asked_at: float
    mismatched: bool
    outside: tuple[Outside, ...]
    before_sending: bool

    @property
    def is_clear(self) -> bool:
        """Return True if nothing in the list forbids a send."""
        return not (self.mismatched or self.outside)


class Proof(Enum):
    """The conclusions that a list allows about a leg."""

    NOTHING = auto()  # the leg is with the processor or at its end: the list decides nothing
    SEND_ALLOWED = auto()  # no call is under way: only the list was missing
    MAY_STILL_LAND = auto()  # a call is unanswered, and the quiet window has not passed
    WATCH_IS_OVER = auto()  # the leg was paid manually, and the unanswered call cannot land any more
    NOTHING_CAN_LAND = auto()  # nothing of the leg is listed, and no call can land any more


def proof_of(leg: SendState, listing: Listing[Outside], now: float, policy: Policy) -> Proof:
    """Return what the list proves. The order of the cases is the safety argument: the weakest claim comes first.

    1. A leg that was never sent, or whose last call certainly created nothing, needs no proof of absence.
    2. A leg without an answer does not need it either if its key may be sent again: the next step checks the key's age.
    3. While an unanswered call may still land, absence is not proved.
    4. After that, an empty list proves absence, unless `why_unproved` says why not.
    """
    # A leg that is due only later has come to wait for something else meanwhile, for example for funds.
    is_due = leg.next_at is not None and leg.next_at <= now
    if listing.before_sending and leg.status in TO_BE_SENT and (is_due or listing.mismatched):
        return Proof.SEND_ALLOWED
    if leg.status is not LegStatus.UNKNOWN and not is_watched(leg):
        return Proof.NOTHING
    if leg.status is LegStatus.UNKNOWN and listing.before_sending and listing.is_clear and not leg.lookup_required:
        return Proof.SEND_ALLOWED
    if leg.unanswered and listing.asked_at < quiet_end(leg, policy):
        return Proof.MAY_STILL_LAND
    return Proof.WATCH_IS_OVER if is_watched(leg) else Proof.NOTHING_CAN_LAND


def why_unproved(leg: SendState, now: float, policy: Policy, what: str = "refund") -> str | None:
    """Return why a list without an object leaves the outcome of an earlier call unknown, or None if none is unknown.

    `what` names the object in the text.
    """
    if not leg.unanswered:
        return None
    if not policy.rules_of(leg.processor).finds_refunds:
        return f"this processor cannot be asked about its {what}s, and the call is not repeated any more"
    if not key_lives(leg, now, policy):
        return f"no {what} was found, and the key is too old to be sent again"
    if not policy.rules_of(leg.processor).list_proves_absence:
        return f"no {what} was found, but this processor's list may be incomplete"
    return None
