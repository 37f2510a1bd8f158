"""While a processor refuses our key, its list is the probe: the circuit stays open until a list is answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from tests.support.engine_world import World, assert_books_balance
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import Denied, Reply, SearchReply, Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.engine.processor_sync.status import stored_switches
from refund_worker.engine.processor_sync.sync import RecentSync, sync_recent
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.circuit import denials, open_circuits
from refund_worker.errors import Unavailable
from refund_worker.store import inbox, tables

REVOKED = Denied("api_key_expired", "Expired API Key provided")
# The engine's tests poll every 100 s, so a list is read every 20 s and counts for 100 s.
SECONDS = 20


class Refusing(ScriptedProcessor):
    """A processor that answers every call with `denied` while there is one, as with a revoked key."""

    denied: Denied | None = None
    lists_anyway = False
    is_list_silent = False
    calls = 0

    async def send(self, key: str, body: str) -> Reply:
        """Send, or refuse the key."""
        self.calls += 1
        return self.denied or await super().send(key, body)

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Fetch, or refuse the key."""
        self.calls += 1
        return self.denied or await super().fetch(processor_refund_id)

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Find, or refuse the key."""
        self.calls += 1
        return self.denied or await super().find(processor_payment_id, leg_id)

    async def recent(self, created_gte: datetime) -> SearchReply:
        """List, or refuse the key."""
        self.calls += 1
        if self.is_list_silent:
            return Unanswered("timeout")
        return (None if self.lists_anyway else self.denied) or await super().recent(created_gte)


@dataclass
class Installation:
    """One installation whose key can be refused, with the scheduler's job of listing."""

    world: World
    processor: Refusing = field(default_factory=Refusing)
    sync: RecentSync = field(default_factory=RecentSync)

    def __post_init__(self) -> None:
        context = replace(self.world.context, processors={"stripe": self.processor}, monotonic=lambda: self.world.now)
        self.world.context = context
        sync_recent(context, "stripe")

    def list(self) -> None:
        try:
            self.sync.sync_when_due(self.world.context, "stripe")
        except Unavailable as error:
            assert "refused to list its refunds" in error.explained  # noqa: PT017 - no other failure is possible

    def live_for(self, seconds: int) -> None:
        """Let a scheduler and a worker run for some seconds."""
        for _ in range(seconds // 5):
            self.world.pass_time(5)
            self.list()
            self.world.work()
            process_inbox(self.world.context)

    def state(self) -> tuple[str, str | None, str | None]:
        with self.world.database.read() as connection:
            (switch,) = [s for s in stored_switches(connection, self.world.context) if s["name"] == "stripe"]
        return switch["state"], switch["code"], switch["reason"]

    def since(self) -> str | None:
        with self.world.database.read() as connection:
            return next(s["paused_at"] for s in stored_switches(connection, self.world.context) if s["paused"])

    def paid(self) -> tuple[str, str]:
        """Return a paid refund and its object at the processor."""
        refund_id = self.world.withdraw(20)
        self.live_for(SECONDS)
        object_id = self.world.refund(refund_id).legs[0].processor_refund_id
        assert object_id is not None
        return refund_id, object_id

    def receive(self, object_id: str, event_id: str) -> None:
        event = json.dumps({"type": "refund.updated", "data": {"object": {"id": object_id}}})
        with self.world.database.write() as connection:
            inbox.insert_event(connection, "stripe", event_id, "refund.updated", event, self.world.now)

    def outcome(self, event_id: str) -> tuple[str | None, int]:
        with self.world.database.read() as connection:
            rows = connection.execute(tables.inbox.select()).mappings().all()
        return next((row["outcome"], row["tries"]) for row in rows if row["event_id"] == event_id)


@pytest.fixture
def there(world: World) -> Iterator[Installation]:
    made = Installation(world)
    world.pay()
    yield made
    assert_books_balance(world.database)


SENDS = ("sending", None, None)
OPEN = ("open", "api_key_expired", "Expired API Key provided")


def test_state_names_the_refused_key_for_as_long_as_it_lasts(
    there: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    there.processor.denied = REVOKED
    waiting = there.world.withdraw(20)
    there.live_for(SECONDS)
    began = there.since()
    for _ in range(20):
        there.live_for(100)
        assert there.state() == OPEN
        assert there.since() == began
    assert there.world.refund(waiting).status is RefundStatus.QUEUED
    alarms = [r for r in caplog.records if getattr(r, "alarm", "") == "sending_stopped" and r.levelno >= logging.ERROR]
    assert len(alarms) == 1


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("lasts_seconds", [60, 1_000])
def test_sending_returns_with_the_next_list_once_the_key_is_accepted(
    there: Installation, lasts_seconds: int, restarted: bool
) -> None:
    there.processor.denied = REVOKED
    waiting = there.world.withdraw(20)
    there.live_for(lasts_seconds)
    there.processor.denied = None
    if restarted:
        there.sync = RecentSync()
    there.live_for(SECONDS)
    assert there.world.refund(waiting).status is RefundStatus.SUCCEEDED
    assert there.state() == SENDS
    assert there.processor.paid_minor() == 200


def test_refused_hourly_list_ends_with_the_next_list(there: Installation) -> None:
    """Both are lists: the first of either kind that is answered shows that the key works again."""
    there.live_for(SECONDS)
    there.processor.denied = REVOKED
    with pytest.raises(Unavailable):
        there.sync.sync_all(there.world.context, "stripe")
    assert there.state() == OPEN
    there.processor.denied = None
    there.live_for(SECONDS + 5)
    assert there.state() == SENDS


def test_refusal_without_any_refund_opens_the_circuit(there: Installation) -> None:
    there.processor.denied = REVOKED
    there.live_for(SECONDS)
    assert there.state() == OPEN


def test_list_that_was_never_refused_leaves_the_circuit_to_its_time(there: Installation) -> None:
    """A key can be allowed to read and not to refund: each try to send would be refused again."""
    there.live_for(SECONDS)
    there.processor.lists_anyway, there.processor.denied = True, REVOKED
    there.world.withdraw(20)
    there.live_for(3_600)
    assert len(there.processor.asked) == 0
    sends = there.processor.calls - 3_600 // SECONDS - 2
    assert sends <= 3_600 // 300 + 1
    assert there.state() == OPEN


def test_state_names_the_begin_although_sends_are_tried_meanwhile(there: Installation) -> None:
    there.live_for(SECONDS)
    there.processor.lists_anyway, there.processor.denied = True, REVOKED
    there.world.withdraw(20)
    there.live_for(SECONDS)
    began = there.since()
    there.live_for(1_800)
    assert began is not None
    assert there.since() == began


def test_list_after_one_without_answer_leaves_the_circuit_to_its_time(there: Installation) -> None:
    """A list that was not answered says nothing about the key: only a refused one does."""
    there.live_for(SECONDS)
    there.processor.lists_anyway, there.processor.denied = True, REVOKED
    there.world.withdraw(20)
    there.live_for(SECONDS)
    there.processor.is_list_silent = True
    there.world.pass_time(SECONDS)
    with pytest.raises(Unavailable):
        there.sync.sync_when_due(there.world.context, "stripe")
    there.processor.is_list_silent = False
    there.world.pass_time(SECONDS)
    there.list()
    assert there.state() == OPEN


def test_accepted_list_ends_no_pause_of_a_person(there: Installation) -> None:
    there.processor.denied = REVOKED
    there.live_for(100)
    pause_processor(there.world.context, "stripe", actor="op", reason="fire")
    there.processor.denied = None
    waiting = there.world.withdraw(20)
    there.live_for(1_000)
    assert there.world.refund(waiting).status is RefundStatus.QUEUED
    assert there.state()[0] == "paused"


def test_list_that_began_before_a_refusal_does_not_close_the_circuit(there: Installation) -> None:
    def refused_meanwhile() -> None:
        there.world.pass_time(1)
        with there.world.database.write() as connection:
            open_circuits(connection, denials([("stripe", REVOKED)]), there.world.now)

    there.processor.while_listing = refused_meanwhile
    there.list()
    assert there.state() == OPEN


def test_webhook_events_wait_untried_while_the_key_is_refused(there: Installation) -> None:
    refund_id, object_id = there.paid()
    there.processor.become(object_id, "failed")
    there.processor.denied = REVOKED
    there.receive(object_id, "evt_1")
    there.live_for(3_600)
    assert there.outcome("evt_1")[0] is None
    assert there.outcome("evt_1")[1] <= 1
    lists = 3_600 // SECONDS + 1
    assert there.processor.calls <= lists + 5
    there.processor.denied = None
    there.live_for(SECONDS + 5)
    assert there.outcome("evt_1")[0] == "taken in"
    assert there.world.refund(refund_id).status is RefundStatus.FAILED


def test_event_whose_fetch_is_refused_opens_the_circuit(there: Installation) -> None:
    _, object_id = there.paid()
    there.processor.denied = REVOKED
    there.receive(object_id, "evt_1")
    process_inbox(there.world.context)
    assert there.state() == OPEN


def test_events_of_other_processors_are_processed_meanwhile(there: Installation) -> None:
    there.processor.denied = REVOKED
    there.live_for(SECONDS)
    with there.world.database.write() as connection:
        inbox.insert_event(connection, "other", "evt_2", "ping", "{}", there.world.now)
    process_inbox(there.world.context)
    assert there.outcome("evt_2")[0] == "not about a refund"


def test_event_of_object_unknown_to_processor_ends_with_reason(there: Installation) -> None:
    there.world.withdraw(20)
    there.live_for(SECONDS)
    there.receive("re_of_another_account", "evt_3")
    there.live_for(60)
    assert there.outcome("evt_3")[0] is None, "a new object can be readable a little late"
    there.live_for(1_800)
    assert there.outcome("evt_3")[0] == "the processor does not know this refund: left to reconciliation"


def alarms_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(r)["code"] for r in caplog.records if getattr(r, "alarm", "") == "sending_stopped"]


def test_another_cause_is_alarmed_and_lasts_since_its_own_begin(
    there: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    there.processor.denied = REVOKED
    there.live_for(SECONDS)
    began = there.since()
    there.processor.denied = Denied("account_invalid", "The account is closed")
    there.live_for(60)
    assert there.state()[1] == "account_invalid"
    assert (there.since() or "") > (began or "")
    assert alarms_in(caplog) == ["api_key_expired", "account_invalid"]


def test_list_that_is_refused_during_a_persons_pause_alarms_nobody(
    there: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    pause_processor(there.world.context, "stripe", actor="op", reason="the key is being changed")
    there.processor.denied = REVOKED
    there.live_for(300)
    assert there.state()[:2] == ("paused", "paused_by_hand")
    assert alarms_in(caplog) == []


def test_webhook_events_are_processed_during_a_persons_pause(there: Installation) -> None:
    _, object_id = there.paid()
    pause_processor(there.world.context, "stripe", actor="op", reason="fire")
    there.receive(object_id, "evt_1")
    process_inbox(there.world.context)
    assert there.outcome("evt_1")[0] == "taken in"


def test_many_waiting_events_of_a_refused_key_leave_room_for_others(there: Installation) -> None:
    there.processor.denied = REVOKED
    there.live_for(SECONDS)
    for number in range(5):
        there.receive(f"re_{number}", f"evt_{number}")
    with there.world.database.write() as connection:
        inbox.insert_event(connection, "other", "evt_other", "ping", "{}", there.world.now)
    assert process_inbox(there.world.context, limit=5) == 1
    assert there.outcome("evt_other")[0] == "not about a refund"


def test_key_of_one_account_stops_no_other_account() -> None:
    found = denials([("stripe:old/acct_1", REVOKED), ("stripe", Unanswered("lost"))])
    assert [each.processor for each in found] == ["stripe:old"]
