"""The causes for which an unfinished refund waits: one function, for the API, the console and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from refund_worker.domain.legs import waits_for_person
from refund_worker.domain.refund import FINAL, Leg, LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import ACTIVE


class WaitCause(StrEnum):
    """The cause of a wait. The values are part of the API."""

    APPROVAL = "approval"
    PERSON = "person"
    PROCESSOR_PAUSED = "processor_paused"
    CIRCUIT_OPEN = "circuit_open"
    LISTING_STALE = "listing_stale"
    RETRY = "retry"
    RESULT_UNKNOWN = "result_unknown"
    PROCESSOR = "processor"
    PAYOUT = "payout"
    PAYOUT_HELD = "payout_held"
    CUSTOMER = "customer"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Wait:
    """One cause for which a refund waits (times in epoch seconds). `until` is the time of the next try, if known."""

    cause: WaitCause
    processor: str | None = None
    since: float | None = None
    until: float | None = None
    code: str | None = None
    reason: str | None = None
    payout_id: str | None = None
    payout_status: str | None = None

    @property
    def text(self) -> str:
        """Return the cause as a sentence, without its times, code and reason."""
        return _TEXTS[self.cause].format(
            processor=self.processor, payout=self.payout_id, status=(self.payout_status or "").replace("_", " ")
        )


_TEXTS: Mapping[WaitCause, str] = {
    WaitCause.APPROVAL: "It waits for a second person's approval.",
    WaitCause.PERSON: "It waits for a person, who retries or resolves it.",
    WaitCause.PROCESSOR_PAUSED: "A person paused {processor}: nothing is sent there until somebody resumes it.",
    WaitCause.CIRCUIT_OPEN: "The circuit of {processor} is open: nothing is sent there until it accepts a call again.",
    WaitCause.LISTING_STALE: "It waits for the list of {processor}'s refunds: nothing is sent there before.",
    WaitCause.RETRY: "It waits for the next try at {processor}.",
    WaitCause.RESULT_UNKNOWN: "{processor} did not answer: it is looked up there.",
    WaitCause.PROCESSOR: "{processor} has it, and its result is not final yet.",
    WaitCause.PAYOUT: "The payout {payout} has the status {status}: its result is not final yet.",
    WaitCause.PAYOUT_HELD: "The payout {payout} is held: nothing is sent to the payee yet.",
    WaitCause.CUSTOMER: "It waits for the customer, who must act at {processor}.",
    WaitCause.WORKER: "It is due and waits for a worker.",
}
NOTHING_BLOCKED: Mapping[str, Wait] = MappingProxyType({})
NO_CODES: Mapping[str, str] = MappingProxyType({})
NO_PAYOUTS: Mapping[str, Wait] = MappingProxyType({})


def waits(
    refund: Refund,
    now: float,
    blocked: Mapping[str, Wait] = NOTHING_BLOCKED,
    last_codes: Mapping[str, str] = NO_CODES,
    payouts: Mapping[str, Wait] = NO_PAYOUTS,
) -> tuple[Wait, ...]:
    """Return the causes for which the refund waits at `now`, each once; nothing if it has ended.

    `blocked` has the wait for each processor to which nothing is sent. `last_codes` are the codes of the last
    answers, and `payouts` the waits for the payouts that pay legs, by leg_id.
    """
    if refund.status in FINAL:
        return ()
    if refund.status is RefundStatus.AWAITING_APPROVAL:
        return (Wait(WaitCause.APPROVAL, since=refund.created_at),)
    found: dict[tuple[str | None, ...], Wait] = {}
    for leg in _open_legs(refund):
        wait = _wait_of(leg, now, blocked, last_codes.get(leg.leg_id))
        if wait.cause is WaitCause.PROCESSOR:
            wait = payouts.get(leg.leg_id, wait)
        found.setdefault((wait.cause, wait.processor, wait.code, wait.payout_id), wait)
    return tuple(found.values()) or (Wait(WaitCause.WORKER, since=refund.due_at),)


def _open_legs(refund: Refund) -> Iterator[Leg]:
    return (leg for leg in refund.legs if leg.status in ACTIVE or leg.attention_code)


def _wait_of(leg: Leg, now: float, blocked: Mapping[str, Wait], last_code: str | None) -> Wait:
    name, block = leg.processor, blocked.get(leg.processor)
    at = leg.next_at if leg.next_at is not None and leg.next_at > now else None
    if waits_for_person(leg) or leg.status not in ACTIVE:
        return Wait(WaitCause.PERSON, name, code=leg.attention_code)
    if leg.status is LegStatus.REQUIRES_ACTION:
        return Wait(WaitCause.CUSTOMER, name, until=at)
    if leg.status is LegStatus.UNKNOWN:
        return Wait(WaitCause.RESULT_UNKNOWN, name, since=leg.last_sent_at, until=at, code=last_code)
    if leg.status in (LegStatus.PENDING, LegStatus.SENDING):
        return Wait(WaitCause.PROCESSOR, name, since=leg.last_sent_at, until=at)
    if block is not None:
        return block
    if at is not None:
        return Wait(WaitCause.RETRY, name, until=at, code=leg.failure_code or last_code)
    return Wait(WaitCause.WORKER)
