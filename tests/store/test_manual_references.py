"""A database made before manual payments had a column of their own keeps them."""

from __future__ import annotations

from alembic import command
from tests.support.engine_world import World
from tests.support.replies import EMPTY

from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.refunds.process import process_due
from refund_worker.store import schema


def test_upgrade_takes_the_reference_of_a_manual_payment(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    world.processor.script("ch_1", EMPTY)
    paid, queued = world.withdraw(10, "k1"), world.withdraw(10, "k2")
    process_due(world.context)
    world.command(paid, Action.RESOLVE, "bank: 50%_'x'")
    with world.database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "0010")
    schema.upgrade(world.database)
    assert world.refund(paid).status is RefundStatus.SUCCEEDED
    assert world.refund(paid).legs[0].manual_reference == "bank: 50%_'x'"
    assert world.refund(queued).legs[0].manual_reference is None
    world.close()
