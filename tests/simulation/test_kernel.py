"""The simulation's own machinery: faults of its own that would cause or hide reports about the production code."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import ExitStack

import pytest

from tests.simulation.database import simulated_database
from tests.simulation.faults import Faults
from tests.simulation.kernel import Loop, World
from tests.simulation.statement_gate import FaultyGate


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


@pytest.mark.parametrize("many", [False, True])
def test_rollback_closes_cursors_that_a_dead_process_left_open(many: bool) -> None:
    """An open cursor keeps its statement, and the garbage collector resets it while another process runs it."""
    store = simulated_database()
    store.fresh()
    world = World(1, 0.0)
    gate = FaultyGate(world, Faults(world, {}, is_open=lambda: False), [])
    store.connection.gate = gate
    cursor = store.connection.cursor()
    row = ("c1", 1.0)
    try:
        sql = "INSERT INTO customers (customer_id, created_at) VALUES (?, ?)"
        cursor.executemany(sql, [row]) if many else cursor.execute(sql, row)
        store.connection.rollback()
    finally:
        store.connection.gate = None
        store.fresh()
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursor.fetchone()
