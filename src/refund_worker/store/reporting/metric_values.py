"""The counts of all processes together, by metric, labels and part of a histogram."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, select

from refund_worker.metrics import Slot
from refund_worker.store.database import insert_into, now
from refund_worker.store.tables import metric_values


class Count(NamedTuple):
    """The value of a counter, and when something was last counted (None if an earlier version did)."""

    value: float
    changed_at: float | None


def add(connection: Connection, counts: Mapping[Slot, float]) -> None:
    """Add these counts. All writers take the rows in the same order, so that none waits for another in a circle."""
    at = now(connection) if counts else 0.0
    rows = [
        {"name": name, "labels": json.dumps(labels), "part": part, "value": value, "changed_at": at}
        for (name, labels, part), value in sorted(counts.items())
    ]
    if rows:
        insert = insert_into(connection, metric_values)
        added = insert.on_conflict_do_update(
            index_elements=["name", "labels", "part"],
            set_={
                "value": metric_values.c.value + insert.excluded.value,
                "changed_at": insert.excluded.changed_at,
            },
        )
        connection.execute(added, rows)


def stored(connection: Connection) -> dict[Slot, float]:
    """Return all counts."""
    m = metric_values.c
    rows = connection.execute(select(m.name, m.labels, m.part, m.value).order_by(m.name, m.labels))
    return {(name, tuple(json.loads(labels)), part): value for name, labels, part, value in rows}


def counted(connection: Connection, name: str) -> dict[tuple[str, ...], Count]:
    """Return the values of one counter, by labels."""
    m = metric_values.c
    rows = connection.execute(select(m.labels, m.value, m.changed_at).where(m.name == name).order_by(m.labels))
    return {tuple(json.loads(labels)): Count(value, at) for labels, value, at in rows}
