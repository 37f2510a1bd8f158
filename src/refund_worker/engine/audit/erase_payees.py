"""Erase the destinations of a customer's payees: nothing is paid to them until they have a new one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.domain.payouts.destination import ERASED_DESTINATION, ERASED_TEXT
from refund_worker.domain.payouts.payee import CUSTOMER_ERASED, Payee
from refund_worker.engine.context import Context
from refund_worker.store import timeline
from refund_worker.store.payouts import payees
from refund_worker.store.payouts.payees import DestinationNames

CHANGED = "payee_changed"


def erase_destinations(
    connection: Connection, context: Context, found: Iterable[Payee], now: float, *, actor: str
) -> None:
    """Replace the destinations of these payees, who are locked, at `now` (epoch seconds); erase the reasons of pauses.

    The payee is incomplete then, whatever a person resumes: only a new destination ends that. The id changes, so that
    a payout to the old destination which comes back is not sent there again.
    """
    for payee in found:
        erased = payee if payee.pause_reason is None else replace(payee, pause_reason="")
        names = None
        if payee.destination_failure != CUSTOMER_ERASED:
            text = json.dumps(ERASED_DESTINATION.as_fields(), sort_keys=True)
            names = DestinationNames(context.box.fingerprint(text), None)
            erased = _without_destination(erased, context.new_id("dst"), context.box.seal(text), now)
        if erased == payee:
            continue
        payees.write_payee(connection, replace(erased, version=payee.version + 1, updated_at=now), names)
        if names is not None:
            detail = {"payee_id": payee.payee_id, "changed": "destination", "destination": ERASED_TEXT}
            timeline.insert_events_about(connection, [(payee.payee_id, Event(CHANGED, actor, detail=detail))], now)


def _without_destination(payee: Payee, destination_id: str, sealed: str, now: float) -> Payee:
    return replace(
        payee,
        destination_id=destination_id,
        destination_kind=ERASED_DESTINATION.kind,
        destination_box=sealed,
        destination_masked=ERASED_TEXT,
        destination_ref=None,
        destination_changed_at=now,
        destination_failure=CUSTOMER_ERASED,
        verdict=None,
        verdict_reason=None,
        verdict_needs=(),
        verdict_act_by=None,
        verdict_read_at=None,
    )
