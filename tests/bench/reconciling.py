"""`python -m tests.bench.reconciling`: reconcile an account of many refund objects.

The objects are made up while they are listed; a part of them is ours, and one in a hundred of those has another status
at the processor. Prints the objects a second and the peak of the memory. Exits with 1 if the differences are not those
that were planted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import case, func, select, update

from refund_worker.batching import batched
from refund_worker.domain.processor_replies import (
    Answered,
    Misconfigured,
    Page,
    PageReply,
    PaymentReading,
    RefundObject,
    Reply,
)
from refund_worker.engine.processor_sync.reconciliation import run
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.store import tables
from refund_worker.store.reconciliations import counts
from tests.support.engine_world import World, withdrawal
from tests.support.migrated import migrate
from tests.support.paged_processor import PagedProcessor
from tests.support.scripted_processor import START

PAGE = 100
PLANTED_EVERY = 100
REFUNDS_OF_A_CUSTOMER = 50
ROWS_AT_ONCE = 500
COPIED = (
    tables.refunds,
    tables.legs,
    tables.refund_objects,
    tables.ledger_transactions,
    tables.ledger_entries,
)


class Account(PagedProcessor):
    """A processor that makes up its objects: number N was created N seconds before the end."""

    def __init__(self, objects: int, ours_every: int, installation: str) -> None:
        super().__init__(PAGE)
        self.size, self.ours_every, self.installation = objects, ours_every, installation

    def made(self, number: int) -> RefundObject:
        """Return object `number`; 0 is the newest."""
        ours, rest = divmod(number, self.ours_every)
        is_ours = not rest
        failed = is_ours and ours % PLANTED_EVERY == 7
        return RefundObject(
            f"re_{number:09d}",
            "failed" if failed else "succeeded",
            10,
            "USD",
            (f"ch_{1 + ours // REFUNDS_OF_A_CUSTOMER}" if is_ours else f"ch_other_{number}",),
            f"rf_{number:09d}-1" if is_ours else None,
            1,
            "declined" if failed else None,
            datetime.fromtimestamp(START - number, UTC),
            None,
            self.installation if is_ours else None,
        )

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return the page after the object `after`."""
        start = int(after.removeprefix("re_")) + 1 if after else 0
        found = [self.made(number) for number in range(start, min(start + PAGE, self.size))]
        return Page(tuple(found), found[-1].processor_refund_id if start + PAGE < self.size else None)

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return one object."""
        number = int(processor_refund_id.removeprefix("re_"))
        return Answered(self.made(number)) if number < self.size else Misconfigured("resource_missing", "none")


Row = dict[str, Any]


def store_ours(world: World, account: Account) -> None:
    """Store our paid refunds: copies of one that the engine made. Each customer has 50 of them, over one payment."""
    numbers = range(0, account.size, account.ours_every)
    customers = 1 + (len(numbers) - 1) // REFUNDS_OF_A_CUSTOMER
    for number in range(1, customers + 1):
        world.pay(number, customer_id=f"c{number}", captured_at=START - 60)
        account.payments[f"ch_{number}"] = PaymentReading(1_000, "USD", False, False, None)
    copy = _pattern(world)
    for chunk in batched(enumerate(numbers), ROWS_AT_ONCE):
        copied = [copy(1 + place // REFUNDS_OF_A_CUSTOMER, number) for place, number in chunk]
        with world.database.write() as connection:
            for table in COPIED:
                connection.execute(table.insert(), [row for rows in copied for row in rows[table.name]])
    _move_balances(world)


def _pattern(world: World) -> Callable[[int, int], dict[str, list[Row]]]:
    """Return a function that copies the rows of a paid refund, for a customer and the number of an object."""
    world.pay(0, customer_id="c0", captured_at=START - 60)
    (accepted,) = request_refunds(world.context, [withdrawal(1, "the-key", customer_id="c0")])
    assert isinstance(accepted, Accepted)
    world.work()
    (object_id,) = world.processor.objects
    refund_id = accepted.refund_id
    with world.database.read() as connection:
        rows = {t.name: [dict(row) for row in connection.execute(select(t)).mappings()] for t in COPIED}
    posted = [r for r in rows["ledger_transactions"] if r["refund_id"] == refund_id or refund_id in r["transaction_id"]]
    rows["ledger_transactions"] = posted
    its_ids = {row["transaction_id"] for row in posted}
    rows["ledger_entries"] = [row for row in rows["ledger_entries"] if row["transaction_id"] in its_ids]

    def copy(customer: int, number: int) -> dict[str, list[Row]]:
        names = {"the-key": f"k{number}", "c0": f"c{customer}", "customer:c0": f"customer:c{customer}"}
        names |= {"pay0": f"pay{customer}", "ch_0": f"ch_{customer}", object_id: f"re_{number:09d}"}

        def cell(name: str, value: Any) -> Any:
            if isinstance(value, str):
                return names.get(value, value.replace(refund_id, f"rf_{number:09d}"))
            return START - number if name in ("created_at", "last_sent_at", "occurred_at") else value

        return {
            table: [{name: cell(name, value) for name, value in row.items() if name != "seq"} for row in its]
            for table, its in rows.items()
        }

    return copy


def _move_balances(world: World) -> None:
    """Take the credits and the money of the copies from customers and payments."""
    c, p, r = tables.customers.c, tables.payments.c, tables.refunds.c
    copies = func.count(r.refund_id) - case((r.customer_id == "c0", 1), else_=0)
    query = select(r.customer_id, copies).group_by(r.customer_id)
    with world.database.write() as connection:
        for customer, number in connection.execute(query).all():
            its = {"balance": c.balance - number, "withdrawn": c.withdrawn + number}
            connection.execute(update(tables.customers).where(c.customer_id == customer).values(its))
            taken = {"credits_taken": p.credits_taken + number, "money_taken": p.money_taken + 10 * number}
            connection.execute(update(tables.payments).where(p.customer_id == customer).values(taken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Reconcile, and print the figures. Return 1 if the differences are not those that were planted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reconciling", description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000, help="refund objects of the account (1000000)")
    parser.add_argument("--ours", type=int, default=100_000, help="how many of them are ours (100000)")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="refund-worker-reconciling-") as folder:
        url = f"sqlite:///{Path(folder) / 'refunds.db'}"
        migrate(url)
        loop = asyncio.new_event_loop()
        world = World(url, run=loop.run_until_complete)
        good = measure(world, given.objects, given.ours)
        world.close()
        loop.close()
    return 0 if good else 1


def measure(world: World, objects: int, ours: int) -> bool:
    """Store our refunds, reconcile and print the figures; return True if the differences are the planted ones."""
    account = Account(objects, max(1, objects // ours), world.installation)
    store_ours(world, account)
    world.context = replace(world.context, processors={"stripe": account})
    before = _peak_mib()
    since = START - min(objects, 3_000 * 86_400) - 1
    started = run.start_reconciliation(world.context, "stripe", since=since, until=None, actor="bench")
    began = time.perf_counter()
    while run.run_piece(world.context, started):
        pass
    seconds = time.perf_counter() - began
    with world.database.read() as connection:
        found = counts(connection, [started])[started]
    numbers = range(0, objects, account.ours_every)
    planted = {("status", "open"): sum(account.made(number).status == "failed" for number in numbers)}
    print(f"{objects:,} objects, {len(numbers):,} ours: {objects / seconds:,.0f} a second, {seconds:.0f} s")
    print(f"peak of the memory: {_peak_mib():.0f} MiB, {_peak_mib() - before:.0f} MiB more than before it")
    print(f"differences: {found}, planted: {planted}")
    return found == planted


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
