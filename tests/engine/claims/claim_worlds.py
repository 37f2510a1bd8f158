"""Helpers of the tests of claims."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from tests.support.engine_world import World, assert_books_balance

from refund_worker.domain.processor_replies import DisputeObject, RefundObject
from refund_worker.domain.sums import violations
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.store.reporting.sums import figures_of
from refund_worker.store.tables import claims, ledger_transactions


def claims_of(world: World) -> list[dict[str, Any]]:
    """Return all claims, the oldest first."""
    with world.database.read() as connection:
        return [dict(row) for row in connection.execute(select(claims).order_by(claims.c.claim_id)).mappings()]


def entries_of(world: World, kind: str) -> list[tuple[int, str | None]]:
    """Return (credits, refers_to) of the customer's entries of this kind, the oldest first."""
    t = ledger_transactions.c
    with world.database.read() as connection:
        query = select(t.credits, t.refers_to).where(t.kind == kind).order_by(t.seq)
        return [(row[0], row[1]) for row in connection.execute(query)]


def report(world: World, *refund_objects: RefundObject) -> int:
    """Report these objects, and check the books afterwards."""
    changed = record_outside_refunds(world.context, "stripe", refund_objects)
    assert_books_balance(world.database)
    return changed


def balance_of(world: World) -> tuple[int, int]:
    """Return (balance, held)."""
    account = world.account
    return account.balance, account.held


def dispute(world: World, status: str = "needs_response", amount_minor: int = 1_000, **changes: Any) -> DisputeObject:
    """Return a dispute about the payment ch_1."""
    values: dict[str, Any] = {"dispute_id": "dp_1", "payment_refs": ("ch_1", "pi_1"), "currency": "USD"}
    values |= {"reason": "fraudulent", "created_at": datetime.fromtimestamp(world.now, UTC)}
    return DisputeObject(status=status, amount_minor=amount_minor, **(values | changes))


def report_disputes(world: World, *disputes: DisputeObject) -> int:
    """Report these disputes, and check the books afterwards."""
    changed = record_disputes(world.context, "stripe", disputes)
    assert_books_balance(world.database)
    return changed


def with_rule(world: World, rule: str) -> World:
    """Return the world with this rule for shortfalls."""
    world.context = replace(world.context, policy=replace(world.context.policy, shortfall=str(rule)))
    return world


def assert_sums_hold(world: World) -> None:
    """Check the sums of the customer `c` that production checks each minute."""
    with world.database.read() as connection:
        assert not list(violations(figures_of(connection, ["c"])))
