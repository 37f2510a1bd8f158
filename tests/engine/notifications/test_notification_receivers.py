"""A harmful or slow receiver costs a bounded time, and a receiver without a good secret or URL is refused at start."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.engine_world import World
from tests.support.notifications import deliver, settings, stored
from tests.support.receiver import Deaf, Receiver

from refund_worker.engine.notifications.http_post import CONNECTIONS_MAX, Poster
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, load_settings


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


def test_receiver_answering_byte_by_byte_costs_bounded_time(world: World) -> None:
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


def test_a_receiver_is_asked_by_so_many_at_once_and_no_more() -> None:
    """The limit holds for any number of waiting messages: the receiver is a customer's backend."""

    async def post_many(url: str) -> list[str | None]:
        async with Poster(url, loopback=True, seconds_max=20) as poster:
            return await asyncio.gather(*(poster.post(b"{}", {}) for _ in range(40)))

    with Receiver(seconds=0.2) as receiver:
        assert asyncio.run(post_many(receiver.url)) == [None] * 40
    assert len(receiver.received) == 40
    assert receiver.most_at_once <= CONNECTIONS_MAX
