"""The causes for which refunds wait, with what the database knows of their processors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.alarms import Condition
from refund_worker.domain.account_names import PAYOUT, platform_of
from refund_worker.domain.payouts.payout import Payout, PayoutStatus
from refund_worker.domain.refund import Refund
from refund_worker.domain.waiting import Wait, WaitCause, waits
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.status import CIRCUIT_OPEN, PAUSED, STALE, stored_switches
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_codes import code_with_entry
from refund_worker.engine.views.leg_texts import payout_id_of
from refund_worker.engine.views.payout_texts import failure_code_of
from refund_worker.store import attempts
from refund_worker.store.payouts import payouts
from refund_worker.store.processors import ALL
from refund_worker.store.reporting import metrics
from refund_worker.times import iso

_CAUSES = {
    PAUSED: WaitCause.PROCESSOR_PAUSED,
    CIRCUIT_OPEN: WaitCause.CIRCUIT_OPEN,
    STALE: WaitCause.LISTING_STALE,
}
BLOCKING = tuple(_CAUSES.values())


@dataclass(frozen=True, slots=True)
class Waiting:
    """The number of refunds that wait because nothing is sent to a processor; `entry` names the runbook's entry."""

    processor: str
    refunds: int
    wait: Wait
    entry: str


def waits_of(connection: Connection, context: Context, refund: Refund) -> tuple[Wait, ...]:
    """Return the causes for which the refund waits now."""
    names = {leg.processor for leg in refund.legs}
    blocked = _blocked(stored_switches(connection, context, others=names), names)
    last_codes = attempts.last_codes(connection, refund.refund_id)
    return waits(refund, context.clock(connection), blocked, last_codes, _waits_for_payouts(connection, refund))


def _waits_for_payouts(connection: Connection, refund: Refund) -> dict[str, Wait]:
    """Return the waits for the payouts that pay legs of the refund, by leg_id."""
    ids = {payout_id: leg.leg_id for leg in refund.legs if (payout_id := payout_id_of(leg)) is not None}
    found = payouts.load(connection, ids) if ids else []
    return {ids[payout.payout_id]: _wait_for(payout) for payout in found}


def _wait_for(payout: Payout) -> Wait:
    if payout.status is PayoutStatus.HELD:
        return Wait(
            WaitCause.PAYOUT_HELD,
            PAYOUT,
            until=payout.hold_until,
            code=payout.hold_code,
            payout_id=payout.payout_id,
        )
    return Wait(
        WaitCause.PAYOUT,
        PAYOUT,
        code=failure_code_of(payout),
        payout_id=payout.payout_id,
        payout_status=payout.status.value,
    )


def wait_view(wait: Wait) -> api_schema.Wait:
    """Return one cause of a wait as JSON."""
    return {
        "cause": wait.cause.value,
        "text": wait.text,
        "processor": wait.processor,
        "since": None if wait.since is None else iso(wait.since),
        "until": None if wait.until is None else iso(wait.until),
        "code": wait.code,
        "reason": wait.reason,
    }


def waiting_by_processor(connection: Connection, switches: Sequence[Json]) -> list[Waiting]:
    """Return, by name, the processors to which nothing is sent while refunds wait for them.

    The refunds of connected accounts count for their platform where it is what stops them.
    """
    stopped = {switch["name"] for switch in switches if switch["state"] in _CAUSES}
    if not stopped:
        return []
    counts: Counter[str] = Counter()
    for name, refunds in metrics.count_to_be_sent(connection).items():
        counts[name if name in stopped else platform_of(name)] += refunds
    return [
        Waiting(name, counts[name], wait, entry_of(wait.cause, wait.code))
        for name, wait in sorted(_blocked(switches, counts).items())
        if counts[name]
    ]


def entry_of(cause: WaitCause, code: str | None) -> str:
    """Return the name of the runbook's entry about a processor to which nothing is sent."""
    return Condition.LISTING_STALE.value if cause is WaitCause.LISTING_STALE else code_with_entry(code)


def _blocked(switches: Sequence[Json], names: Collection[str]) -> dict[str, Wait]:
    """Return the wait for each of the processors `names` to which nothing is sent.

    A pause of all of them goes before what is known of one, and what is known of a platform before its connected one.
    """
    by_name = {switch["name"]: switch for switch in switches if switch["state"] in _CAUSES}
    everything = by_name.get(ALL) if by_name.get(ALL, {}).get("paused") else None
    found = ((name, everything or by_name.get(platform_of(name)) or by_name.get(name)) for name in names)
    return {name: _wait(name, switch) for name, switch in found if switch is not None}


def _wait(name: str, switch: Json) -> Wait:
    since = switch["looked_at"] if switch["state"] == STALE else switch["paused_at"]
    until = _epoch(switch["paused_until"])
    return Wait(_CAUSES[switch["state"]], name, _epoch(since), until, switch["code"], switch["reason"])


def _epoch(at: str | None) -> float | None:
    return None if at is None else datetime.fromisoformat(at).timestamp()
