"""Fixtures of the store's tests: databases at the current schema, and one with a customer and two payments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.store.stored_refunds import a_payment
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template

from refund_worker.store import accounts, payments
from refund_worker.store.database import Database

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A database with the customer "c" and the payments "pay1" and "pay2"."""
    opened = Database(migrated_url)
    with opened.write() as connection:
        accounts.insert_missing_customers(connection, ["c"], 1.0)
        payments.insert_payments(connection, [a_payment(1), a_payment(2)], 1.0)
        accounts.add_purchases(connection, {"c": 200})
    yield opened
    opened.close()
