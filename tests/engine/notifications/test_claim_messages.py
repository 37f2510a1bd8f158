"""Notifications about the money that others move: one for each change, with the balance after it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.engine_world import World
from tests.support.notifications import stored
from tests.support.outside_objects import dispute, hear, outside_refund

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.notifications.outbox import redeliver
from refund_worker.store.tables import outbox


def refunded(status: str) -> RefundObject:
    return outside_refund("re_1", 300, status=status, currency="USD")


def told(world: World) -> list[tuple[str, str, int | None]]:
    """Return (type, status, balance after) of the stored messages about claims, oldest first."""
    return [(body["type"], body["data"]["status"], body["data"]["balance_after"]) for body in bodies(world)]


def bodies(world: World) -> list[dict[str, Any]]:
    with world.database.read() as connection:
        query = outbox.select().where(outbox.c.claim_id.is_not(None)).order_by(outbox.c.message_id)
        return [json.loads(row["body"]) for row in connection.execute(query).mappings()]


def test_outside_refund_is_told_once_for_each_status(world: World) -> None:
    world.pay()
    kind = "payment.refunded_outside"
    for status in ("pending", "pending", "succeeded", "succeeded"):
        hear(world.context, refunded(status))
    assert told(world) == [(kind, "pending", 100), (kind, "posted", 70)]
    hear(world.context, refunded("failed"))
    assert told(world)[2:] == [(kind, "failed", 100)]
    (message, *_) = stored(world)
    assert (message["refund_id"], message["claim_id"]) == (None, bodies(world)[0]["data"]["id"])
    assert redeliver(world.context, [message["id"]]) == 1


def test_outside_refund_is_told_when_its_payment_is_recorded(world: World) -> None:
    world.pay()
    hear(world.context, outside_refund("re_1", 300, payment="ch_2", currency="USD"))
    assert told(world) == []
    world.pay(2)
    assert told(world) == [("payment.refunded_outside", "posted", 170)]


@pytest.mark.parametrize(
    ("statuses", "types"),
    [
        (("needs_response", "under_review", "won"), ["dispute.opened", "dispute.won"]),
        (("needs_response", "lost", "lost"), ["dispute.opened", "dispute.lost"]),
        (("warning_needs_response", "warning_closed"), ["dispute.inquiry", "dispute.closed"]),
        (("warning_needs_response", "needs_response"), ["dispute.inquiry", "dispute.opened"]),
        (("lost",), ["dispute.lost"]),
    ],
    ids=str,
)
def test_each_turn_of_a_dispute_is_told_once(world: World, statuses: tuple[str, ...], types: list[str]) -> None:
    world.pay()
    for status in statuses:
        hear(world.context, dispute("du_1", 400, status=status, currency="USD"))
    assert [kind for kind, _, _ in told(world)] == types


def test_decision_about_a_shortfall_is_told_with_the_balance_after(world: World) -> None:
    world.pay()
    world.spend(credits=90)
    hear(world.context, dispute("du_1", 1_000, status="lost", currency="USD"), shortfall="person")
    (lost,) = bodies(world)
    rule = ShortfallRule.DEBT
    claim_id, missing = lost["data"]["id"], lost["data"]["shortfall"]
    for _ in range(2):
        decide_claim(world.context, claim_id, kind=ClaimKind.DISPUTE, decision=rule, actor="cli:a", reason="agreed")
    assert (missing, lost["data"]["balance_after"]) == (90, 0)
    assert told(world)[1:] == [("dispute.decided", "lost", -90)]
