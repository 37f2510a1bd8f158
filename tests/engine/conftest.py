"""Fixtures of the engine tests."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.engine_world import STRIPE, World, assert_books_balance
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield an empty world on each database, and check at the end that its books balance."""
    made = World(migrated_url)
    yield made
    assert_books_balance(made.database)
    made.close()


@pytest.fixture
def asked(world: World) -> World:
    """Return a world in test mode whose processor can be asked about payments."""
    world.processor.reads_payments = True
    policy = replace(world.context.policy, processors={"stripe": replace(STRIPE, live=False)})
    world.context = replace(world.context, policy=policy)
    return world
