"""The simulation's own machinery: faults of its own that would cause or hide reports about the production code."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from tests.simulation.database import simulated_database
from tests.simulation.kernel import Loop, World


def test_suspended_process_keeps_its_event_loop_to_itself() -> None:
    world, heard = World(1, 0.0), []

    async def call() -> None:
        mine = asyncio.get_running_loop()
        world.sleep(2)  # like a database transaction between two calls
        heard.append(("caller", asyncio.get_running_loop() is mine))

    async def post() -> None:
        heard.append(("deliverer", True))

    world.spawn("caller", lambda: Loop(world).run(call()))
    world.at(1, lambda: world.spawn("deliverer", lambda: asyncio.run(post())))
    world.run(until=10)

    assert heard == [("deliverer", True), ("caller", True)]
    assert asyncio._get_running_loop() is None


def test_suspended_processes_do_not_exhaust_the_connections() -> None:
    engine = simulated_database().database.engine
    with ExitStack() as held:
        assert len([held.enter_context(engine.connect()) for _ in range(50)]) == 50
