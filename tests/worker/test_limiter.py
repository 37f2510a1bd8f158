"""One rate for all processes, through a real Valkey; while it is down, each process uses a slow share of its own."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kombu.utils.url import parse_ssl_cert_reqs
from redis.asyncio import Redis
from tests.support.servers import ValkeyServer

from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker import limiter as limiter_module
from refund_worker.worker.broker_tls import for_redis_py
from refund_worker.worker.limiter import LocalLimiter, make_limiter

RATE = 40
SECONDS = 2.0

_TAKE_TURNS = """
import asyncio, sys, time
from refund_worker.settings import load_settings
from refund_worker.worker.limiter import make_limiter

async def main():
    limiter = make_limiter(load_settings())
    async def turns():
        while time.time() < float(sys.argv[1]):
            await limiter.acquire("stripe")
            print(time.time())
    await asyncio.gather(*(turns() for _ in range(10)))
    await limiter.close()

asyncio.run(main())
"""


def settings_with(url: str, rate: float) -> Settings:
    return load_settings({PREFIX + "BROKER_URL": url, PREFIX + "STRIPE_RATE_PER_SECOND": str(rate)})


async def count_turns(settings: Settings, seconds: float) -> int:
    limiter = make_limiter(settings)
    count = 0

    async def turns() -> None:
        nonlocal count
        while True:
            await limiter.acquire("stripe")
            count += 1

    takers = [asyncio.create_task(turns()) for _ in range(5)]
    await asyncio.sleep(seconds)
    for taker in takers:
        taker.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    await limiter.close()
    return count


@pytest.mark.slow
def test_two_processes_together_stay_within_the_rate(redis_url: str) -> None:
    until = time.time() + 3 + SECONDS
    environment = {PREFIX + "BROKER_URL": redis_url, PREFIX + "STRIPE_RATE_PER_SECOND": str(RATE)}
    command = [sys.executable, "-c", _TAKE_TURNS, str(until)]
    takers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [taker.communicate(timeout=30)[0].split() for taker in takers]
    assert [taker.returncode for taker in takers] == [0, 0]
    assert all(outputs), "both took part"
    moments = sorted(float(line) for output in outputs for line in output)
    span = moments[-1] - moments[0]
    # A call begins no earlier than its slot, but may be recorded late, so the ends are not exact.
    assert len(moments) <= RATE * span + 1 + RATE * 0.25
    assert len(moments) >= RATE * span * 0.5


def test_slots_are_spread_evenly_without_bursts(redis_url: str) -> None:
    assert asyncio.run(count_turns(settings_with(redis_url, 20), 1.0)) in range(10, 23)


def test_process_without_a_broker_uses_a_share_of_the_rate(own_valkey: ValkeyServer) -> None:
    settings = settings_with(own_valkey.url, 40)
    own_valkey.crash()
    assert asyncio.run(count_turns(settings, 1.0)) in range(3, 13)


def test_no_limit_takes_no_time() -> None:
    async def many() -> None:
        limiter = make_limiter(settings_with("redis://127.0.0.1:1/0", 0))
        for _ in range(1000):
            await limiter.acquire("stripe")

    began = time.monotonic()
    asyncio.run(many())
    assert time.monotonic() - began < 1


def test_last_slot_is_free_again_after_a_cancelled_wait() -> None:
    async def next_turns() -> list[float]:
        limiter = LocalLimiter(rate=5)
        await limiter.acquire("stripe")
        turns = [limiter._next["stripe"]]
        first, last = (asyncio.ensure_future(limiter.acquire("stripe")) for _ in range(2))
        await asyncio.sleep(0)
        for waiting in (first, last):
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            turns.append(limiter._next["stripe"])
        return turns

    begun, after_first, after_last = asyncio.run(next_turns())
    assert after_first == pytest.approx(begun + 0.4), "others are behind it: its turn stays empty"
    assert after_last == pytest.approx(begun + 0.2), "nobody is behind it: the next one has its turn"


def test_slots_of_one_name_do_not_wait_for_another_name(fake_redis: str) -> None:
    turn_seconds = 10.0

    async def first_turns() -> float:
        limiter = make_limiter(settings_with(fake_redis, 1 / turn_seconds))
        began = time.monotonic()
        await limiter.acquire("stripe")
        await limiter.acquire("stripe reads")
        await limiter.acquire("manual")
        await limiter.close()
        return time.monotonic() - began

    assert asyncio.run(first_turns()) < turn_seconds / 2


# No server listens at port 9 of this machine. The settings accept each of these URLs; redis-py refuses some of those
# with a query.
ACCEPTED = [
    "embedded",
    "memory://",
    "amqp://127.0.0.1:9//",
    "amqps://u:p@127.0.0.1:9//v",
    "redis://127.0.0.1:9",
    "redis://127.0.0.1:9/0",
    "redis://[::1]:9/0",
    "redis://user:a%3Bb@127.0.0.1:9/0",
    "redis://127.0.0.1:9/0?db=nothing",
    "redis://127.0.0.1:9/0?socket_timeout=soon",
    "redis://127.0.0.1:9/0?protocol=7",
    "redis://127.0.0.1:9/0?unheard_of=1",
    "redis://127.0.0.1:9/0?ssl_cert_reqs=CERT_REQUIRED",
    "rediss://127.0.0.1:9/0",
    "rediss://127.0.0.1:9/0?ssl_cert_reqs=CERT_REQUIRED",
    "rediss://127.0.0.1:9/0?ssl_cert_reqs=none",
    "rediss://127.0.0.1:9/0?ssl_cert_reqs=CERT_PERHAPS",
    "rediss://127.0.0.1:9/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/nowhere.pem",
]


@pytest.mark.parametrize("url", ACCEPTED)
def test_no_accepted_broker_url_makes_a_slot_fail(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_module, "LOOK_AGAIN_SECONDS", 0.0)
    given = {"BROKER_URL": url, "STRIPE_RATE_PER_SECOND": "1000", "DATABASE_URL": f"sqlite:///{tmp_path}/refunds.db"}
    settings = load_settings({PREFIX + name: value for name, value in given.items()})

    async def turns() -> None:
        limiter = make_limiter(settings)
        for _ in range(3):
            await limiter.acquire("stripe")
        await limiter.close()

    with caplog.at_level(logging.INFO, logger="refund_worker.worker.limiter"):
        asyncio.run(turns())
    # Each slot tried Redis again, and one line in the log is enough.
    assert len(caplog.records) == (1 if url.startswith("redis") else 0), caplog.text


def test_limiter_raises_nothing(monkeypatch: pytest.MonkeyPatch, own_valkey: ValkeyServer) -> None:
    def failing(error: Exception) -> None:
        async def raises(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(Redis, "execute_command", raises)

    async def a_turn() -> None:
        limiter = make_limiter(settings_with(own_valkey.url, 1000))
        await limiter.acquire("stripe")
        await limiter.close()

    for error in (KeyError("surprise"), RuntimeError("surprise"), AttributeError("surprise")):
        failing(error)
        asyncio.run(a_turn())


def test_shared_limit_is_used_again_when_the_broker_is_back(
    own_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_module, "LOOK_AGAIN_SECONDS", 0.0)

    async def turns() -> None:
        limiter = make_limiter(settings_with(own_valkey.url, 1000))
        await limiter.acquire("stripe")
        own_valkey.crash()
        await limiter.acquire("stripe")
        own_valkey.start()
        await limiter.acquire("stripe")
        await limiter.close()

    with caplog.at_level(logging.INFO, logger="refund_worker.worker.limiter"):
        asyncio.run(turns())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize("how", ["CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE", "required", "optional", "none"])
def test_certificates_are_checked_as_in_celery(how: str) -> None:
    for query in (f"ssl_cert_reqs={how}", f"ssl_ca_certs=ca.pem&ssl_cert_reqs={how}&db=1"):
        client = Redis.from_url(for_redis_py(f"rediss://:p@127.0.0.1:9/0?{query}"))
        context = client.connection_pool.make_connection().ssl_context
        assert context.cert_reqs is parse_ssl_cert_reqs(how)
    assert ssl.CERT_REQUIRED is parse_ssl_cert_reqs("CERT_REQUIRED")
    # Only this option is changed, not a password that looks like it.
    assert for_redis_py("rediss://:CERT_NONE@h/0") == "rediss://:CERT_NONE@h/0"
