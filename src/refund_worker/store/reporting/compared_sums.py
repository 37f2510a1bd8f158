"""A private scratch database in which the two sides of a comparison meet: any number of objects needs little memory.

SQLite keeps it in a temporary file, which no other process sees and which ends with it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CACHE_KIB = 8_192
_ADD = (
    "INSERT INTO sums (key, currency, ours, theirs, refs, installation, converted) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key, currency) DO UPDATE SET ours = ours + excluded.ours, theirs = theirs + excluded.theirs, "
    "refs = coalesce(excluded.refs, refs), installation = coalesce(excluded.installation, installation), "
    "converted = max(converted, excluded.converted)"
)


@dataclass(frozen=True, slots=True)
class Side:
    """A part of the sum of an object `key` on one side: minor units of `currency`.

    `refs` and `installation` are what the processor says about an object that we do not know.
    """

    key: str
    currency: str
    minor: int
    refs: tuple[str, ...] = ()
    installation: str | None = None
    is_converted: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """An object whose sums of the two sides differ."""

    key: str
    currency: str
    ours_minor: int
    theirs_minor: int
    refs: tuple[str, ...]
    installation: str | None
    is_converted: bool


class ComparedSums:
    """The sums by object and currency. Close it at the end."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute(
            "CREATE TABLE sums (key TEXT, currency TEXT, ours INTEGER, theirs INTEGER, refs TEXT, "
            "installation TEXT, converted INTEGER, PRIMARY KEY (key, currency)) WITHOUT ROWID"
        )

        self._database.execute("CREATE TABLE seen (name TEXT PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        """Remove the scratch database."""
        self._database.close()

    def add_ours(self, parts: Iterable[Side]) -> None:
        """Add parts of our side."""
        self._add([(part, part.minor, 0) for part in parts])

    def add_theirs(self, parts: Mapping[str, Side]) -> None:
        """Add parts of the processor's side, by the id of each: one that a list shows twice counts once."""
        self._database.execute("BEGIN")
        new = [
            part
            for name, part in parts.items()
            if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,)).rowcount
        ]
        self._database.execute("COMMIT")
        self._add([(part, 0, part.minor) for part in new])

    def _add(self, parts: Iterable[tuple[Side, int, int]]) -> None:
        rows = [
            (p.key, p.currency, ours, theirs, json.dumps(p.refs) if p.refs else None, p.installation, p.is_converted)
            for p, ours, theirs in parts
        ]
        self._database.execute("BEGIN")
        self._database.executemany(_ADD, rows)
        self._database.execute("COMMIT")

    def totals(self) -> list[tuple[str, int, int, int]]:
        """Return (currency, our sum, their sum, number of objects), by currency."""
        query = "SELECT currency, sum(ours), sum(theirs), count(*) FROM sums GROUP BY currency ORDER BY currency"
        return list(self._database.execute(query))

    def differing(self, at_once: int) -> Iterator[list[Compared]]:
        """Yield the objects whose sums differ, by key, at most `at_once` in a list.

        An object with a converted sum is converted in each of its currencies.
        """
        query = (
            "SELECT key, currency, ours, theirs, refs, installation, "
            "(SELECT max(converted) FROM sums AS other WHERE other.key = sums.key) FROM sums "
            "WHERE ours <> theirs AND (key, currency) > (?, ?) ORDER BY key, currency LIMIT ?"
        )
        after = ("", "")
        while rows := self._database.execute(query, (*after, at_once)).fetchall():
            yield [
                Compared(key, currency, ours, theirs, tuple(json.loads(refs or "[]")), installation, bool(converted))
                for key, currency, ours, theirs, refs, installation, converted in rows
            ]
            after = rows[-1][:2]
