"""A backlog whose payments' lists must all be read first is paid at a slow rate, without lists read again and again."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update
from tests.support.engine_world import World, assert_books_balance
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import SearchReply
from refund_worker.engine.context import NoLimit
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.tables import payments

SECONDS_PER_CALL = 0.8  # the default is 0.04: the whole takes longer than a list counts
REFUNDS_PER_PAYMENT = 100


class Counting(ScriptedProcessor):
    """A scripted processor that counts the lists of payments."""

    lists = 0

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Count, and list."""
        self.lists += 1
        return await super().find(processor_payment_id, leg_id)


def test_backlog_over_few_payments_is_paid_with_one_list_each(world: World) -> None:
    class Slow(NoLimit):
        """A limiter that lets time pass for each call."""

        async def acquire(self, processor: str) -> None:
            """Wait."""
            world.pass_time(SECONDS_PER_CALL)

    processor = Counting()
    for number in (1, 2):
        world.pay(number, amount_minor=10 * REFUNDS_PER_PAYMENT)
    backlog = []
    for number in range(2 * REFUNDS_PER_PAYMENT):
        backlog.append(world.withdraw(1, f"k{number}"))
        world.pass_time(0.001)  # refunds of one moment are due in any order, and then the lists follow luck
    with world.database.write() as connection:
        connection.execute(update(payments).values(refunded_elsewhere=True))
    world.context = replace(
        world.context, processors={"stripe": processor}, limiter=Slow(), monotonic=lambda: world.now
    )
    rounds = 0
    while process_due(world.context):
        rounds += 1
        assert rounds < 40, "the queue turns without being paid"
    assert processor.paid_minor() == 10 * len(backlog)
    assert len(processor.sends) == len(backlog)
    assert processor.lists <= len(backlog) * 1.2
    assert_books_balance(world.database)
