"""Fixtures of the tests of claims: refunds of others are recorded, whenever they were made."""

from dataclasses import replace

import pytest
from tests.support.engine_world import World


@pytest.fixture
def world(world: World) -> World:
    """Return the world of the engine's tests; its clock is older than the upgrade that brought claims."""
    world.context = replace(world.context, policy=replace(world.context.policy, outside_since=0.0))
    return world
