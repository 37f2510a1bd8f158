"""A transaction that the database asks to run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from refund_worker.store.database import Database, TryAgain


@contextmanager
def rerun_at(database: Database, words: str) -> Iterator[list[str]]:
    """Fail the first statement that has these words, as after a deadlock; yield the statements that failed."""
    failed: list[str] = []

    def fail_once(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if words in statement and not failed:
            failed.append(statement)
            raise TryAgain("the database is busy: try again")

    event.listen(database.engine, "before_cursor_execute", fail_once)
    yield failed
    event.remove(database.engine, "before_cursor_execute", fail_once)
