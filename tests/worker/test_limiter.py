"""One rate for all: over processes through a real Valkey, slowly and alone while it is away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from tests.support.servers import ValkeyServer

from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.limiter import make_limiter

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
def test_two_processes_together_never_take_more_turns_than_the_rate(redis_url: str) -> None:
    until = time.time() + 3 + SECONDS
    environment = {PREFIX + "BROKER_URL": redis_url, PREFIX + "STRIPE_RATE_PER_SECOND": str(RATE)}
    command = [sys.executable, "-c", _TAKE_TURNS, str(until)]
    takers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [taker.communicate(timeout=30)[0].split() for taker in takers]
    assert [taker.returncode for taker in takers] == [0, 0]
    assert all(outputs), "both took part"
    moments = sorted(float(line) for output in outputs for line in output)
    span = moments[-1] - moments[0]
    # A turn is begun no earlier than it is booked; what is written down may come late, so the ends are blurred.
    assert len(moments) <= RATE * span + 1 + RATE * 0.25
    assert len(moments) >= RATE * span * 0.5


def test_turns_are_spread_evenly_and_not_given_in_bursts(redis_url: str) -> None:
    assert asyncio.run(count_turns(settings_with(redis_url, 20), 1.0)) in range(10, 23)


def test_while_the_broker_is_away_a_process_goes_on_alone_with_a_share_of_the_rate(own_valkey: ValkeyServer) -> None:
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


def test_one_processor_does_not_wait_for_another(redis_url: str) -> None:
    async def first_turns() -> float:
        limiter = make_limiter(settings_with(redis_url, 1))
        began = time.monotonic()
        await limiter.acquire("stripe")
        await limiter.acquire("other")
        await limiter.close()
        return time.monotonic() - began

    assert asyncio.run(first_turns()) < 0.9
