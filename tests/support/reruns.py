"""A transaction that the database asks to run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from refund_worker.store.database import Database, TryAgain


@contextmanager
def rerun_at(database: Database, words: str, *, after: str = "") -> Iterator[list[str]]:
    """Fail the first statement that has these words, as after a deadlock; yield the statements that failed.

    With `after`, it is the first one behind a statement with those words.
    """
    failed: list[str] = []
    is_due = not after

    def fail_once(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        nonlocal is_due
        if not is_due:
            is_due = after in statement
        elif words in statement and not failed:
            failed.append(statement)
            raise TryAgain("the database is busy: try again")

    event.listen(database.engine, "before_cursor_execute", fail_once)
    try:
        yield failed
    finally:
        event.remove(database.engine, "before_cursor_execute", fail_once)
