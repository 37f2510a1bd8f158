"""Notifications of payouts say no more of a compliance outcome than that the processor refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.as_processor import PayoutsAsProcessor
from refund_worker.store.tables import outbox


@pytest.fixture
def world(migrated_url: str) -> Iterator[PayoutWorld]:
    """Return a world that notifies."""
    world = PayoutWorld(migrated_url)
    world.context = replace(world.context, notify=True)
    yield world
    world.close()


def test_compliance_outcome_is_named_in_no_notification_and_no_refund(world: PayoutWorld) -> None:
    world.earn("e1", 1_000)
    payout_id = world.ask(700)
    world.settle()
    values = {"failure_code": "REGULATORY_BLOCKED", "fault": Fault.COMPLIANCE}
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, **values))
    with world.database.read() as connection:
        bodies = list(connection.execute(select(outbox.c.body).where(outbox.c.payout_id == payout_id)).scalars())
    assert world.payout(payout_id).failure_code == "REGULATORY_BLOCKED"
    assert [body for body in bodies if "REGULATORY" in body] == []
    assert [body for body in bodies if "refused_by_processor" in body] != []
    as_refund = asyncio.run(PayoutsAsProcessor(lambda: world.context).fetch(payout_id))
    assert "REGULATORY" not in str(as_refund)
