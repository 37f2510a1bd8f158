"""Webhook events with little or no content about a refund: the id is enough, because the object is fetched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from tests.support.engine_world import World

from refund_worker.domain.processor_replies import Answered, Reply, Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.processors.base import ID_LENGTH_MAX
from refund_worker.processors.stripe.events import refund_named
from refund_worker.store import inbox, tables

RELATED = {"id": "re_1", "type": "refund", "url": "/v1/refunds/re_1"}
THIN = {"id": "evt_1", "object": "v2.core.event", "type": "v1.refund.failed", "related_object": RELATED}


def told(world: World, event: Any, kind: str | None = None, event_id: str = "evt_1") -> str | None:
    """Store the webhook event, process the inbox, and return the event's outcome."""
    with world.database.write() as connection:
        its_kind = kind or event["type"]
        assert inbox.insert_event(connection, "stripe", event_id, its_kind, json.dumps(event), world.now)
    webhook_inbox.process_inbox(world.context)
    with world.database.read() as connection:
        rows = connection.execute(select(tables.inbox).where(tables.inbox.c.event_id == event_id)).mappings()
        outcome: str | None = rows.one()["outcome"]
    return outcome


def paid(world: World, *ways: str) -> str:
    """Return a refund of 20 credits after one round of work; `ways` script the processor's replies."""
    world.pay()
    world.processor.script("ch_1", *ways)
    refund_id = world.withdraw(20)
    world.work()
    return refund_id


NEWER: list[Any] = [
    THIN,
    {**THIN, "related_object": {**RELATED, "type": "v1.refund"}},
    {**THIN, "related_object": {"id": "re_1"}},
    {**THIN, "type": "v2.money.refund.failed", "related_object": None, "data": {"related_object": RELATED}},
    {"type": "refund.failed", "data": {"object": {"id": "re_1", "object": "v3.refund", "state": {"name": "failed"}}}},
    {"type": "refund.failed", "data": {"object": "re_1"}},
    {"type": "charge.refund.updated", "data": {"id": "re_1", "object": None}},
]


@pytest.mark.parametrize("event", NEWER)
def test_a_late_failure_told_by_an_id_alone_is_fetched_and_applied(world: World, event: Any) -> None:
    refund_id = paid(world)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    world.processor.become("re_1", "failed")
    assert told(world, event) == "taken in"
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert told(world, event, event_id="evt_again") == "taken in"
    world.work()
    assert world.account.balance == 100


@pytest.mark.parametrize("event", [THIN, {"type": "refund.created", "data": {"object": {"id": "re_1"}}}])
def test_webhook_event_before_answer_finds_leg_by_fetched_refund(world: World, event: Any) -> None:
    refund_id = paid(world, "pays_silently")
    assert world.refund(refund_id).status is not RefundStatus.SUCCEEDED
    assert told(world, event) == "taken in"
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.objects) == 1


def test_webhook_event_of_outside_refund_is_looked_up_only_once(world: World) -> None:
    paid(world)
    foreign = replace(world.processor.objects["re_1"], processor_refund_id="re_9", leg_id=None, installation=None)
    world.processor.objects["re_9"] = foreign
    event = {**THIN, "related_object": {**RELATED, "id": "re_9"}}
    assert told(world, event) == "unknown refund: left to reconciliation"
    assert world.processor.asked == ["re_9"]


def test_one_whose_refund_can_not_be_asked_for_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refund_id = paid(world)
    answers: list[Reply] = [Unanswered("timeout"), Answered(world.processor.become("re_1", "failed"))]

    async def fetch(processor_refund_id: str) -> Reply:
        return answers.pop(0)

    monkeypatch.setattr(world.processor, "fetch", fetch)
    assert told(world, THIN) is None
    world.pass_time(100)
    assert webhook_inbox.process_inbox(world.context) == 1
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


NOT_ABOUT_ONE = [
    {"type": "charge.refunded", "data": {"object": {"id": "ch_1", "object": "charge", "refunds": {"data": [RELATED]}}}},
    {"type": "v1.charge.refunded", "related_object": {"id": "ch_1", "type": "charge"}},
    {"type": "payout.paid", "data": {"object": "re_1"}},
    {"type": "refund.failed", "related_object": {"id": "ch_1", "type": "charge"}},
    {"type": "refund.failed", "data": {"object": "re_1; DROP"}},
    {"type": "refund.failed", "data": {"object": {"id": ["re_1"]}}},
    {"type": "refund.failed", "related_object": {"id": "re_" + "1" * 300, "type": "refund"}},
    {"type": "refund.failed", "related_object": {"id": "re_\x00", "type": "refund"}},
    ["refund"],
    "re_1",
    None,
]


@pytest.mark.parametrize("event", NOT_ABOUT_ONE)
def test_what_is_not_about_a_refund_is_kept_and_nothing_is_asked(world: World, event: Any) -> None:
    refund_id = paid(world)
    kind = event["type"] if isinstance(event, dict) else "refund.failed"
    assert told(world, event, kind) == "not about a refund"
    assert world.processor.asked == []
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


_IDS = st.one_of(st.just("re_1"), st.text(max_size=8), st.integers(), st.none())
_THINGS = st.recursive(
    st.one_of(_IDS, st.just(RELATED)),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(("id", "object", "type", "data", "related_object", "metadata")), inner, max_size=4
        )
        | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)


@given(event=_THINGS, kind=st.sampled_from(("v1.refund.failed", "refund.updated", "charge.refunded", "x")))
def test_any_webhook_event_gives_no_error_and_only_a_plain_id(event: object, kind: str) -> None:
    found = refund_named(event, kind)
    if found is not None:
        identifier, refund_object = found
        assert identifier.isascii()
        assert identifier.isprintable()
        assert 0 < len(identifier) <= ID_LENGTH_MAX
        assert isinstance(refund_object, dict)
