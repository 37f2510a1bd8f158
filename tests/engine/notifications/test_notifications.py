"""Outgoing notifications: stored with the change, signed, retried, and never sent to an internal address."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.abc import ResolveResult
from standardwebhooks import Webhook, WebhookVerificationError
from tests.support.engine_world import Died, World, credit_refund
from tests.support.receiver import Deaf, Received, Receiver

from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.state_machine import Action
from refund_worker.engine.notifications.delivery import TRIES_MAX, Deliverer
from refund_worker.engine.notifications.http_post import CONNECTIONS_MAX, Poster, is_allowed
from refund_worker.engine.notifications.outbox import notifications, redeliver
from refund_worker.engine.refunds.accept import accept_requests, request_refunds
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import BadSettings, ExceedsRefundable, NotFound
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.store import outbox

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with 100 credits for 10.00 whose admin backend receives notifications."""
    made = World(migrated_url, notify=True)
    made.pay()
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a running HTTP receiver."""
    with Receiver() as running:
        yield running


def settings(url: str, **others: str) -> Settings:
    """Return settings that send notifications to `url`, signed with `SECRET`."""
    given = {"NOTIFY_URL": url, "NOTIFY_SECRET": SECRET, **others}
    return load_settings({PREFIX + name: value for name, value in given.items()})


def deliver(world: World, url: str, *, seconds_max: float = 5.0, **options: Any) -> int:
    """Deliver the notifications that are due and return how many were delivered."""
    return Deliverer(settings(url), seconds_max=seconds_max, **options).deliver(world.context)


def stored(world: World, **which: Any) -> list[dict[str, Any]]:
    """Return the stored notifications, filtered by `which`."""
    with world.database.read() as connection:
        return notifications(connection, **which)


def types(world: World) -> list[str]:
    """Return the types of the stored notifications, oldest first."""
    return [message["type"] for message in reversed(stored(world))]


def verified(received: Received) -> Any:
    """Return the payload after a standard webhook library has verified its signature."""
    return Webhook(SECRET).verify(received.body, received.headers)


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


def test_what_is_refused_is_sent_again_under_the_same_id_after_growing_waits(world: World, receiver: Receiver) -> None:
    world.withdraw(10)
    receiver.status = 500
    waits = []
    for _ in range(4):
        assert deliver(world, receiver.url) == 0
        waits.append(_next_at(world) - world.now)
        assert deliver(world, receiver.url) == 0, "it is not due yet"
        world.now = _next_at(world)
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


def test_what_can_not_be_delivered_is_given_up_shown_and_sent_again_when_asked(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    world.withdraw(10)
    receiver.status = 503
    for _ in range(TRIES_MAX):
        deliver(world, receiver.url)
        world.now += 10_000
    assert len(receiver.received) == TRIES_MAX
    deliver(world, receiver.url)
    assert len(receiver.received) == TRIES_MAX, "given up is given up"
    (message,) = stored(world, given_up=True)
    assert (message["state"], message["last_error"]) == ("given_up", "answered 503")
    assert "alarm: notification" in caplog.text
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


# --- a harmful receiver -----------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(world: World) -> None:
    world.withdraw(10)
    with Receiver() as elsewhere, Receiver(307, {"Location": elsewhere.url}) as receiver:
        assert deliver(world, receiver.url) == 0
        assert len(receiver.received) == 1
        assert elsewhere.received == []
    assert stored(world)[0]["last_error"] == "answered 307"


def test_a_receiver_that_hangs_costs_a_bounded_time_and_no_refund(world: World) -> None:
    refund_id = world.withdraw(10)
    with Deaf() as deaf:
        began = time.monotonic()
        assert deliver(world, deaf.url, seconds_max=0.5) == 0
        assert time.monotonic() - began < 5
    world.work()
    assert world.refund(refund_id).status == "succeeded"
    assert {message["last_error"] for message in stored(world)} == {None, "no answer within 0.5 s"}


def test_a_receiver_that_answers_a_byte_at_a_time_costs_a_bounded_time(world: World) -> None:
    world.withdraw(10)
    with Receiver(drips=True) as receiver:
        began = time.monotonic()
        assert deliver(world, receiver.url, seconds_max=0.5) == 0
        assert time.monotonic() - began < 5


def test_no_answer_at_all_is_tried_again_and_shows_no_part_of_the_url(world: World) -> None:
    world.withdraw(10)
    with Deaf() as deaf:
        url = deaf.url + "token-in-the-path"
    assert deliver(world, url) == 0
    error = stored(world)[0]["last_error"]
    assert error.startswith("not reached")
    assert "token" not in error
    assert "127.0.0.1" not in error


INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "2001:0:a00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_of_the_inside_is_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("address", INSIDE)
def test_in_development_this_machine_is_allowed_and_nothing_else_of_the_inside(address: str) -> None:
    here = address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")
    assert is_allowed(address, loopback=True) == here


@pytest.mark.parametrize("how", ["written", "by name", "in other words", "among good ones"])
def test_in_production_nothing_is_sent_to_this_machine(world: World, receiver: Receiver, how: str) -> None:
    world.withdraw(10)
    hosts = {"written": "127.0.0.1", "by name": "localhost", "in other words": "2130706433"}
    url = f"http://{hosts.get(how, 'receiver.example')}:{receiver.port}/"

    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"] if how == "among good ones" else ["127.0.0.1"]

    options = {} if how != "among good ones" else {"lookup": lookup}
    deliverer = Deliverer(settings(url, ENVIRONMENT="production"), seconds_max=2, **options)  # type: ignore[arg-type]
    assert deliverer.deliver(world.context) == 0
    assert receiver.received == []
    # aiohttp does not even accept a number instead of a host as a URL.
    told = "not reached (InvalidUrlClientError)" if how == "in other words" else "not public"
    assert told in stored(world)[0]["last_error"]


# Spellings of this machine's address, or of another internal one, that a library may accept. The port is appended.
SPELLINGS = [
    "１２７.0.0.1",
    "127。0.0.1",
    "127．0．0．1",
    "127｡0.0.1",
    "①②⑦.0.0.1",
    "𝟏𝟐𝟕.0.0.1",
    "127.0.0.1.",
    "127.0.0.1。",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "127.000.000.001",
    "2130706433",
    "０x7f.1",
    "0",
    "0.0.0.0",
    "%31%32%37.0.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%25lo]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "good.example@127.0.0.1",
    "good.example:80@127.0.0.1",
    "good.example%2f@127.0.0.1",
    "good.example\\@127.0.0.1",
    "127.0.0.1#@good.example",
    "127.0.0.1\\.good.example",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_address_leads_to_this_machine(receiver: Receiver, host: str) -> None:
    async def post() -> str | None:
        async with Poster(f"http://{host}:{receiver.port}/", seconds_max=5, lookup=only_what_is_here) as poster:
            return await poster.post(b"{}", {})

    assert asyncio.run(post())
    assert receiver.received == []


async def only_what_is_here(host: str, port: int) -> list[str]:
    """Resolve as the system does, including all spellings of numbers, but look up no external name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OSError("no such name") from error
    return [str(info[4][0]) for info in found]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "//127.0.0.1/", "http:127.0.0.1", "http:///x", "", "http://[::1"])
