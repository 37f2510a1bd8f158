"""The simulation's own machinery: what would make it report, or hide, what is not the production code's doing."""

from __future__ import annotations

import asyncio

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
