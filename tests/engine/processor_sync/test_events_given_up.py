"""How long an event is tried whose object cannot be read: for longer where no list would find the object either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.engine.processor_sync.test_event_reports import ENTRY, hint
from tests.support.engine_world import POLICY, World
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import Misconfigured, Reply, Unanswered
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.engine.processor_sync.webhook_inbox import (
    NOT_THERE_OUTCOME,
    TRIES_MAX,
    TRIES_MAX_NOT_THERE,
    TRIES_MAX_WITHOUT_LIST,
    UNANSWERED,
)
from refund_worker.processors.accounts import Account, Accounts
from refund_worker.processors.base import AccountSettings
from refund_worker.store import inbox
from refund_worker.store.tables import inbox as table
from refund_worker.times import DAY

EVENT = '{"refund": "re_1", "status": "failed", "leg": null, "amount": 200}'
SILENT = Unanswered("timeout")


class Unreadable(ScriptedProcessor):
    """Answers each fetch with `answer`."""

    answer: Reply = SILENT

    async def fetch(self, processor_refund_id: str) -> Reply:
        self.asked.append(processor_refund_id)
        return self.answer


@pytest.fixture(params=[True, False], ids=["listed", "without a list"])
def world(request: pytest.FixtureRequest, migrated_sqlite_url: str) -> Iterator[World]:
    """Return a world with one account, whose refunds are listed or not."""
    table_of = replace(ENTRY.capabilities, reads_refunds=True, lists_refunds=request.param)
    entry = replace(ENTRY, capabilities=table_of, webhooks=replace(ENTRY.webhooks, event_hint=hint))
    accounts = Accounts({"bank": Account(name="bank", entry=entry, settings=AccountSettings())})
    policy = replace(POLICY, processors=accounts.rules)
    made = World(migrated_sqlite_url, accounts=accounts, processors={"bank": Unreadable("bank")}, policy=policy)
    with made.database.write() as connection:
        inbox.insert_event(connection, "bank", "e", "refund", EVENT, made.now)
    yield made
    made.close()


def outcome_at(world: World, tries: int) -> str | None:
    """Return how the event ends at its try of this number, None if it is tried again."""
    with world.database.write() as connection:
        connection.execute(update(table).values(tries=tries - 1))
    world.now += 40 * DAY
    webhook_inbox.process_inbox(world.context)
    with world.database.read() as connection:
        outcome: str | None = connection.execute(select(table.c.outcome)).scalar_one()
    return outcome


def is_listed(world: World) -> bool:
    return world.context.accounts.lists("bank")


def test_event_is_tried_for_longer_where_no_list_finds_its_object(world: World) -> None:
    last = TRIES_MAX if is_listed(world) else TRIES_MAX_WITHOUT_LIST
    assert outcome_at(world, last - 1) is None
    assert outcome_at(world, last) == UNANSWERED


def test_object_that_is_not_there_is_given_up_soon_everywhere(world: World) -> None:
    processor = world.context.processors["bank"]
    assert isinstance(processor, Unreadable)
    processor.answer = Misconfigured("not_found", "no such refund")
    assert outcome_at(world, TRIES_MAX_NOT_THERE - 1) is None
    assert outcome_at(world, TRIES_MAX_NOT_THERE) == NOT_THERE_OUTCOME


def test_tries_without_a_list_last_as_long_as_a_refund_can_change() -> None:
    retry_base_seconds = 2.0
    assert 35 * DAY <= TRIES_MAX_WITHOUT_LIST**2 * retry_base_seconds < 36 * DAY
