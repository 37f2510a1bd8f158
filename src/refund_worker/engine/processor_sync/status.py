"""The kill switch of each processor as people see it: its state, who paused it and why, and how much is sent."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping

from refund_worker.api_schema import Switch
from refund_worker.domain.account_names import connected_of
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.engine.views.api_objects import Json
from refund_worker.store import processors
from refund_worker.store.reporting import metrics
from refund_worker.times import iso

RATE_SECONDS = 60.0

SENDING, PAUSED, CIRCUIT_OPEN, STALE = STATES = ("sending", "paused", "open", "stale")


def switch_names(context: Context) -> tuple[str, ...]:
    """Return the names that always have a kill switch: every account, and all of them at once."""
    return (processors.ALL, *context.accounts)


def is_known(connection: Connection, context: Context, name: str) -> bool:
    """Return True if the name has a kill switch.

    It is an account or an adapter of one, a payment names it, or it was paused before.

    A misspelled name must not pass for a processor that was paused.
    """
    adapters = {account.entry.name for account in context.accounts.values()}
    if name in adapters or name in context.accounts or name == processors.ALL:
        return True
    return metrics.is_known_processor(connection, name)


def switches(connection: Connection, context: Context, *, others: Collection[str] = ()) -> list[Json]:
    """Return the switches, sorted by name: {name, state, paused, paused_by, paused_at, paused_until, code, reason,
    looked_at, sent_last_minute, rate_per_second}.

    They are those of the accounts, of all that were ever paused or listed, and of `others`. Connected accounts are only
    among them while one is paused, or its old list holds refunds up: there can be any number of them. `state` is
    "sending"; "paused" by a person; "open" for a circuit that the program opened and tries again after `paused_until`;
    or "stale" until the processor's refunds have been listed again.
    """
    sent = processors.sends_since(connection, context.clock(connection) - RATE_SECONDS)
    return [
        switch
        | {
            "sent_last_minute": sum(sent.values()) if name == processors.ALL else sent.get(name, 0),
            "rate_per_second": context.accounts.rates.get(name) or None,
        }
        for name, switch in _by_name(connection, context, {*switch_names(context), *others}).items()
    ]


def stored_switches(connection: Connection, context: Context, *, others: Collection[str] = ()) -> list[Json]:
    """Return the switches like `switches`, without the two rates, and only of processors ever paused or listed."""
    return list(_by_name(connection, context, others).values())


def switch_of(connection: Connection, context: Context, name: str) -> Switch:
    """Return the switch of one processor, as calls that pause or resume it return it."""
    switch = _by_name(connection, context, (name,))[name]
    return {
        "name": switch["name"],
        "paused": switch["paused"],
        "paused_by": switch["paused_by"],
        "paused_at": switch["paused_at"],
        "paused_until": switch["paused_until"],
        "code": switch["code"],
        "reason": switch["reason"],
    }


def _by_name(connection: Connection, context: Context, names: Collection[str]) -> dict[str, Json]:
    now = context.clock(connection)
    rows = {row["name"]: row for row in processors.status_of_processors(connection)}
    stopped = processors.paused_processors(connection, now)
    stale = stale_processors(connection, context, now)
    connected = frozenset(name for name in rows if connected_of(name)) - stopped.keys()
    holding_up = connected & stale & metrics.count_to_be_sent(connection).keys() if connected & stale else frozenset()
    return {
        name: _switch(name, rows.get(name), paused=name in stopped, stale=name in stale)
        for name in sorted({*names, *(rows.keys() - connected), *holding_up})
    }


def _switch(name: str, row: RowMapping | None, *, paused: bool, stale: bool) -> Json:
    pause = row if row is not None and paused else None
    by_program = pause is not None and pause["paused_until"] is not None
    state = CIRCUIT_OPEN if by_program else PAUSED if pause is not None else STALE if stale else SENDING
    listed_at = row["looked_at"] if row is not None else None
    return {
        "name": name,
        "state": state,
        "paused": pause is not None,
        "paused_by": pause["paused_by"] if pause else None,
        "paused_at": iso(pause["paused_at"]) if pause else None,
        "paused_until": iso(pause["paused_until"]) if by_program and pause else None,
        "code": pause["code"] if pause else None,
        "reason": pause["reason"] if pause else None,
        "looked_at": iso(listed_at) if listed_at is not None else None,
    }
