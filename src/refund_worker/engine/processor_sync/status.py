"""The switch of each processor as people see it: is anything sent there, who stopped it and why, and how much goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, RowMapping

from refund_worker.engine.context import Context
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.engine.views.api_objects import Json
from refund_worker.processors import registry
from refund_worker.store import processors
from refund_worker.store.reporting import metrics
from refund_worker.times import iso

RATE_SECONDS = 60.0

SENDING, PAUSED, CIRCUIT_OPEN, STALE = "sending", "paused", "open", "stale"


def switch_names() -> tuple[str, ...]:
    """Return the names that always have a kill switch: every registered processor, and all of them at once."""
    return (processors.ALL, *registry.names())


def is_known(connection: Connection, name: str) -> bool:
    """Return True if the name has a kill switch: it is registered, a payment names it, or it was paused before.

    A misspelled name must not pass for a processor that was paused.
    """
    return name in switch_names() or metrics.is_known_processor(connection, name)


def switches(
    connection: Connection, context: Context, *, others: Collection[str] = (), rates: Mapping[str, float] | None = None
) -> list[Json]:
    """By name: {name, state, paused, paused_by, paused_at, paused_until, code, reason, looked_at, sent_last_minute,
    rate_per_second}.

    `state` is "sending"; "paused" by a person; "open", a circuit that the program opened and tries again when
    `paused_until` is past; or "stale", until its refunds have been listed again. `rates` are the limits by name.
    """
    now = context.clock(connection)
    rows = {row["name"]: row for row in processors.status_of_processors(connection)}
    stopped = processors.paused_processors(connection, now)
    stale = stale_processors(connection, context, now)
    sent = processors.sends_since(connection, now - RATE_SECONDS)
    return [
        _switch(
            name,
            rows.get(name),
            paused=name in stopped,
            stale=name in stale,
            sent=sum(sent.values()) if name == processors.ALL else sent.get(name, 0),
            rate=(rates or {}).get(name),
        )
        for name in sorted({*switch_names(), *rows, *others})
    ]


def _switch(name: str, row: RowMapping | None, *, paused: bool, stale: bool, sent: int, rate: float | None) -> Json:
    told = row if row is not None and paused else None
    by_program = told is not None and told["paused_until"] is not None
    state = CIRCUIT_OPEN if by_program else PAUSED if told is not None else STALE if stale else SENDING
    looked_at = row["looked_at"] if row is not None else None
    return {
        "name": name,
        "state": state,
        "paused": told is not None,
        "paused_by": told["paused_by"] if told else None,
        "paused_at": iso(told["paused_at"]) if told else None,
        "paused_until": iso(told["paused_until"]) if by_program and told else None,
        "code": told["code"] if told else None,
        "reason": told["reason"] if told else None,
        "looked_at": iso(looked_at) if looked_at is not None else None,
        "sent_last_minute": sent,
        "rate_per_second": rate or None,
    }
