"""Copies of a pattern: the same rows under other ids and at other times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Double, Table

from refund_worker.store.database import Database
from refund_worker.store.tables import metadata
from tests.support.dataset_patterns import Rows

# The tokens that differ between copies: our ids, the pattern's names, and the processors' ids.
TOKEN = re.compile(r"([0-9a-f]{12}0000[0-9a-f]{10}|[0-9]{4}-0000|re_[0-9]+)")
Cell = Any


def write_copies(database: Database, rows: Rows, name: str, ages: Sequence[float]) -> None:
    """Write one copy of the pattern for each age, that many seconds older."""
    # A trigger inserts the names of payments.
    filled = [table for table in metadata.sorted_tables if rows.get(table.name) and table.name != "payment_refs"]
    moulds = [_Mould(table, rows[table.name]) for table in filled]
    for copy, age in enumerate(ages):
        renamed = _Renamed(name, copy, age)
        with database.write() as connection:
            for mould in moulds:
                _insert(connection, mould, list(mould.cast(renamed, age)))


class _Renamed(dict[str, str]):
    """The name in one copy of each token of the pattern."""

    def __init__(self, name: str, copy: int, age: float) -> None:
        super().__init__()
        self._name, self._copy, self._age = name, copy, age

    def __missing__(self, token: str) -> str:
        if token.startswith("re_"):
            new = f"re_{self._name}{self._copy:04x}{token[3:]:0>8}"
        elif "-" in token:
            new = f"{token[:4]}-{self._copy:04}"
        else:
            new = f"{int(token[:12], 16) - int(self._age * 1000):012x}{self._copy:04x}{token[16:]}"
        self[token] = new
        return new


class _Mould:
    """The rows of one table, with each cell split where copies differ."""

    def __init__(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        self.table = table
        columns = [column for column in table.c if column.name != "seq"]
        self.columns = [column.name for column in columns]
        self._is_time = [isinstance(column.type, Double) for column in columns]
        self._rows = [[_cut(row[name]) for name in self.columns] for row in rows]

    def cast(self, renamed: _Renamed, age: float) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one copy."""
        for row in self._rows:
            yield tuple(
                "".join([renamed[part] if place % 2 else part for place, part in enumerate(cell)])
                if type(cell) is list
                else cell - age
                if is_time and cell is not None
                else cell
                for cell, is_time in zip(row, self._is_time, strict=True)
            )


def _cut(value: Any) -> Any:
    """Return a text with tokens as the list of its parts, every second one a token.

    Return any other value unchanged.
    """
    parts = TOKEN.split(value) if isinstance(value, str) else []
    return parts if len(parts) > 1 else value


def _insert(connection: Connection, mould: _Mould, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(f'"{name}"' for name in mould.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in mould.columns)
        connection.exec_driver_sql(f"INSERT INTO {mould.table.name} ({names}) VALUES ({marks})", list(rows))
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {mould.table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
