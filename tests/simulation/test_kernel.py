"""The simulation's own machinery: what would make it report, or hide, what is not the production code's doing."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from tests.simulation.database import simulated_database
from tests.simulation.kernel import Loop, World


def test_a_process_that_stands_still_inside_its_event_loop_does_not_lend_it_to_the_others() -> None:
    world, heard = World(1, 0.0), []

    async def call() -> None:
        mine = asyncio.get_running_loop()
        world.sleep(2)  # as a look into the database between two calls does
        heard.append(("caller", asyncio.get_running_loop() is mine))

    async def post() -> None:
        heard.append(("deliverer", True))

    world.spawn("caller", lambda: Loop(world).run(call()))
    world.at(1, lambda: world.spawn("deliverer", lambda: asyncio.run(post())))
    world.run(until=10)

    assert heard == [("deliverer", True), ("caller", True)]
    assert asyncio._get_running_loop() is None


def test_processes_that_stand_still_keep_no_connection_from_the_others() -> None:
    engine = simulated_database().database.engine
    with ExitStack() as held:
        assert len([held.enter_context(engine.connect()) for _ in range(50)]) == 50