def test_what_is_no_url_of_a_server_is_refused_in_words(url: str) -> None:
    async def post() -> str | None:
        async with Poster(url, seconds_max=5) as poster:
            return await poster.post(b"{}", {})

    assert asyncio.run(post())


def test_what_is_looked_at_last_is_the_address_that_the_socket_is_opened_for(receiver: Receiver) -> None:
    """The check also holds if the check of the name is bypassed, for example by a spelling that we did not expect."""

    async def post() -> str | None:
        async with Poster(f"http://receiver.example:{receiver.port}/", seconds_max=5) as poster:
            here = ResolveResult(
                hostname="x", host="127.0.0.1", port=receiver.port, family=socket.AF_INET, proto=0, flags=0
            )

            async def resolve(*_: object, **__: object) -> list[ResolveResult]:
                return [here]

            poster._session.connector._resolver.resolve = resolve  # type: ignore[union-attr]
            return await poster.post(b"{}", {})

    assert asyncio.run(post())
    assert receiver.received == []


def test_a_name_is_looked_up_once_and_the_connection_goes_where_it_led_then(world: World, receiver: Receiver) -> None:
    looked_up = []

    async def lookup(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    for number in range(3):
        world.withdraw(1, f"k{number}")
    url = f"http://receiver.example:{receiver.port}/hooks"
    assert deliver(world, url, lookup=lookup) == 3
    assert looked_up == ["receiver.example"]
    assert {received.headers["host"] for received in receiver.received} == {f"receiver.example:{receiver.port}"}
    world.withdraw(1, "k3")
    assert deliver(world, url, lookup=lookup) == 0, "the next round looks again, and what it finds is refused"
    assert len(receiver.received) == 3


def test_a_proxy_of_the_environment_is_not_asked(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.withdraw(10)
    with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert deliver(world, receiver.url) == 1
        assert proxy.received == []


@pytest.mark.parametrize("secret", [None, "", "whsec_", "short", "not base64 at all, but long enough!", "YQ=="])
def test_without_a_good_secret_a_receiver_is_refused_at_start(secret: str | None) -> None:
    given = {PREFIX + "NOTIFY_URL": "https://backend.example/hooks"}
    if secret is not None:
        given[PREFIX + "NOTIFY_SECRET"] = secret
    with pytest.raises(BadSettings, match="NOTIFY_SECRET") as told:
        load_settings(given)
    assert not secret or secret not in str(told.value).replace("whsec_ before", "")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://backend.example", "gopher://x", "https://u:p@x/", "x"])
def test_only_http_urls_can_be_a_receiver(url: str) -> None:
    with pytest.raises(BadSettings, match="NOTIFY_URL"):
        settings(url)


def _next_at(world: World) -> float:
    with world.database.read() as connection:
        return float(connection.exec_driver_sql("SELECT next_at FROM outbox").scalar_one())


def test_a_receiver_is_asked_by_so_many_at_once_and_no_more() -> None:
    """The limit holds for any number of waiting messages: the receiver is a customer's backend."""

    async def post_many(url: str) -> list[str | None]:
        async with Poster(url, loopback=True, seconds_max=20) as poster:
            return await asyncio.gather(*(poster.post(b"{}", {}) for _ in range(40)))

    with Receiver(seconds=0.2) as receiver:
        assert asyncio.run(post_many(receiver.url)) == [None] * 40
    assert len(receiver.received) == 40
    assert receiver.most_at_once <= CONNECTIONS_MAX
