"""One rate of calls per processor, shared by all workers through the broker's Redis and spread evenly over time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import defaultdict

import redis
from redis.asyncio import Redis

from refund_worker.domain.account_names import platform_of
from refund_worker.processors.accounts import accounts_of
from refund_worker.settings import Settings
from refund_worker.worker.broker_tls import for_redis_py
from refund_worker.worker.embedded_broker.broker import url_if_running
from refund_worker.worker.queues import name_at_broker

log = logging.getLogger(__name__)

# No process reserves a slot further ahead, so that a newcomer competes with those who wait and a dead process wastes
# few slots.
AHEAD_SECONDS = 1.0
# Without Redis a process cannot know how many others there are. Too slow is safe, too fast is not.
GUESSED_PROCESSES = 4
REDIS_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 5.0
# The processor's name comes behind it.
TURNS = "refund-worker:turn:"

# KEYS[1]: the time of the next slot, in microseconds of the server's clock. ARGV: interval and how far ahead, likewise.
# Returns the wait until our slot; below zero means: no slot is ours, ask again after that time.
TAKE_SLOT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local turn = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if turn < now or turn > now + ahead + 2 * interval then turn = now end
if turn - now > ahead then return math.floor(now - turn) end
local expiry = math.ceil((turn + interval - now) / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f', turn + interval), 'PX', expiry)
return math.ceil(turn - now)
"""


class LocalLimiter:
    """A limiter of `rate` calls a second within this process."""

    def __init__(self, rate: float) -> None:
        self.interval = 1 / rate
        self._next: defaultdict[str, float] = defaultdict(float)

    async def acquire(self, processor: str) -> None:
        """Wait for a slot; a cancelled wait gives its slot back if it was the last one."""
        now = time.monotonic()
        slot = max(now, self._next[processor])
        self._next[processor] = slot + self.interval
        try:
            await asyncio.sleep(slot - now)
        except asyncio.CancelledError:
            if self._next[processor] == slot + self.interval:  # the last slot given out: it is free again
                self._next[processor] = slot
            raise


class SharedLimiter:
    """A limiter of `rate` calls a second over all processes that use this Redis; while Redis fails, `alone` is used.

    An intent is committed before the wait for its slot, so no error of the limiter may be raised.
    """

    def __init__(self, url: str, rate: float, alone: LocalLimiter, key: str = TURNS) -> None:
        self.url = url
        self._key = key
        self._redis: Redis | None = None
        self._interval_us = math.ceil(1_000_000 / rate)
        self._ahead_us = max(int(AHEAD_SECONDS * 1_000_000), self._interval_us)
        self._alone = alone
        self._one_at_a_time = asyncio.Lock()  # one connection is enough
        self._away_until = 0.0
        self._is_away = False

    async def acquire(self, processor: str) -> None:
        """Wait for a slot. A cancelled wait loses at most that one slot."""
        while True:
            wait_us = await self._slot(processor)
            if wait_us is None:
                return await self._alone.acquire(processor)
            if wait_us >= 0:
                return await asyncio.sleep(wait_us / 1_000_000)
            # Too many slots are reserved already; the waiting processes ask again at different moments.
            await asyncio.sleep(min(-wait_us, self._ahead_us) / 1_000_000 * random.uniform(0.3, 0.8))  # noqa: S311

    async def _slot(self, processor: str) -> int | None:
        async with self._one_at_a_time:
            if time.monotonic() < self._away_until:
                return None
            try:
                slot = await self._request_slot(processor)
            except Exception as error:  # noqa: BLE001
                await self._forget()
                self._away_until = time.monotonic() + LOOK_AGAIN_SECONDS
                if not self._is_away:
                    log.warning(
                        "the shared rate limit cannot be used (%s): this process continues slowly on its own",
                        type(error).__name__,
                    )
                self._is_away = True
                return None
            if self._is_away:
                log.info("the shared rate limit is back")
            self._is_away = False
            return slot

    async def _request_slot(self, processor: str) -> int:
        if self._redis is None:
            url = for_redis_py(self.url)
            self._redis = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
        take_turn = self._redis.register_script(TAKE_SLOT)
        return int(await take_turn(keys=[self._key + processor], args=[self._interval_us, self._ahead_us]))

    async def _forget(self) -> None:
        """Close the connection, so that the next call finds the server that has the broker's name by then.

        After a failover the old primary lives on as a replica, and its connections stay open.
        """
        client, self._redis = self._redis, None
        if client is not None:
            with contextlib.suppress(redis.RedisError, OSError, RuntimeError):  # it is dropped in any case
                await client.aclose()

    async def close(self) -> None:
        """Close the connection."""
        await self._forget()


class BrokerLimiter:
    """One processor's rate, shared through the broker if it is a Redis.

    Without one, each process uses a guessed share of the rate.
    """

    def __init__(self, settings: Settings, rate: float) -> None:
        self._settings = settings
        self._rate = rate
        self._alone = LocalLimiter(self._rate / GUESSED_PROCESSES)
        self._shared: SharedLimiter | None = None

    async def acquire(self, processor: str) -> None:
        """Wait for a slot of this processor."""
        shared = await self._current()
        await (shared or self._alone).acquire(processor)

    async def _current(self) -> SharedLimiter | None:
        url = url_if_running(self._settings)
        if url is None or not url.startswith(("redis://", "rediss://")):
            return None
        if self._shared is None or self._shared.url != url:
            earlier, self._shared = self._shared, self._made(url)
            if earlier is not None:
                await earlier.close()
        return self._shared

    def _made(self, url: str) -> SharedLimiter:
        return SharedLimiter(url, self._rate, self._alone, name_at_broker(self._settings, TURNS))

    async def close(self) -> None:
        """Close the connection to the broker."""
        if self._shared is not None:
            await self._shared.close()


class ProcessorLimiters:
    """Each processor's own rate. A processor without a limit, or without an adapter, never waits."""

    def __init__(self, settings: Settings) -> None:
        rates = accounts_of(settings).rates
        self._by_name = {name: BrokerLimiter(settings, rate) for name, rate in rates.items() if rate > 0}

    async def acquire(self, slot: str) -> None:
        """Wait for one slot. `slot` is an account's name, perhaps with a purpose behind a blank (`NAME reads`).

        Slots of different names are independent, each at the account's whole rate. A connected account has the slots
        of its platform.
        """
        name, blank, purpose = slot.partition(" ")
        limiter = self._by_name.get(platform_of(name))
        if limiter is not None:
            await limiter.acquire(platform_of(name) + blank + purpose)

    async def close(self) -> None:
        """Close the connections to the broker."""
        for limiter in self._by_name.values():
            await limiter.close()


def make_limiter(settings: Settings) -> ProcessorLimiters:
    """Return the limiters of all processors: one for each event loop, to be closed on it."""
    return ProcessorLimiters(settings)
