"""Redis fails over: the old primary lives on as a read-only replica, and its name moves to the new one."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import redis
from tests.support.brokers import RedisServer, Relay
from tests.support.deployment import wait_until

from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker import limiter as limiter_module
from refund_worker.worker import publisher as publisher_module
from refund_worker.worker.limiter import make_limiter
from refund_worker.worker.publisher import make_publisher

RATE = 40.0


@dataclass
class Pair:
    """Two servers, and the relay that is the name of the one in charge."""

    first: RedisServer
    second: RedisServer
    name: Relay

    @property
    def settings(self) -> Settings:
        url = f"redis://127.0.0.1:{self.name.port}/0"
        return load_settings({PREFIX + "BROKER_URL": url, PREFIX + "STRIPE_RATE_PER_SECOND": str(RATE)})

    def client(self, server: RedisServer) -> redis.Redis:
        return redis.Redis.from_url(server.url, socket_timeout=5)

    def swap(self) -> None:
        """Make the second server the primary and the first its replica; connections to the first stay open."""
        with self.client(self.second) as second, self.client(self.first) as first:
            second.replicaof("NO", "ONE")
            first.replicaof("127.0.0.1", str(self.second.port))
            wait_until(lambda: first.role()[0] == b"slave")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with ExitStack() as opened:
        yield opened.enter_context(RedisServer()), opened.enter_context(RedisServer())


@pytest.fixture
def pair(servers: tuple[RedisServer, RedisServer]) -> Iterator[Pair]:
    first, second = servers
    with Relay(first.port) as name:
        made = Pair(first, second, name)
        with made.client(first) as client:
            client.replicaof("NO", "ONE")
            client.flushall()
        with made.client(second) as client:
            client.replicaof("127.0.0.1", str(first.port))
        yield made


async def turns_in(limiter: limiter_module.ProcessorLimiters, seconds: float) -> int:
    """Return how many slots five waiting tasks get in this time."""
    count, until = 0, time.monotonic() + seconds

    async def take() -> None:
        nonlocal count
        while time.monotonic() < until:
            await limiter.acquire("stripe")
            count += 1

    await asyncio.gather(*(take() for _ in range(5)))
    return count


def test_limiter_finds_the_new_primary(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(limiter_module, "LOOK_AGAIN_SECONDS", 0.2)

    async def through_the_swap() -> tuple[int, int]:
        limiter = make_limiter(pair.settings)
        await limiter.acquire("stripe")
        pair.swap()
        alone = await turns_in(limiter, 0.6)  # the name still leads to the old primary
        pair.name.target = pair.second.port
        await turns_in(limiter, 0.6)
        together = await turns_in(limiter, 1.0)
        await limiter.close()
        return alone, together

    alone, together = asyncio.run(through_the_swap())
    assert alone < RATE * 0.6 / 2, "a process alone is slow"
    assert together > RATE * 0.6
    assert "cannot be used (ReadOnlyError)" in caplog.text
    assert "the shared rate limit is back" in caplog.text


def test_publisher_finds_the_new_primary(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "SILENT_SECONDS", 0.0)
    publish = make_publisher(pair.settings)
    publish(["rf_1"], False)
    pair.swap()
    publish(["rf_2"], False)  # lost: the sweep finds it
    pair.name.target = pair.second.port
    publish(["rf_3"], False)
    with pair.client(pair.second) as second:
        assert b"rf_3" in _body(second.lindex("refunds", 0))


def _body(message: object) -> bytes:
    assert isinstance(message, bytes)
    return base64.b64decode(json.loads(message)["body"])
