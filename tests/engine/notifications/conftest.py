"""Fixtures of the notification tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.engine_world import World
from tests.support.receiver import Receiver


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with 100 credits for 10.00 whose admin backend receives notifications."""
    made = World(migrated_url, notify=True)
    made.pay()
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a running HTTP receiver."""
    with Receiver() as running:
        yield running
