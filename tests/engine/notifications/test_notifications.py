"""Outgoing notifications: stored with the change, signed, and retried."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from tests.support.engine_world import Died, World, credit_refund
from tests.support.notifications import SECRET, deliver, next_at, stored, types, verified
from tests.support.receiver import Receiver
from tests.support.reruns import rerun_at

from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.state_machine import Action
from refund_worker.engine.notifications.delivery import TRIES_MAX
from refund_worker.engine.notifications.outbox import redeliver
from refund_worker.engine.refunds.accept import accept_requests, request_refunds
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import ExceedsRefundable, NotFound
from refund_worker.store import outbox

# --- stored with the change ------------------------------------------------------------------------------------------


def test_each_status_a_caller_cares_about_is_told_once(world: World) -> None:
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw()
    world.work()
    world.processor.become("re_1", "succeeded")
    world.work_for(1_000)
    assert types(world) == ["refund.queued", "refund.pending", "refund.succeeded"]
    assert {message["refund_id"] for message in stored(world)} == {refund_id}


def test_a_failure_and_an_act_of_a_person_are_told_too(world: World) -> None:
    world.processor.script("ch_1", Refused("card_declined", "no"))
    failed = world.withdraw()
    world.work_for(10)
    assert stored(world, refund_id=failed)[0]["type"] == "refund.failed"
    canceled = world.withdraw(key="second")
    world.command(canceled, Action.CANCEL)
    assert stored(world, refund_id=canceled)[0]["type"] == "refund.canceled"


def test_where_nobody_wants_to_be_told_nothing_is_stored(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    world.withdraw()
    world.work()
    assert stored(world) == []
    world.close()


def test_a_change_that_is_not_committed_is_not_told(world: World) -> None:
    def take_and_die(connection: Any) -> None:
        accept_requests(connection, world.context, [credit_refund(1, "k", transaction_id="t")])
        raise Died

    world.spend()
    with pytest.raises(Died):
        world.database.run(take_and_die)
    assert stored(world) == []
    world.database.dies_before = 1
    with pytest.raises(Died):
        request_refunds(world.context, [credit_refund(1, "k", transaction_id="t")])
    assert stored(world) == []


def test_a_refused_request_and_one_that_is_replayed_are_not_told(world: World) -> None:
    world.withdraw(10)
    world.withdraw(10)
    with pytest.raises(ExceedsRefundable):
        world.withdraw(500, "too much")
    assert types(world) == ["refund.queued"]


# --- delivered -------------------------------------------------------------------------------------------------------


def test_what_arrives_is_signed_and_shows_the_refund_as_it_was_then(world: World, receiver: Receiver) -> None:
    refund_id = world.withdraw(10)
    before = refund_view(world.refund(refund_id))
    world.work()
    assert deliver(world, receiver.url) == 2
    bodies = {body["type"]: body for body in map(verified, receiver.received)}
    assert bodies["refund.queued"]["data"] == json.loads(json.dumps(before))
    assert bodies["refund.succeeded"]["data"] == json.loads(json.dumps(refund_view(world.refund(refund_id))))
    for received in receiver.received:
        body = verified(received)
        assert set(body) == {"id", "type", "created_at", "data"}
        assert received.headers["webhook-id"] == body["id"]
    assert deliver(world, receiver.url) == 0, "nothing is sent twice"


def test_a_changed_body_and_another_secret_are_not_verified(world: World, receiver: Receiver) -> None:
    world.withdraw(10)
    deliver(world, receiver.url)
    (received,) = receiver.received
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(received.body + b" ", received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(b"x" * 32).decode()).verify(received.body, received.headers)


def test_failed_notification_is_retried_with_same_id_and_backoff(world: World, receiver: Receiver) -> None:
    world.withdraw(10)
    receiver.status = 500
    waits = []
    for _ in range(4):
        assert deliver(world, receiver.url) == 0
        waits.append(next_at(world) - world.now)
        assert deliver(world, receiver.url) == 0, "it is not due yet"
        world.now = next_at(world)
    assert waits == [2, 4, 8, 16]
    receiver.status = 204
    assert deliver(world, receiver.url) == 1
    assert len(receiver.received) == 5
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    (message,) = stored(world)
    assert (message["state"], message["tries"], message["last_error"]) == ("delivered", 5, None)


def test_only_the_latest_try_says_what_became_of_a_message(world: World) -> None:
    """A worker frozen during an older attempt must not end a message that was queued for delivery again since."""
    world.withdraw(10)
    with world.database.write() as connection:
        (claimed,) = outbox.claim(connection, world.now, 10, world.now + 60)
        stale = (claimed["message_id"], claimed["tries"] - 1)
        outbox.mark_delivered(connection, [stale], world.now)
        failed = {"id": stale[0], "try": stale[1], "next_at": None, "given_up_at": world.now, "last_error": "late"}
        outbox.mark_failed(connection, [failed])
    (message,) = stored(world)
    assert (message["state"], message["last_error"]) == ("waiting", None)
    with world.database.write() as connection:
        outbox.mark_delivered(connection, [(claimed["message_id"], claimed["tries"])], world.now)
    assert stored(world)[0]["state"] == "delivered"


def test_abandoned_notification_is_listed_and_resent_on_request(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    world.withdraw(10)
    receiver.status = 503
    for _ in range(TRIES_MAX - 1):
        deliver(world, receiver.url)
        world.now += 10_000
    with rerun_at(world.database, "given_up_at=") as failed:
        deliver(world, receiver.url)
    world.now += 10_000
    assert len(receiver.received) == TRIES_MAX
    deliver(world, receiver.url)
    assert len(receiver.received) == TRIES_MAX, "given up is given up"
    (message,) = stored(world, given_up=True)
    assert (message["state"], message["last_error"]) == ("given_up", "answered 503")
    assert failed
    assert caplog.text.count("alarm: notification") == 1
    receiver.status = 200
    assert redeliver(world.context) == 1
    assert deliver(world, receiver.url) == 1
    assert stored(world, given_up=True) == []
    assert redeliver(world.context) == 0
    assert redeliver(world.context, [message["id"]]) == 1, "a delivered one goes again when it is named"
    assert deliver(world, receiver.url) == 1
    with pytest.raises(NotFound):
        redeliver(world.context, [message["id"], "msg_x"])
    assert deliver(world, receiver.url) == 0


def test_two_schedulers_at_once_send_each_message_once(world: World, receiver: Receiver) -> None:
    for number in range(20):
        world.withdraw(1, f"k{number}")
    threads = [threading.Thread(target=deliver, args=(world, receiver.url)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert len(ids) == len(set(ids)) == 20
