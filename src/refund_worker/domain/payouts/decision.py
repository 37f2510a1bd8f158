"""The result of a decision about a payout: data for the engine to write and calls for it to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from refund_worker.domain.decision import Event, Policy, ProcessorDenied
from refund_worker.domain.ledger import Posting
from refund_worker.domain.payouts.payee import NO_CHANGE, BalanceDelta
from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.payouts.transfers import Fault, PayoutAnswer, Step, TransferObject
from refund_worker.domain.refund import ObjectState


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRules:
    """The rules of one account's payouts that decisions depend on, beside those about calls.

    `steps` are those of one payout. `return_window_seconds` is how long after it was paid the money may come back.
    `moves_money` is False if a person pays. `by_file` is True if the payout waits for a file that a person takes to the
    bank. `minimum_minor` and `maximum_minor` are the processor's own limits, by currency; "" for all others.
    `refusal_faults` are the codes of refusals whose fault is known.
    """

    steps: tuple[Step, ...] = (Step.PAYOUT,)
    return_window_seconds: float = 30 * 86_400.0
    moves_money: bool = True
    minimum_minor: Mapping[str, int] = field(default_factory=dict)
    maximum_minor: Mapping[str, int] = field(default_factory=dict)
    by_file: bool = False
    refusal_faults: Mapping[str, Fault] = field(default_factory=dict)


NO_ROUTE = RouteRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutPolicy:
    """The durations (seconds), limits (minor units) and choices that decisions about payouts depend on.

    `calls` are the rules about calls: those of refunds with the facts of each account's payouts. `minimum_minor` and
    `maximum_minor` are by currency.
    """

    calls: Policy = field(default_factory=Policy)
    routes: Mapping[str, RouteRules] = field(default_factory=dict)
    cooldown_seconds: float = 86_400.0
    interval_seconds: float = 0.0
    minimum_minor: Mapping[str, int] = field(default_factory=dict)
    maximum_minor: Mapping[str, int] = field(default_factory=dict)

    def route_of(self, processor: str) -> RouteRules:
        """Return the rules of an account's payouts; a careful default for one that is not described any more."""
        return self.routes.get(processor, NO_ROUTE)

    def minimum_for(self, processor: str, currency: str) -> int:
        """Return the smallest payout in minor units: that of the setting, and not less than the processor's."""
        theirs = self.route_of(processor).minimum_minor
        return max(1, _of(self.minimum_minor, currency) or 0, _of(theirs, currency) or 0)

    def maximum_for(self, processor: str, currency: str) -> int | None:
        """Return the largest payout in minor units: that of the setting or the processor's, None without one."""
        both = (_of(self.maximum_minor, currency), _of(self.route_of(processor).maximum_minor, currency))
        return min((limit for limit in both if limit is not None), default=None)

    def step_for(self, processor: str, currency: str) -> int:
        """Return the minor units of which each payout is a multiple at this processor."""
        return self.calls.rules_of(processor).steps.get(currency, 1)


def _of(limits: Mapping[str, int], currency: str) -> int | None:
    """Return the limit of a currency; "" stands for all others."""
    return limits.get(currency, limits.get(""))


@dataclass(frozen=True, slots=True)
class SendTransfer:
    """A send with the attempt's frozen key and body. The body of a new attempt is frozen from the payout."""

    leg_id: str
    processor: str
    attempt: int
    key: str


@dataclass(frozen=True, slots=True)
class FindTransfer:
    """A question for what the leg's attempt made. `before_sending`: a send waits only for this list."""

    leg_id: str
    processor: str
    before_sending: bool = False


@dataclass(frozen=True, slots=True)
class FetchTransfer:
    """A question for the current state of a known transfer object. `rereads`: its leg has ended, so it can wait."""

    leg_id: str
    processor: str
    object_id: str
    rereads: bool = False


@dataclass(frozen=True, slots=True)
class CancelTransfer:
    """An order to call off a transfer object that waits for the payee."""

    leg_id: str
    processor: str
    object_id: str


TransferCall = SendTransfer | FindTransfer | FetchTransfer | CancelTransfer


@dataclass(frozen=True, slots=True)
class TransferReplied:
    """A processor's reply about one leg: the answer to `call`, or a report that it made unasked (`call` is None).

    `asked_at` (epoch seconds) is the time of the question, as for a refund.
    """

    payout_id: str
    leg_id: str
    call: TransferCall | None
    reply: PayoutAnswer
    asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class TransferUpdate:
    """A transfer object, merged with earlier reports. The engine upserts it. No `state`: its status is not known."""

    leg_id: str
    state: ObjectState | None
    object: TransferObject


@dataclass(frozen=True, slots=True)
class PayeeChange:
    """The consequence of a payout for its payee.

    `destination_failure`: a payout to the destination `destination_id` failed by a fault of the payee's. `blocked`: a
    person must decide about the payout before anything else is sent to the payee; False ends that.
    """

    destination_id: str
    destination_failure: str | None = None
    blocked: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutDecision:
    """Everything that follows from one event about one payout, to be written in one transaction.

    A payout that was just accepted has no `before`; `request_body` is then the request's JSON.
    """

    before: Payout | None
    after: Payout
    request_body: str | None = None
    postings: tuple[Posting, ...] = ()
    events: tuple[Event, ...] = ()
    objects: tuple[TransferUpdate, ...] = ()
    balance: BalanceDelta = NO_CHANGE
    calls: tuple[TransferCall, ...] = ()
    pauses: tuple[ProcessorDenied, ...] = ()
    payee: PayeeChange | None = None

    def leased(self, token: str, until: float) -> PayoutDecision:
        """Return the decision with the payout leased under `token` until then (epoch seconds)."""
        return replace(self, after=replace(self.after, lease_token=token, lease_until=until))

    def released(self) -> PayoutDecision:
        """Return the decision with the payout's lease ended: an answer still under way is not written under it."""
        return replace(self, after=replace(self.after, lease_token=None, lease_until=None))
