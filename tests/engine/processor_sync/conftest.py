"""Fixtures of the tests of reconciliation."""

from collections.abc import Iterator

import pytest
from tests.engine.processor_sync.reconciled import LEGS
from tests.support.engine_world import World
from tests.support.planted_shop import Shop

RECONCILIATION = "refund_worker.engine.processor_sync.reconciliation."


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pieces of reconciliations small, and look a second time at once."""
    monkeypatch.setattr(RECONCILIATION + "reading.PAGES_MAX", 2)
    monkeypatch.setattr(RECONCILIATION + "own_sums.CUSTOMERS_AT_ONCE", 1)
    monkeypatch.setattr("refund_worker.engine.sums.check.AGAIN_SECONDS", 0.0)


@pytest.fixture
def shop(migrated_sqlite_url: str, small_pieces: None) -> Iterator[Shop]:
    """Return a shop whose books agree with the processor's."""
    world = World(migrated_sqlite_url)
    yield Shop(world, LEGS)
    world.close()
