"""Changeable rows, compared with the snapshots that our own programs append at each change.

Links between persons have no snapshots: each is compared with the events of the trail, which are sealed themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from refund_worker.batching import batched
from refund_worker.store import snapshots
from refund_worker.store.access import persons
from refund_worker.store.snapshots import COVERED, SMALL, CurrentRow

PAGE = 500
LINKS = "person_links"


def check_covered(connection: Connection, span: tuple[int, int] | None = None) -> Iterator[tuple[str, int, str]]:
    """Yield (table, number of the latest snapshot or 0, difference) for each row that differs from its snapshot.

    With a `span` (after, up to) of snapshots, only the rows in these snapshots are checked, and the small tables whole.
    """
    changed = snapshots.changed_between(connection, *span) if span else None
    for table in COVERED:
        only = None if changed is None or table in SMALL else changed[table]
        for row in snapshots.current_rows(connection, table, PAGE, only):
            what = _difference(table, row)
            if what:
                yield table, row.seq, what
    yield from _check_links(connection)


def _check_links(connection: Connection) -> Iterator[tuple[str, int, str]]:
    current_rows, recorded = persons.links_and_trail(connection)
    for link in sorted(recorded.keys() - current_rows):
        yield LINKS, recorded[link], f"deleted: {link.user} and {link.identity}"
    for link in sorted(current_rows - recorded.keys()):
        yield LINKS, 0, f"added: {link.user} and {link.identity}, by none of our programs"


def accept_current_rows(connection: Connection) -> list[tuple[str, int, str]]:
    """Append a snapshot of each row that differs from its latest one; return these rows as `check_covered` does."""
    accepted = []
    for table in COVERED:
        differing = [row for row in snapshots.current_rows(connection, table, PAGE) if _difference(table, row)]
        there = [row for row in differing if row.now is not None]
        for ids in batched((row.row_id for row in there), PAGE):
            snapshots.append_current_rows(connection, table, ids)
        accepted += [(table, row.seq, str(_difference(table, row))) for row in there]
    return accepted


def _difference(table: str, row: CurrentRow) -> str | None:
    if row.now is None:
        return f"deleted: {row.row_id}"
    if row.sealed is None:
        return f"added: {row.row_id}, by none of our programs"
    if row.now == row.sealed:
        return None
    if len(row.now) != len(row.sealed):
        return f"changed: {row.row_id}"
    pairs = zip(COVERED[table], row.now, row.sealed, strict=True)
    return f"changed: {', '.join(name for name, now, was in pairs if now != was)} of {row.row_id}"
