"""What a person may do: commands with actor, reason and preconditions, applied under the refund's lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.domain.operator_action import commanded
from refund_worker.domain.refund import Refund
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import check_same_act
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.errors import NotFound, StaleVersion
from refund_worker.store import idempotency, processors, refunds
from refund_worker.store.access import persons


class Key(NamedTuple):
    """Names one press of a button, so that the second of a double click changes nothing."""

    client: str
    idempotency_key: str


def command(
    context: Context,
    refund_id: str,
    action: Action,
    *,
    actor: str,
    reason: str,
    reference: str | None = None,
    version: int | None = None,
    client: str | None = None,
    key: Key | None = None,
) -> Refund:
    """Do `action` and return the refund as it is then. For `resolve`, `reference` is that of a payment
    made by hand; without one the credits go back.

    `version` is the one the person saw; `client` limits whose refunds are visible. The same act under the same `key`
    again changes nothing. Raises `NotFound`, `StaleVersion`, `ActionNotAllowed`, `KeyReused`.
    """
    act = {"refund_id": refund_id, "action": str(action), "reason": reason, "reference": reference, "actor": actor}

    def work(connection: Connection) -> Refund:
        now = context.clock(connection)
        found = refunds.load(connection, [refund_id], lock=True)
        if not found or (client is not None and found[0].client != client):
            raise NotFound(f"refund {refund_id} is not known")
        refund = found[0]
        if key is not None and (earlier := idempotency.find_act(connection, *key)) is not None:
            check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
            return refund
        if version is not None and version != refund.version:
            raise StaleVersion(f"the refund is at version {refund.version} now: look at it again")
        # Read under the refund's lock: what was linked by now counts, however long ago the refund was asked for.
        links = persons.links(connection) if action is Action.APPROVE else ()
        decision = commanded(
            refund, action, now, context.policy, actor=actor, reason=reason, reference=reference, links=links
        )
        # A person's act ends whatever lease there is: an answer that is still under way is asked for again.
        decision = replace(decision, after=replace(decision.after, lease_token=None, lease_until=None))
        apply(connection, [decision], now, notify=context.notify)
        if key is not None:
            idempotency.insert_act(connection, *key, json.dumps(act), refund_id, now)
        return decision.after

    refund = context.database.run(work)
    if refund.due_at is not None:
        context.wake([refund_id], False)
    return refund


def pause_processor(context: Context, name: str, *, actor: str, reason: str, key: Key | None = None) -> None:
    """The kill switch: from the next claim on nothing is sent there ("all": anywhere); look-ups go on.

    The same press under the same `key` again changes nothing, whatever was done to the switch in between.
    """
    act = {"switch": name, "to": "paused", "reason": reason, "actor": actor}

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        if key is None or _is_first(connection, key, act, name, now):
            processors.pause(connection, name, now, by=actor, code="paused_by_hand", reason=reason)
            _note_switch(connection, "processor_paused", name, now, actor=actor, reason=reason)

    context.database.run(work)


def resume_processor(
    context: Context, name: str, *, actor: str = "unknown", reason: str | None = None, key: Key | None = None
) -> bool:
    """Send there again; what waited is due at once. False if it was not paused. `key` as for `pause_processor`."""
    act = {"switch": name, "to": "sending", "reason": reason, "actor": actor}

    def work(connection: Connection) -> bool:
        now = context.clock(connection)
        if key is not None and not _is_first(connection, key, act, name, now):
            return False
        resumed = processors.resume(connection, name, now)
        if resumed:
            whose = None if name == processors.ALL else name
            refunds.wake_those_waiting_for(connection, whose, now)
            _note_switch(connection, "processor_resumed", name, now, actor=actor, reason=reason)
        return resumed

    return context.database.run(work)


def _note_switch(connection: Connection, kind: str, name: str, now: float, *, actor: str, reason: str | None) -> None:
    refunds.insert_events(connection, [(None, Event(kind, actor, reason=reason, detail={"processor": name}))], now)


def _is_first(connection: Connection, key: Key, act: Mapping[str, object], result_id: str, now: float) -> bool:
    """Whether the act was not done under this key yet; it is kept then, with who and why."""
    earlier = idempotency.find_act(connection, *key)
    if earlier is not None:
        check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
        return False
    idempotency.insert_act(connection, *key, json.dumps(act), result_id, now)
    return True
