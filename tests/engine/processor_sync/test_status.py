"""The kill switch of a processor as the API, the console and the command line show it."""

from __future__ import annotations

from typing import Any

from tests.support.engine_world import World

from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.status import stored_switches, switch_names, switch_of, switches
from refund_worker.store import processors
from refund_worker.times import iso

NOT_PAUSED: dict[str, Any] = {
    "paused": False,
    "paused_by": None,
    "paused_at": None,
    "paused_until": None,
    "code": None,
    "reason": None,
}


def shown(world: World, name: str) -> dict[str, Any]:
    """Return the kill switch of the processor as it is shown."""
    with world.database.read() as connection:
        return switch_of(connection, world.context, name)


def test_switch_shows_who_paused_it_and_nothing_once_it_is_resumed(world: World) -> None:
    assert shown(world, "paypal") == NOT_PAUSED | {"name": "paypal"}
    pause_processor(world.context, "paypal", actor="olga", reason="outage")
    assert shown(world, "paypal") == {
        "name": "paypal",
        "paused": True,
        "paused_by": "olga",
        "paused_at": iso(world.now),
        "paused_until": None,
        "code": "paused_by_hand",
        "reason": "outage",
    }
    resume_processor(world.context, "paypal", actor="olga")
    assert shown(world, "paypal") == NOT_PAUSED | {"name": "paypal"}


def test_open_circuit_is_shown_until_its_time_is_past(world: World) -> None:
    until = world.now + 300
    with world.database.write() as connection:
        processors.pause(connection, "stripe", world.now, by="refund-worker", code="denied", reason="401", until=until)
    assert shown(world, "stripe")["paused_until"] == iso(until)
    world.now = until
    assert shown(world, "stripe") == NOT_PAUSED | {"name": "stripe"}


def test_only_processors_that_were_paused_or_listed_are_stored(world: World) -> None:
    pause_processor(world.context, "manual", actor="olga", reason="outage")
    with world.database.read() as connection:
        assert [switch["name"] for switch in stored_switches(connection, world.context)] == ["manual"]
        every = switches(connection, world.context, others=("paypal",))
    assert [switch["name"] for switch in every] == sorted({*switch_names(world.context), "paypal"})
    assert [switch["rate_per_second"] for switch in every if switch["name"] == "stripe"] == [25.0]
