"""Pause and resume sending to a processor."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key, check_same_act
from refund_worker.store import idempotency, processors, timeline
from refund_worker.store.waiting import requeue_waiting_for


def pause_processor(context: Context, name: str, *, actor: str, reason: str, key: Key | None = None) -> None:
    """Pause the account `name`, all accounts of this processor or adapter, or all of them ("all").

    From the next claim nothing is sent; look-ups continue.

    The same act under the same `key` again changes nothing, even if the switch was changed in between. Raises
    `KeyReused` if the key was used for another act.
    """
    act = {"switch": name, "to": "paused", "reason": reason, "actor": actor}

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        if key is None or _is_first(connection, key, act, name, now):
            for each in context.accounts.switched_by(name):
                processors.pause(connection, each, now, by=actor, code="paused_by_hand", reason=reason)
                _note_switch(connection, "processor_paused", each, now, actor=actor, reason=reason)

    context.database.run(work)


def resume_processor(
    context: Context, name: str, *, actor: str = "unknown", reason: str | None = None, key: Key | None = None
) -> bool:
    """Resume what `pause_processor` stops; waiting refunds are due at once. Return False if nothing was paused.

    `key` is that of `pause_processor`: the same act again changes nothing and returns False.
    """
    act = {"switch": name, "to": "sending", "reason": reason, "actor": actor}

    def work(connection: Connection) -> bool:
        now = context.clock(connection)
        if key is not None and not _is_first(connection, key, act, name, now):
            return False
        resumed = [each for each in context.accounts.switched_by(name) if processors.resume(connection, each, now)]
        for each in resumed:
            whose = None if each == processors.ALL else each
            requeue_waiting_for(connection, whose, now)
            _note_switch(connection, "processor_resumed", each, now, actor=actor, reason=reason)
        return bool(resumed)

    return context.database.run(work)


def _note_switch(connection: Connection, kind: str, name: str, now: float, *, actor: str, reason: str | None) -> None:
    timeline.insert_events(connection, [(None, Event(kind, actor, reason=reason, detail={"processor": name}))], now)


def _is_first(connection: Connection, key: Key, act: Mapping[str, object], result_id: str, now: float) -> bool:
    """Return True if the act was not done under this key before, and store it then, with actor and reason."""
    earlier = idempotency.find_act(connection, *key)
    if earlier is not None:
        check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
        return False
    idempotency.insert_act(connection, *key, json.dumps(act), result_id, now)
    return True
