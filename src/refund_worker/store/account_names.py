"""Conditions on columns that hold the name of an account at a processor."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_

from refund_worker.domain.account_names import CONNECTED


def is_at(column: ColumnElement[Any], account: str) -> ColumnElement[bool]:
    """Return the condition that the column names this account, or one that is connected with it."""
    return or_(column == account, column.startswith(account + CONNECTED, autoescape=True))
