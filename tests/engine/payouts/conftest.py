"""Worlds for payouts, on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.payout_world import PayoutWorld


@pytest.fixture
def make_world(migrated_url: str) -> Iterator[Callable[..., PayoutWorld]]:
    """Return a maker of one world with options; it is closed at the end."""
    made: list[PayoutWorld] = []

    def make(**options: Any) -> PayoutWorld:
        made.append(PayoutWorld(migrated_url, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., PayoutWorld]) -> PayoutWorld:
    """Return a world whose route has one step."""
    return make_world()
