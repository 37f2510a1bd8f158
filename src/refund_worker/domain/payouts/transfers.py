"""Instructions to a route for payouts, its transfer objects and its replies.

A payout goes to the payee in one or more steps, each with a transfer object at the processor. A step that is not known
to have failed may have moved money. Replies about calls that moved nothing are those of refunds
(`domain/processor_replies.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from refund_worker.domain.payouts.destination import Destination
from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import ObjectState


class Step(StrEnum):
    """The steps of a payout. A route has one or two of the first two; the last undoes the first of two."""

    TRANSFER = "transfer"  # to the payee's account at the processor
    PAYOUT = "payout"  # from there, or from us, to the payee
    REVERSAL = "reversal"  # of the transfer, after the payout failed for good


class Fault(StrEnum):
    """The party at fault for a failure. Only a payee's own fault is explained to the payee."""

    PAYEE = "payee"  # the payee must act: another account, an address, a limit
    OURS = "ours"  # our balance, our account, our data
    PROCESSOR = "processor"  # theirs, or their bank's: a later try may work
    COMPLIANCE = "compliance"  # nothing more is said to anybody but the operators, and no detail


class Method(StrEnum):
    """How fast the money goes, where the route offers a choice."""

    STANDARD = "standard"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferInstruction:
    """The request of one attempt of a step: `amount_minor` (minor units) of `currency` to `destination`.

    `installation` names the database that knows the leg. `country` is the payee's, in two capital letters, if it is
    known. `undoes` is the id of the transfer object that a `REVERSAL` undoes. `end_to_end_id` is the attempt's key: it
    travels with the payment where a route has a field for it.
    """

    payout_id: str
    leg_id: str
    attempt: int
    step: Step
    destination: Destination
    amount_minor: int
    currency: str
    description: str
    end_to_end_id: str
    method: Method = Method.STANDARD
    country: str | None = None
    undoes: str | None = None
    installation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferObject:
    """One transfer or payout in the processor's own record. Untrusted: the engine checks amount and currency.

    - `object_id`: the processor's id. `refs` are its further ids, such as that of a batch.
    - `status`: the processor's own status. `state` is its meaning, None for a status that is not known: it is never
      guessed at. A payout that waits for the payee has the state `REQUIRES_ACTION`; money that came back is `FAILED`,
      also after `SUCCEEDED`; an object that was called off, or undone by a person there, is `CANCELED`.
    - `leg_id`, `attempt`, `installation`: what we wrote into it, None if it is not ours.
    - `failure_code`, `fault`: why it failed or waits, and whose fault that is, as far as it is known.
    - `act_by`: until when the payee can act. `arrives_at`: when the money is expected. Epoch seconds.
    - `returned_minor`: how much came back, if that is less than was sent.
    - `fee_minor`: what the processor took for it, in minor units of the currency.
    - `trace`: the number by which the payee's bank finds the money.
    """

    object_id: str
    step: Step
    status: str | None
    state: ObjectState | None
    amount_minor: int
    currency: str
    leg_id: str | None
    attempt: int | None
    created_at: datetime
    installation: str | None = None
    refs: tuple[str, ...] = ()
    failure_code: str | None = None
    fault: Fault | None = None
    live: bool | None = None
    act_by: float | None = None
    arrives_at: float | None = None
    returned_minor: int | None = None
    fee_minor: int | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class TransferAnswered:
    """The processor described a transfer object. `replayed` as for a refund."""

    object: TransferObject
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class TransfersFound:
    """All transfer objects that the attempt may have made, with all pages read. Empty if it made none so far."""

    objects: tuple[TransferObject, ...]


@dataclass(frozen=True, slots=True)
class NotListed:
    """The processor has no way to find a transfer object without its id."""

    message: str


class PayeeState(StrEnum):
    """The processor's verdict on a destination."""

    READY = "ready"
    INCOMPLETE = "incomplete"  # the payee must act first
    UNDER_REVIEW = "under_review"  # the processor looks at it
    REFUSED = "refused"  # the processor will not pay there, and says nothing more


@dataclass(frozen=True, slots=True)
class PayeeRead:
    """The processor's word on a destination.

    `reason` is a code of the processor's, None where it says nothing that may be shown. `needs` are what the payee must
    give, in the processor's words. `act_by` is until when (epoch seconds).
    """

    state: PayeeState
    reason: str | None = None
    needs: tuple[str, ...] = ()
    act_by: float | None = None
    live: bool | None = None


@dataclass(frozen=True, slots=True)
class PayeeUnreadable:
    """The route cannot ask about a destination: it counts as ready until a payment to it fails."""

    message: str


_NotDone = Refused | Blocked | Busy | NotSent | Unanswered | Denied | Misconfigured | UnknownRefusal | KeyConflict
TransferReply = TransferAnswered | _NotDone
TransfersReply = TransfersFound | NotListed | Busy | NotSent | Unanswered | Denied | Misconfigured
PayeeReply = PayeeRead | PayeeUnreadable | Busy | NotSent | Unanswered | Denied | Misconfigured
PayoutAnswer = TransferReply | TransfersReply | PayeeReply

# The fields of replies and transfer objects in which a processor's own words may stand.
_TEXTS: Final = frozenset({"code", "failure_code", "message", "reason", "status"})
A = TypeVar("A")


def with_texts(reply: A, change: Callable[[str], str]) -> A:
    """Return a reply with each text in it that may be a processor's own as `change` returns it."""
    told: Any = reply
    if isinstance(told, TransferAnswered):
        told = replace(told, object=with_texts(told.object, change))
    elif isinstance(told, TransfersFound):
        told = replace(told, objects=tuple(with_texts(each, change) for each in told.objects))
    names = [field.name for field in fields(told) if field.name in _TEXTS]
    texts = {name: change(text) for name in names if (text := getattr(told, name)) is not None}
    changed: A = replace(told, **texts)
    return changed
